"""ONNX Runtime in 8 and 4 bits: near float32, a position's bits free of its batch (I4), exactly what a file holds."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from greencode_lsp.engine import quantize
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.onnx.model import untouched
from greencode_lsp.engine.state import Vector
from greencode_lsp.models.weights import BLOCK_SIZE, QuantizedBlocks
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import reference
from tests.test_engine_segments import Coin

WIDE = {"max_position_embeddings": 512}
MODELS: dict[str, Any] = {
    "llama, one query head per key": lambda: reference.llama(num_key_value_heads=4, **WIDE),
    "llama, shared keys, biases": lambda: reference.llama(attention_bias=True, mlp_bias=True, **WIDE),
    "llama, three heads to a key": lambda: reference.llama(
        hidden_size=96, num_attention_heads=6, intermediate_size=88, **WIDE
    ),
    "llama, many channels": lambda: reference.llama(head_dim=80, **WIDE),
    "qwen2": lambda: reference.qwen2(**WIDE),
    "opt": lambda: reference.opt(**WIDE),
    "opt, norms after": lambda: reference.opt(do_layer_norm_before=False, **WIDE),
    "opt, projected embeddings": lambda: reference.opt(word_embed_proj_dim=32, **WIDE),
}
MEGABYTE, OPENED = 1 << 20, 64
IDS = [random.Random(0).randrange(reference.VOCAB) for _ in range(150)]
FULL_DEPTH = DecodeConfig(batch_invariant=True)


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: Any, tmp_path_factory: Any) -> Path:
    return reference.save(MODELS[request.param](), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    engine = load_engine(folder, "cpu", "int8")
    engine.policies["coin"] = Coin()
    return engine


def logits(engine: Engine, ids: list[int], at_once: int) -> Vector:
    """Return logits [T, V] of every position, fed and run in batches of `at_once`."""
    state, rows = engine.state, []
    state.crop(0)
    for start in range(0, len(ids), at_once):
        batch = ids[start : start + at_once]
        state.feed(batch)
        rows.append(state.full_depth_logits(len(batch), lambda: False, batch_invariant=True))
    return np.concatenate(rows)


@pytest.mark.parametrize("at_once", [2, 3, 8, 33, 65, 150])
def test_a_positions_bits_do_not_depend_on_the_batch_it_comes_in(engine: Engine, at_once: int) -> None:
    assert np.array_equal(logits(engine, IDS, at_once), logits(engine, IDS, 1))


def test_a_row_run_beside_a_lone_one_is_counted(engine: Engine) -> None:
    list(engine.generate(IDS, FixedControl(DecodeConfig(batch_invariant=True)), max_new_tokens=3))
    assert {positions for _, positions in engine.work.decode_runs} == {2}


def test_a_later_position_changes_no_earlier_bit(engine: Engine) -> None:
    assert np.array_equal(logits(engine, [*IDS[:5], 7], 6)[:5], logits(engine, [*IDS[:5], 190], 6)[:5])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", ["fixed", "coin", "never"])
def test_verified_equals_full_depth_token_for_token(engine: Engine, policy: str, seed: int) -> None:
    rng = random.Random(seed)
    prompt = [rng.randrange(reference.VOCAB) for _ in range(rng.randrange(2, 60))]

    def tokens(config: DecodeConfig) -> list[int]:
        return [step.token_id for step in engine.generate(prompt, FixedControl(config), max_new_tokens=40)]

    assert tokens(DecodeConfig(policy, 0.5, self_speculative=True)) == tokens(FULL_DEPTH)


@pytest.mark.parametrize(("precision", "least"), [("int8", 0.97), ("mixed", 0.93), ("int4", 0.85)])
def test_rounded_weights_are_near_float32(folder: Path, precision: str, least: float) -> None:
    exact = logits(load_engine(folder, "cpu", "float32"), IDS, 150)
    found = logits(load_engine(folder, "cpu", precision), IDS, 150)
    cosine = (exact * found).sum(-1) / np.linalg.norm(exact, axis=-1) / np.linalg.norm(found, axis=-1)
    assert np.median(cosine) > least


def test_eight_bits_lose_at_most_half_a_step() -> None:
    matrix = np.random.default_rng(0).standard_normal((24, 96), np.float32)
    blocks = quantize.round_to_blocks(matrix, 8)
    assert (np.abs(blocks.float32() - matrix) <= np.repeat(blocks.scale, BLOCK_SIZE, axis=1) * 0.501).all()


def test_four_bits_hold_exactly_what_has_sixteen_steps() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 16, (8, 3, BLOCK_SIZE), np.uint8)
    values[..., 0], values[..., 1] = 0, 15
    steps = QuantizedBlocks(values, np.full((8, 3), 0.25, np.float32), np.full((8, 3), 5, np.uint8), bits=4)
    assert np.allclose(quantize.round_to_blocks(steps.float32(), 4).float32(), steps.float32(), atol=1e-6)


def test_two_values_of_four_bits_share_a_byte_the_first_in_its_low_half() -> None:
    values = np.arange(BLOCK_SIZE, dtype=np.uint8).reshape(1, 1, BLOCK_SIZE) % 16
    packed, zero = quantize.packed(
        QuantizedBlocks(values, np.ones((1, 1), np.float32), np.full((1, 1), 3, np.uint8), bits=4)
    )
    assert packed[0, 0, :3].tolist() == [0x10, 0x32, 0x54]
    assert zero is not None
    assert zero.tolist() == [[0x83]]


def test_zero_points_in_the_middle_are_left_out() -> None:
    assert quantize.packed(quantize.round_to_blocks(np.eye(4, 64, dtype=np.float32), 8))[1] is None


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from Linux")
def test_memory_that_is_opened_again_is_taken_only_where_it_is_written_to() -> None:
    process, kept = psutil.Process(), []
    for _ in range(3):  # then the C library has freed memory to hand out
        opened = [untouched(MEGABYTE // 4) for _ in range(OPENED)]
        kept.append(np.ones(MEGABYTE))
        for array in opened:
            array[:] = 1.0
        del array, opened
    before = process.memory_info().rss
    opened = [untouched(MEGABYTE // 4) for _ in range(OPENED)]
    assert process.memory_info().rss - before < OPENED * MEGABYTE / 8
    assert not any(array.any() for array in opened)


def test_positions_that_ran_alone_are_run_again_before_a_lossless_completion(engine: Engine) -> None:
    """They round otherwise (I4): what was cached at another preference shows in no bit."""
    lossless = FixedControl(DecodeConfig("fixed", 0.5, self_speculative=True))

    def emitted(prompts: range) -> tuple[list[int], Vector]:
        engine.sequences.forget()
        for end in prompts:
            list(engine.generate(IDS[:end], FixedControl(), max_new_tokens=1))
        tokens = [step.token_id for step in engine.generate(IDS[:30], lossless, max_new_tokens=8)]
        return tokens, engine.state.last_logits(20, engine.state.filled[-1])

    (tokens, alone), (expected, together) = emitted(range(2, 30)), emitted(range(0))
    assert tokens == expected
    assert np.array_equal(alone, together)


def test_lossless_equals_full_depth_with_drafts_from_the_text_too(engine: Engine) -> None:
    """Several at once cost as much as one here, so that they are drafted."""
    kept = engine.manifest
    engine.use_costs(dict.fromkeys(range(1, 9), 1.0), 1.0)
    prompt, widest = IDS[:6] * 5, 0
    for policy in ("fixed", "coin", "never"):
        config = DecodeConfig(policy, 0.5, self_speculative=True)
        found = [step.token_id for step in engine.generate(prompt, FixedControl(config), max_new_tokens=40)]
        widest = max(widest, *(positions for _, positions in engine.work.decode_runs))
        full = [step.token_id for step in engine.generate(prompt, FixedControl(FULL_DEPTH), max_new_tokens=40)]
        assert found == full, policy
    assert widest > 2
    engine.use_costs(kept.cost_curve, kept.head_layers)

"""I4: verified mode emits the engine's own full-depth greedy tokens, whatever the exit policy drafts."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from greencode_lsp.engine.decode import DRAFT_TOKENS
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.models.manifest import Manifest, write_manifest
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import reference
from tests.test_engine_segments import Coin


@pytest.fixture(scope="module", params=["llama", "opt"])
def engine(request: Any, tmp_path_factory: Any) -> Engine:
    folder = reference.save(getattr(reference, request.param)(), tmp_path_factory.mktemp("model"))
    engine = load_engine(folder, "cpu", "float32")
    engine.policies["coin"] = Coin()
    return engine


def tokens(engine: Engine, prompt: list[int], count: int, config: DecodeConfig) -> list[int]:
    return [s.token_id for s in engine.generate(prompt, FixedControl(config), max_new_tokens=count)]


POLICIES = {
    "first exit": DecodeConfig("fixed", 0.5, self_speculative=True),
    "second exit": DecodeConfig("fixed", 1.5, self_speculative=True),
    "full depth": DecodeConfig("never", 0.0, self_speculative=True),
    "confidence": DecodeConfig("confidence", 0.0, self_speculative=True),
    "random exits": DecodeConfig("coin", 0.0, self_speculative=True),
}


@pytest.mark.parametrize("config", POLICIES.values(), ids=list(POLICIES))
@pytest.mark.parametrize("seed", range(3))
def test_verified_equals_full_depth(engine: Engine, config: DecodeConfig, seed: int) -> None:
    rng = random.Random(seed)
    prompt = [rng.randrange(reference.VOCAB) for _ in range(rng.randrange(1, 40))]
    assert tokens(engine, prompt, 40, config) == tokens(engine, prompt, 40, DecodeConfig())


def test_verified_mode_really_corrects_drafts(engine: Engine) -> None:
    early = tokens(engine, [3, 1, 4], 40, DecodeConfig("fixed", 0.5))
    assert early != tokens(engine, [3, 1, 4], 40, DecodeConfig("fixed", 0.5, self_speculative=True))


@pytest.mark.parametrize("room", [0, 1, 2, 5])
def test_drafts_that_agree_are_kept_up_to_the_last_position(tmp_path: Any, room: int) -> None:
    """With late layers that add nothing, every draft is right and a whole batch of them is accepted."""
    model = reference.llama()
    with torch.no_grad():
        for layer in model.model.layers[1:]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    engine = load_engine(reference.save(model, tmp_path), "cpu", "float32")
    prompt = [7] * (engine.max_positions - 1 - room)
    assert tokens(engine, prompt, 40, POLICIES["first exit"]) == tokens(engine, prompt, 40, DecodeConfig())
    list(engine.generate([3, 1, 4], FixedControl(POLICIES["first exit"]), max_new_tokens=2 * DRAFT_TOKENS))
    assert engine.work.head_positions == 4 * DRAFT_TOKENS  # each drafted once, each verified once


def test_a_stop_id_inside_a_verified_batch_ends_the_generation(engine: Engine) -> None:
    full = tokens(engine, [3, 1, 4], 12, DecodeConfig())
    stop = frozenset({full[5]})
    steps = engine.generate([3, 1, 4], FixedControl(POLICIES["second exit"]), max_new_tokens=12, stop_ids=stop)
    assert [s.token_id for s in steps] == full[: full.index(full[5])]


def test_verified_mode_obeys_a_constraint(engine: Engine) -> None:
    def constrained(config: DecodeConfig) -> list[int]:
        steps = engine.generate(
            [3, 1, 4], FixedControl(config), max_new_tokens=12, constraint=lambda e: [7, 8, 9] if len(e) % 3 else None
        )
        return [s.token_id for s in steps]

    assert constrained(POLICIES["first exit"]) == constrained(DecodeConfig())


def test_copies_are_the_full_models_tokens_among_early_ones(tmp_path: Any) -> None:
    """A model that repeats itself: copied tokens come from all layers, the others from the first exit."""
    folder = reference.save(reference.llama(), tmp_path)
    free = dict.fromkeys(range(1, 9), 1.0)
    write_manifest(folder, Manifest("random", "llama", reference.EXITS, cost_curve=free))
    engine = load_engine(folder, "cpu", "float32")
    config = DecodeConfig("fixed", 0.5, copies=True)
    steps = list(engine.generate([3, 1, 4], FixedControl(config), max_new_tokens=60))
    emitted = [step.token_id for step in steps]
    full = engine.full_depth_argmax([3, 1, 4], emitted, FixedControl())
    late = [index for index, step in enumerate(steps) if step.exit_layer == engine.layers]
    assert 0 < len(late) < 60
    assert [emitted[index] for index in late] == [full[index] for index in late]


def test_every_verified_token_was_run_through_all_layers(engine: Engine) -> None:
    steps = engine.generate([3, 1, 4], FixedControl(POLICIES["first exit"]), max_new_tokens=9)
    assert {s.exit_layer for s in steps} == {4}
    assert engine.work.pending_positions <= 1


def test_switching_to_verified_in_mid_generation_continues_at_full_depth(engine: Engine) -> None:
    class Switch:
        asked = 0

        def config(self) -> DecodeConfig:
            self.asked += 1
            return DecodeConfig("fixed", 0.5, self_speculative=self.asked > 3)

        def cancelled(self) -> bool:
            return False

    emitted = [s.token_id for s in engine.generate([3, 1, 4], Switch(), max_new_tokens=16)]
    assert emitted[3:] == tokens(engine, [3, 1, 4, *emitted[:3]], 13, DecodeConfig())

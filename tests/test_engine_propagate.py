"""kv="propagate", the paper's cache: what deeper layers are given for a token that left early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import reference

MODELS: dict[str, Any] = {
    "llama": reference.llama,
    "opt": reference.opt,
    "opt, norms after": lambda: reference.opt(do_layer_norm_before=False),
}
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
FIRST_EXIT = DecodeConfig("fixed", 0.5)


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: Any, tmp_path_factory: Any) -> Path:
    return reference.save(MODELS[request.param](), tmp_path_factory.mktemp("model"))


def run(engine: Engine, config: DecodeConfig) -> list[int]:
    return [s.token_id for s in engine.generate(PROMPT, FixedControl(config), max_new_tokens=12)]


def test_at_full_depth_nothing_differs_from_the_exact_cache(folder: Path) -> None:
    exact = run(load_engine(folder, "cpu", "float32"), DecodeConfig())
    assert run(load_engine(folder, "cpu", "float32", kv="propagate"), DecodeConfig()) == exact


def test_no_segment_is_ever_behind(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32", kv="propagate")
    for _ in engine.generate(PROMPT, FixedControl(FIRST_EXIT), max_new_tokens=6):
        segments = engine.segments
        assert {segments[s].filled for s in range(len(segments))} == {len(segments.ids)}


def test_the_skipped_layers_keys_and_values_are_made_of_the_exits_state(folder: Path) -> None:
    """By hand: run each skipped layer's block on the exit's state and look at what it appends."""
    engine = load_engine(folder, "cpu", "float32", kv="propagate")
    run(engine, FIRST_EXIT)
    segments, family = engine.segments, engine.family
    at = len(PROMPT) + 2
    state = segments.states[1][at : at + 1]
    for index in (1, 2):
        for row, layer in enumerate(segments[index].layers):
            alone = family.new_cache(1)
            with torch.inference_mode():
                family.run_layers(state, at, range(layer, layer + 1), alone, out=torch.empty_like(state))
            for made, kept in ((alone.keys, segments[index].cache.keys), (alone.values, segments[index].cache.values)):
                assert torch.allclose(made[0, :, at], kept[row, :, at], atol=1e-6)


def test_what_is_saved_in_catching_up_costs_the_exact_cache(tmp_path: Path) -> None:
    """A token at full depth after early ones: exact KV gives the full model's, the paper's another state."""
    folder = reference.save(reference.llama(), tmp_path)
    states = []
    for kv in ("exact", "propagate"):
        engine = load_engine(folder, "cpu", "float32", kv=kv)
        run(engine, FIRST_EXIT)
        with torch.inference_mode():
            engine.segments.feed([7])
            engine.segments.advance_until(lambda segments, index: False, lambda: False)
        states.append(engine.segments.outputs(len(engine.segments) - 1)[0].clone())
    assert not torch.allclose(states[0], states[1], atol=1e-3)

"""Static-shaped steps are the eager ones: the same functions that a CUDA graph captures, run on the CPU without one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from greencode_lsp.engine.checkpoint import Weights
from greencode_lsp.engine.families import describe
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.state import DecoderState
from greencode_lsp.engine.torch import graphs
from greencode_lsp.engine.torch.graphs import Capture, uncaptured
from greencode_lsp.engine.torch.model import TorchModel
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import reference

MODELS: dict[str, Any] = {
    "llama": reference.llama,
    "opt": reference.opt,
    "opt, norms after": lambda: reference.opt(do_layer_norm_before=False),
}
IDS = [random.Random(0).randrange(reference.VOCAB) for _ in range(60)]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: Any, tmp_path_factory: Any) -> Path:
    return reference.save(MODELS[request.param](), tmp_path_factory.mktemp("model"))


def opened(folder: Path, capture: Capture | None, exits: tuple[int, ...] = reference.EXITS) -> DecoderState:
    source = Weights(folder)
    model = TorchModel(describe(source.config), source, exits, "cpu", "float32", capture)
    return DecoderState(model.open(), len(exits))


@pytest.fixture
def pair(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DecoderState, DecoderState]:
    """The same model run eagerly and in static steps; buckets are small, so that steps cross their edges."""
    monkeypatch.setattr(graphs, "BUCKETS", (16, 32, 64))
    return opened(folder, None), opened(folder, uncaptured)


def feed_and_compare(pair: tuple[DecoderState, DecoderState], ids: list[int]) -> None:
    for state in pair:
        state.feed(ids)
    for index in range(len(reference.EXITS)):
        for state in pair:
            state.advance(index, lambda: False)
        start = len(pair[0]) - len(ids)
        eager, static = (state.runner.normalised(index, start, len(state)) for state in pair)
        np.testing.assert_allclose(eager, static, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("at_once", range(1, 9))
def test_a_static_step_computes_what_the_eager_one_does(pair: tuple[DecoderState, DecoderState], at_once: int) -> None:
    for start in range(0, 40, at_once):
        feed_and_compare(pair, IDS[start : start + at_once])


def test_prefill_and_steps_follow_one_another(pair: tuple[DecoderState, DecoderState]) -> None:
    feed_and_compare(pair, IDS[:20])
    feed_and_compare(pair, IDS[20:23])
    feed_and_compare(pair, IDS[23:40])


def test_a_crop_hides_what_is_beyond_it(pair: tuple[DecoderState, DecoderState]) -> None:
    feed_and_compare(pair, IDS[:30])
    for state in pair:
        state.crop(12)
    feed_and_compare(pair, IDS[40:43])


def test_what_a_step_returned_outlives_the_next_one(pair: tuple[DecoderState, DecoderState]) -> None:
    _, static = pair
    static.feed(IDS[:2])
    static.advance(0, lambda: False)
    before = static.runner.normalised(0, 0, 2).copy()
    static.feed(IDS[2:4])
    static.advance(0, lambda: False)
    assert np.array_equal(static.runner.normalised(0, 0, 2), before)


def test_work_is_captured_once_for_each_shape(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "BUCKETS", (32, 64))
    captured = []

    def counting(work: Any) -> Any:
        captured.append(work)
        return work

    state = opened(folder, counting, reference.EXITS[-1:])
    for token in IDS:
        state.feed([token])
        state.advance(0, lambda: False)
    assert len(captured) == 2


@needs_cuda
def test_a_captured_engine_decodes_what_the_cpu_does(folder: Path) -> None:
    on_cpu, on_gpu = (load_engine(folder, device, "float32") for device in ("cpu", "cuda"))
    for config in (DecodeConfig(), DecodeConfig("fixed", 1.5), DecodeConfig("fixed", 0.5, self_speculative=True)):
        cpu, gpu = (list(e.generate(IDS[:20], FixedControl(config), max_new_tokens=30)) for e in (on_cpu, on_gpu))
        assert cpu == gpu

"""Static-shaped steps are the eager ones: the same functions that a CUDA graph captures, run on the CPU without one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from greencode_lsp.engine import graphs
from greencode_lsp.engine.checkpoint import read_config
from greencode_lsp.engine.graphs import GraphedFamily, uncaptured
from greencode_lsp.engine.load import load_engine, load_family
from greencode_lsp.engine.segments import Segments
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


@pytest.fixture
def pair(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Segments, Segments]:
    """The same model run eagerly and in static steps; buckets are small, so that steps cross their edges."""
    monkeypatch.setattr(graphs, "BUCKETS", (16, 32, 64))
    family: Any = load_family(folder, read_config(folder), "cpu", "float32")
    with torch.inference_mode():
        return Segments(family, reference.EXITS), Segments(GraphedFamily(family, uncaptured), reference.EXITS)


@torch.inference_mode()
def feed_and_compare(pair: tuple[Segments, Segments], ids: list[int]) -> None:
    for segments in pair:
        segments.feed(ids)
    for index in range(len(reference.EXITS)):
        eager, static = (segments.advance(index, lambda: False) for segments in pair)
        assert torch.allclose(eager, static, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("at_once", range(1, 9))
def test_a_static_step_computes_what_the_eager_one_does(pair: tuple[Segments, Segments], at_once: int) -> None:
    for start in range(0, 40, at_once):
        feed_and_compare(pair, IDS[start : start + at_once])


def test_the_cache_is_the_same_after_prefill_and_steps(pair: tuple[Segments, Segments]) -> None:
    feed_and_compare(pair, IDS[:20])
    feed_and_compare(pair, IDS[20:23])
    for index in range(len(reference.EXITS)):
        eager, static = (segments[index].cache for segments in pair)
        assert torch.allclose(eager.keys, static.keys, atol=1e-4)
        assert torch.allclose(eager.values, static.values, atol=1e-4)


def test_a_crop_hides_what_is_beyond_it(pair: tuple[Segments, Segments]) -> None:
    feed_and_compare(pair, IDS[:30])
    for segments in pair:
        segments.crop(12)
    feed_and_compare(pair, IDS[40:43])


def test_what_a_step_returned_outlives_the_next_one(pair: tuple[Segments, Segments]) -> None:
    _, static = pair
    with torch.inference_mode():
        static.feed(IDS[:2])
        first = static.advance(0, lambda: False)
        before = first.clone()
        static.feed(IDS[2:4])
        static.advance(0, lambda: False)
    assert torch.equal(first, before)


def test_work_is_captured_once_for_each_shape(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "BUCKETS", (32, 64))
    captured = []

    def counting(work: Any) -> Any:
        captured.append(work)
        return work

    plain: Any = load_family(folder, read_config(folder), "cpu", "float32")
    family = GraphedFamily(plain, counting)
    with torch.inference_mode():
        segments = Segments(family, reference.EXITS[-1:])
        for token in IDS:
            segments.feed([token])
            segments.advance(0, lambda: False)
    assert len(captured) == 2


@needs_cuda
def test_a_captured_engine_decodes_what_the_cpu_does(folder: Path) -> None:
    on_cpu, on_gpu = (load_engine(folder, device, "float32") for device in ("cpu", "cuda"))
    for config in (DecodeConfig(), DecodeConfig("fixed", 1.5), DecodeConfig("fixed", 0.5, verified=True)):
        cpu, gpu = (list(e.generate(IDS[:20], FixedControl(config), max_new_tokens=30)) for e in (on_cpu, on_gpu))
        assert cpu == gpu

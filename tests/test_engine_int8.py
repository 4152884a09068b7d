"""Int8: what a position computes does not depend on what it comes with (I4), in C and without a compiler alike."""

from __future__ import annotations

import platform
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from greencode_lsp.engine import load
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.native import build
from greencode_lsp.engine.native.decoder import NativeDecoder
from greencode_lsp.engine.policy import AgentPolicy
from greencode_lsp.engine.quantize import Int8Matrix, linear, quantise_rows
from greencode_lsp.engine.rule import PolicyRule
from greencode_lsp.engine.segments import Segments
from greencode_lsp.engine.threads import set_threads
from greencode_lsp.errors import ModelDamagedError
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import reference
from tests.test_engine_segments import Coin

WHOLE_VECTORS = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 512}
MODELS: dict[str, Any] = {
    "llama, one query head per key": lambda: reference.llama(num_key_value_heads=4, **WHOLE_VECTORS),
    "llama, shared keys, biases": lambda: reference.llama(attention_bias=True, mlp_bias=True, **WHOLE_VECTORS),
    "llama, three heads to a key": lambda: reference.llama(
        **{**WHOLE_VECTORS, "hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 88}
    ),
    "llama, many channels": lambda: reference.llama(**{**WHOLE_VECTORS, "head_dim": 80}),
    "opt": lambda: reference.opt(**WHOLE_VECTORS | {"word_embed_proj_dim": 64}),
    "opt, norms after": lambda: reference.opt(
        **WHOLE_VECTORS | {"word_embed_proj_dim": 64, "do_layer_norm_before": False}
    ),
    "opt, projected embeddings": lambda: reference.opt(**WHOLE_VECTORS | {"word_embed_proj_dim": 32}),
}
IDS = [random.Random(0).randrange(reference.VOCAB) for _ in range(150)]
KERNELS = build.library() is not None
needs_kernels = pytest.mark.skipif(not KERNELS, reason="no C compiler here")


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: Any, tmp_path_factory: Any) -> Path:
    return reference.save(MODELS[request.param](), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=[pytest.param("native", marks=needs_kernels), "torch"])
def engine(request: Any, folder: Path) -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(load, "supports", lambda family: False)
        engine = load_engine(folder, "cpu", "int8")
    assert isinstance(engine.family, NativeDecoder) == (request.param == "native")
    engine.policies["coin"] = Coin()
    return engine


@torch.inference_mode()
def logits(engine: Engine, ids: list[int], at_once: int) -> Tensor:
    """Return logits [T, V] of every position, fed and run in batches of `at_once`."""
    segments, found = engine.segments, []
    segments.crop(0)
    for start in range(0, len(ids), at_once):
        batch = ids[start : start + at_once]
        segments.feed(batch)
        for index in range(len(segments)):
            segments.advance(index, lambda: False)
        found.append(engine.family.head(engine.family.normalise(segments.outputs(len(segments) - 1, len(batch)))))
    return torch.cat(found)


@pytest.mark.parametrize("at_once", [2, 3, 8, 150])
def test_a_positions_bits_do_not_depend_on_the_batch_it_comes_in(engine: Engine, at_once: int) -> None:
    assert torch.equal(logits(engine, IDS, at_once), logits(engine, IDS, 1))


def test_a_later_outlier_changes_no_earlier_bit(engine: Engine) -> None:
    calm = engine.family.embed(torch.tensor(IDS[:6]), 0)
    wild = calm.clone()
    wild[5] *= 1000
    layers, found = range(engine.layers), []
    for hidden in (calm, wild):
        out = torch.empty_like(hidden)
        with torch.inference_mode():
            engine.family.run_layers(hidden, 0, layers, engine.family.new_cache(len(layers)), out=out)
        found.append(out)
    assert torch.equal(found[0][:5], found[1][:5])
    assert not torch.equal(found[0][5], found[1][5])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", ["fixed", "coin", "never"])
def test_verified_equals_full_depth_token_for_token(engine: Engine, policy: str, seed: int) -> None:
    rng = random.Random(seed)
    prompt = [rng.randrange(reference.VOCAB) for _ in range(rng.randrange(2, 60))]

    def tokens(config: DecodeConfig) -> list[int]:
        return [step.token_id for step in engine.generate(prompt, FixedControl(config), max_new_tokens=40)]

    assert tokens(DecodeConfig(policy, 0.5, verified=True)) == tokens(DecodeConfig())


def test_int8_is_near_float32(folder: Path, engine: Engine) -> None:
    exact = logits(load_engine(folder, "cpu", "float32"), IDS, 150)
    found = logits(engine, IDS, 150)
    assert torch.nn.functional.cosine_similarity(exact, found, dim=-1).min() > 0.97


def test_with_more_threads_the_batch_still_changes_no_bit(engine: Engine) -> None:
    set_threads(2)
    try:
        assert torch.equal(logits(engine, IDS, 8), logits(engine, IDS, 1))
    finally:
        set_threads(1)


@needs_kernels
def test_the_kernels_threads_change_no_bit(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "int8")
    alone = logits(engine, IDS, 8)
    set_threads(2)
    try:
        assert torch.equal(logits(engine, IDS, 8), alone)
    finally:
        set_threads(1)


def agent(engine: Engine, hidden_size: int) -> AgentPolicy:
    rng = torch.Generator().manual_seed(0)
    inputs = hidden_size + len(engine.exits) - 1 + 2
    shapes = {"w1": (24, inputs), "b1": (24,), "w2": (7, 24), "b2": (7,), "w3": (7,), "b3": (1,)}
    return AgentPolicy({n: torch.randn(shape, generator=rng).numpy() for n, shape in shapes.items()}, engine.exits)


def test_the_loop_over_exits_is_the_same_in_c(engine: Engine) -> None:
    """Exit layers and tokens of the agent, by the kernels' own loop and by the segments' loop in Python."""
    policy = agent(engine, engine.segments.states[0].shape[1])
    engine.policies["agent"] = policy
    for threshold in (-2.0, -0.5, 0.0, 0.5, 2.0):
        config = DecodeConfig("agent", threshold)
        fast = list(engine.generate(IDS[:20], FixedControl(config), max_new_tokens=24))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(engine.segments), "advance_until", Segments.advance_until)
            slow = list(engine.generate(IDS[:20], FixedControl(config), max_new_tokens=24))
        assert fast == slow


@needs_kernels
@torch.inference_mode()
def test_the_agents_logit_in_c_is_numpys(tmp_path: Path) -> None:
    engine = load_engine(reference.save(MODELS["llama, shared keys, biases"](), tmp_path), "cpu", "int8")
    policy, seen = agent(engine, 64), []

    class Spy:
        def exit_logit(self, state: Any) -> float:
            seen.append(policy.exit_logit(state))
            return -1.0

    family, segments = engine.family, engine.segments

    def leaves_first(of: Any, threshold: float, position: int) -> bool:
        segments.crop(9)
        segments.feed(IDS[9:10])
        rule = PolicyRule(of, threshold, 3, position, family.normalise, family.head)
        advance = Segments.advance_until if of is not policy else type(segments).advance_until
        return advance(segments, rule, lambda: False) == 0

    segments.feed(IDS[:10])
    leaves_first(Spy(), 0.0, 0)  # nothing is pending from here on
    for position in range(5):
        leaves_first(Spy(), 0.0, position)
        assert leaves_first(policy, seen[-2] - 1e-3, position)
        leaves_first(Spy(), 0.0, position)
        assert not leaves_first(policy, seen[-2] + 1e-3, position)


def test_weights_of_another_shape_than_the_config_says_are_refused(tmp_path: Path) -> None:
    folder = reference.save(MODELS["llama, shared keys, biases"](), tmp_path)
    config = folder / "config.json"
    text = config.read_text().replace('"intermediate_size": 80', '"intermediate_size": 96')
    config.write_text(text.replace('"num_attention_heads": 4', '"num_attention_heads": 8'))
    with pytest.raises(ModelDamagedError, match="shape"):
        load_engine(folder, "cpu", "int8")


def test_without_a_compiler_the_engine_still_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build.library.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("GREENCODE_HOME", str(tmp_path / "empty"))
    try:
        engine = load_engine(reference.save(MODELS["opt"](), tmp_path / "model"), "cpu", "int8")
        assert not isinstance(engine.family, NativeDecoder)
        assert len(list(engine.generate(IDS[:5], FixedControl(), max_new_tokens=3))) == 3
    finally:
        build.library.cache_clear()


@needs_kernels
@pytest.mark.parametrize("target", ["-march=x86-64", "-march=haswell", "-march=alderlake"])
def test_every_instruction_sets_sums_are_the_same(target: str, monkeypatch: Any, tmp_path: Path) -> None:
    """Where this machine can run it: plain C, AVX2, AVX-VNNI against the machine's own best."""
    folder = reference.save(MODELS["llama, shared keys, biases"](), tmp_path / "model")
    best = logits(load_engine(folder, "cpu", "int8"), IDS, 8)
    if platform.machine() != "x86_64":
        pytest.skip("an x86 target")
    if target == "-march=alderlake" and "avx_vnni" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX-VNNI")
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, target))
    monkeypatch.setattr(build, "TARGETS", ([],))
    build.library.cache_clear()
    try:
        found = logits(load_engine(folder, "cpu", "int8"), IDS, 8)
    finally:
        build.library.cache_clear()
    assert torch.allclose(found, best, atol=0.05, rtol=0.05)


def test_a_product_in_int8_is_the_integers_product() -> None:
    weights, x = torch.randn(24, 40), torch.randn(5, 40)
    values, scale = quantise_rows(weights)
    largest = x.abs().amax(-1, keepdim=True)
    steps = (x * (127 / largest)).round()
    expected = (steps.double() @ values.double().T) * (largest / 127).double() * scale.double()
    assert torch.allclose(linear(x, Int8Matrix(values, scale)).double(), expected, rtol=1e-5, atol=1e-6)

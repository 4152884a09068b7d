"""Exit packs: heads between a frozen model's layers and its own LM head; the last layer is never touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from greencode_lsp.energy.device_profile import stored
from greencode_lsp.engine import timing
from greencode_lsp.engine.drafts import Drafter
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.records import Constraint, DecodeConfig, FixedControl
from tests import reference
from tests.exit_packs import mapped, pack_for, tensors_of
from tests.test_energy_device_profile import PROFILE

IDS = [5, 17, 101, 3, 42, 42, 7, 190, 11, 8, 9]
SHORTLIST = np.unique(np.random.default_rng(1).integers(0, reference.VOCAB, 60))
MODELS: dict[str, Any] = {
    "llama": reference.llama,
    "qwen2, tied": lambda: reference.qwen2(tie_word_embeddings=True),
    "opt, projected": lambda: reference.opt(word_embed_proj_dim=32),
}
KINDS = [("affine", "mlp"), ("low-rank", "none")]


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: Any) -> Any:
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def checkpoint(model: Any, tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("public")
    model.save_pretrained(folder)
    return folder


def load(checkpoint: Path, pack: Path | None, precision: str = "float32", backend: Any = "onnx") -> Engine:
    return load_engine(checkpoint, "cpu", precision, backend, pack=pack)


def full_depth(engine: Engine) -> Any:
    engine.state.crop(0)
    engine.state.feed(IDS)
    return engine.state.full_depth_logits(len(IDS), lambda: False, batch_invariant=True)


def tokens(engine: Engine, config: DecodeConfig, **limits: Any) -> list[int]:
    steps = engine.generate(IDS, FixedControl(config), max_new_tokens=12, **limits)
    return [step.token_id for step in steps]


@torch.no_grad()
def read_by_the_model(model: Any, states: Any) -> Any:
    """The model's own final norm and LM head over states [T, D]."""
    found = torch.from_numpy(states)
    if model.config.model_type == "opt":
        decoder = model.model.decoder
        found = decoder.final_layer_norm(found)
        found = found if decoder.project_out is None else decoder.project_out(found)
    else:
        found = model.model.norm(found)
    return model.lm_head(found).numpy()


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("kinds", KINDS)
def test_an_exits_logits_are_those_of_its_head_then_norm_and_lm_head(
    model: Any, checkpoint: Path, tmp_path: Path, backend: str, kinds: tuple[str, ...]
) -> None:
    """I3."""
    engine = load(checkpoint, pack_for(checkpoint, tmp_path / "pack", kinds=kinds), backend=backend)
    full_depth(engine)
    with torch.no_grad():
        states = model(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    for index, kind in enumerate(kinds):
        hidden = states[engine.exits[index]][0].numpy()
        tensors = tensors_of(kind, hidden.shape[1], index)
        expected = read_by_the_model(model, mapped(kind, tensors, hidden))
        found = engine.state.runner.logits(index, 0, len(IDS))
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_full_depth_with_a_pack_is_bit_for_bit_what_it_is_without(
    checkpoint: Path, tmp_path: Path, backend: str
) -> None:
    pack = pack_for(checkpoint, tmp_path / "pack", shortlist=SHORTLIST)
    with_pack, without = (full_depth(load(checkpoint, at, backend=backend)) for at in (pack, None))
    np.testing.assert_array_equal(with_pack, without)


def test_cutting_the_layers_at_a_packs_exits_changes_no_bit_in_8_bits(checkpoint: Path, tmp_path: Path) -> None:
    pack = pack_for(checkpoint, tmp_path / "pack")
    with_pack, without = (full_depth(load(checkpoint, at, "int8")) for at in (pack, None))
    np.testing.assert_array_equal(with_pack, without)


@pytest.mark.parametrize("precision", ["float32", "int8", "int4", "mixed"])
def test_the_shortlists_logits_are_the_full_heads_own(checkpoint: Path, tmp_path: Path, precision: str) -> None:
    engine = load(checkpoint, pack_for(checkpoint, tmp_path / "pack", shortlist=SHORTLIST), precision)
    full_depth(engine)
    for index in range(3):
        full = engine.state.exit_logits(index)[SHORTLIST]
        np.testing.assert_allclose(engine.state.shortlist_logits(index), full, atol=1e-5, rtol=1e-5)


def test_both_backends_read_the_same_shortlist(checkpoint: Path, tmp_path: Path) -> None:
    pack = pack_for(checkpoint, tmp_path / "pack", shortlist=SHORTLIST)
    config = DecodeConfig("shortlist", shortlist=-np.inf)
    ours, theirs = (tokens(load(checkpoint, pack, backend=backend), config) for backend in ("onnx", "torch"))
    assert ours == theirs
    assert set(ours) <= set(SHORTLIST.tolist())


def test_a_shortlist_that_holds_every_id_says_what_the_full_head_says(checkpoint: Path, tmp_path: Path) -> None:
    pack = pack_for(checkpoint, tmp_path / "pack", shortlist=np.arange(reference.VOCAB))
    engine = load(checkpoint, pack)
    assert tokens(engine, DecodeConfig("shortlist", shortlist=-np.inf)) == tokens(engine, DecodeConfig())


@pytest.fixture
def engine(checkpoint: Path, tmp_path: Path) -> Engine:
    return load(checkpoint, pack_for(checkpoint, tmp_path / "pack", shortlist=SHORTLIST), "int8")


def test_an_unsure_shortlist_leaves_the_token_to_the_full_head(engine: Engine) -> None:
    expected = tokens(engine, DecodeConfig())
    assert tokens(engine, DecodeConfig("shortlist", shortlist=1e9)) == expected
    assert engine.work.head_positions == engine.work.shortlist_positions == 12


def test_a_sure_shortlist_spares_the_full_head(engine: Engine) -> None:
    tokens(engine, DecodeConfig("shortlist", shortlist=-np.inf))
    assert (engine.work.head_positions, engine.work.shortlist_positions) == (0, 12)


def test_what_verifies_is_the_full_head(engine: Engine) -> None:
    """I4: drafts may come off the shortlist, nothing else may."""
    expected = tokens(engine, DecodeConfig(batch_invariant=True))
    for policy, threshold in (("fixed", 0.5), ("shortlist", 0.0), ("confidence", 0.0)):
        config = DecodeConfig(policy, threshold, self_speculative=True, shortlist=-np.inf)
        assert tokens(engine, config) == expected


REPEATED = [5, 17, 101, 3, 42] * 6
"""Text whose continuation is copied from itself."""


def copied(engine: Engine, shortlist: float, constraint: Constraint | None = None) -> list[int]:
    engine.drafter = Drafter.of(lambda positions: 1.0)
    return decoded(engine, DecodeConfig("shortlist", copies=True, shortlist=shortlist), constraint)


def decoded(engine: Engine, config: DecodeConfig, constraint: Constraint | None = None) -> list[int]:
    steps = engine.generate(REPEATED, FixedControl(config), max_new_tokens=12, constraint=constraint)
    return [step.token_id for step in steps]


def test_a_sure_shortlist_says_which_copies_stay(engine: Engine) -> None:
    found = copied(engine, -np.inf)
    assert max(engine.work.shortlist_runs) > 1
    assert (engine.work.head_positions, engine.work.shortlist_positions >= 12) == (0, True)
    assert found == decoded(engine, DecodeConfig("shortlist", shortlist=-np.inf))


def test_copies_that_the_shortlist_is_unsure_of_are_asked_of_the_full_head(engine: Engine) -> None:
    found = copied(engine, 1e9)
    assert max(engine.work.shortlist_runs) > 1
    assert engine.work.head_runs == (1,) * len(engine.work.head_runs)
    assert found == decoded(engine, DecodeConfig())


def test_a_constraint_among_copies_is_asked_of_the_full_head(engine: Engine) -> None:
    ruled = range(2, 5)  # within a batch of copies, too
    allowed = [i for i in range(reference.VOCAB) if i not in set(SHORTLIST.tolist())][:3]
    found = copied(engine, -np.inf, lambda emitted: allowed if len(emitted) in ruled else None)
    assert {found[i] in allowed for i in ruled} == {True}
    assert set(found[:2] + found[5:]) <= set(SHORTLIST.tolist())
    assert engine.work.head_positions >= len(ruled)


def test_a_constraint_is_asked_of_the_full_head(engine: Engine) -> None:
    """Healing allows few ids, and they need not be on the list."""
    allowed = [i for i in range(reference.VOCAB) if i not in set(SHORTLIST.tolist())][:3]
    found = tokens(
        engine,
        DecodeConfig("shortlist", shortlist=-np.inf),
        constraint=lambda emitted: allowed if not emitted else None,
    )
    assert found[0] in allowed
    assert set(found[1:]) <= set(SHORTLIST.tolist())


def test_early_exits_choose_from_the_shortlist_too(engine: Engine) -> None:
    tokens(engine, DecodeConfig("fixed", 0.5, shortlist=-np.inf))
    assert (engine.work.head_positions, engine.work.shortlist_positions) == (0, 12)
    assert engine.work.exit_head_positions == 12


def test_an_exit_that_is_asked_and_then_speaks_runs_its_head_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(checkpoint, pack_for(checkpoint, tmp_path / "pack", kinds=KINDS[0]))
    model: Any = engine.model
    run = model.at_exit
    segments: list[int] = []

    def noted(_: Any, segment: int, hidden: Any) -> Any:
        segments.append(segment)
        return run(segment, hidden)

    monkeypatch.setattr(type(model), "at_exit", noted)
    engine.state.feed(IDS)
    engine.state.advance(0, lambda: False)
    engine.state.normalised(0)
    engine.state.exit_logits(0)
    assert segments == [0]


def test_times_from_before_a_model_had_a_shortlist_are_taken_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would cost nothing by them."""
    before = replace(PROFILE, exits=engine.exits, segments=PROFILE.segments[:1] * len(engine.exits))
    now = replace(before, shortlist_s=0.001)
    monkeypatch.setattr(timing, "load", lambda *_: before)
    monkeypatch.setattr(timing, "time_checkpoint", lambda *_: now)
    timing.use_this_device(engine)
    assert stored("cpu", now.checkpoint) == now


def test_a_folder_with_a_dot_in_its_name_keeps_all_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "Llama-3.2-1B"
    reference.llama().save_pretrained(folder)
    assert load_engine(folder, "cpu").manifest.name == "Llama-3.2-1B"

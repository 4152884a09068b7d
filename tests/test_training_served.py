"""What is calibrated and scored is what the server generates, token for token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.request import Request
from greencode_lsp.records import DecodeConfig
from greencode_lsp.settings import Settings
from tests import training_toy as toy
from tests.fakes import meter
from training.checkpoint.export import export
from training.data.cursors import SourcePosition
from training.evaluation.calibrate import LoadedCheckpoint
from training.evaluation.sweep import load_checkpoint
from training.exits.replay import ReplayedCompletion
from training.exits.rollout import emit_served
from training.exits.served import Served
from training.lm.families import build_model

TEXT = toy.TEXT * 4
PLACES = ["return fi", "index in ra", "index", "    ", "for index in range(10):"]
"""The cursor stands behind each: inside words, on a blank, behind an opener."""
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    """An exported random model."""
    folder: Path = tmp_path_factory.mktemp("served")
    recipe = toy.preset()
    work = toy.work_folder(folder / "work", recipe)
    torch.manual_seed(5)
    build_model(recipe.model, toy.VOCAB).save_pretrained(work / "lite")
    return load_checkpoint(export(recipe, work, work / "lite", folder / "out"), work, NEW_TOKENS)


def at(loaded: LoadedCheckpoint, place: str) -> tuple[SourcePosition, Served, ReplayedCompletion]:
    cursor = SourcePosition(TEXT, TEXT.index(place, 60) + len(place))
    served, tree = loaded.tree(cursor)
    return cursor, served, tree.serve(served, DecodeConfig("never"))


@pytest.mark.parametrize("place", PLACES)
def test_the_tokens_are_those_of_the_completion_pipeline(loaded: LoadedCheckpoint, place: str) -> None:
    cursor, _, completion = at(loaded, place)
    settings = Settings(exit_policy="never", preference=1.0, max_new_tokens=NEW_TOKENS)
    engine = loaded.engine
    shown = complete(
        Backend(engine, loaded.tokenizer, engine.manifest),
        Request(cursor.document, cursor.offset, "python", invoked=True),
        LiveControl.of(settings, engine.manifest, "python"),
        meter(),
    )
    special = loaded.tokenizer.special_ids
    assert [t for t in completion.token_ids if t not in special] == [step.token_id for step in shown.steps]


@pytest.mark.parametrize("place", PLACES)
def test_the_engine_alone_generates_the_same(loaded: LoadedCheckpoint, place: str) -> None:
    _, served, completion = at(loaded, place)
    steps = emit_served(loaded.engine, served, DecodeConfig("never", batch_invariant=True))
    assert tuple(step.token_id for step in steps) == completion.token_ids


def test_a_constrained_token_agrees_with_what_the_full_model_would_have_had_to_say(loaded: LoadedCheckpoint) -> None:
    _, served, completion = at(loaded, "return fi")
    assert served.healed.dropped
    assert completion.agreement == 1.0


def test_what_is_spelt_again_is_not_part_of_the_text(loaded: LoadedCheckpoint) -> None:
    _, served, _ = at(loaded, "return fi")
    ids = loaded.tokenizer.encode(served.healed.dropped.decode() + "rst\nx")
    assert served.text(ids) == "rst\nx"
    assert served.first_line(ids) == "rst"


def test_lengths_are_the_servers(loaded: LoadedCheckpoint) -> None:
    _, served, _ = at(loaded, "return fi")
    assert served.new_tokens == NEW_TOKENS + 1


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("policy", ["fixed", "confidence"])
def test_what_exits_drafted_and_all_layers_verified_is_full_depth_behind_a_constraint_too(
    loaded: LoadedCheckpoint, place: str, policy: str
) -> None:
    """An early exit drafts the constrained token as well; the full model's unconstrained choice is beside the point."""
    _, served, completion = at(loaded, place)
    _, tree = loaded.tree(SourcePosition(TEXT, TEXT.index(place, 60) + len(place)))
    config = DecodeConfig(policy, loaded.engine.exits[0] - 0.5 if policy == "fixed" else -20.0, self_speculative=True)
    verified = tree.serve(served, config)
    assert verified.token_ids == completion.token_ids
    assert verified.agreement == 1.0

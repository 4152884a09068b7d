"""The paper's two recipes from end to end, shrunk in width and in how much they see; their shapes and settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from greencode_lsp.engine.policy import AGENT_FILE
from greencode_lsp.models.manifest import read_manifest
from training import steps
from training.preset import Preset, Stage, load_preset

RECIPES = {"paper-shrunk-opt": "opt-2.7b", "paper-shrunk-llama": "llama-3.2-3b"}


def smaller(name: str) -> Preset:
    """Return a recipe that ends in a minute."""
    preset = load_preset(name)
    groups = preset.model.num_attention_heads // preset.model.num_key_value_heads
    shape = dataclasses.replace(
        preset.model,
        hidden_size=16 * groups,
        intermediate_size=32,
        num_attention_heads=groups,
        num_key_value_heads=1,
        max_position_embeddings=256,
    )
    return dataclasses.replace(
        preset,
        model=shape,
        corpus=dataclasses.replace(
            preset.corpus, vocab_size=512, max_package_bytes=150_000, max_validation_bytes=400_000
        ),
        lite=dataclasses.replace(preset.lite, stages=[Stage(64, 2, 256)], accumulation=1, eval_every_steps=2),
        rollout=dataclasses.replace(preset.rollout, prompts=12, new_tokens=6),
        agent=dataclasses.replace(preset.agent, steps=4096),
        calibrate=dataclasses.replace(preset.calibrate, prompts={"python": 6}, new_tokens=6),
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_shrunk_recipe_ends_by_itself_with_every_artefact(name: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    job = steps.Job(smaller(name), work, work / "out", runs=tmp_path / "runs", heldout_sources=("stdlib",))
    steps.run_all(job)
    manifest = read_manifest(job.out)
    assert manifest is not None
    assert manifest.exits == tuple(load_preset(RECIPES[name]).model.exits)
    assert set(manifest.calibration["python"]) == {"agent", "confidence", "fixed", "never"}
    assert AGENT_FILE in manifest.files
    assert (job.runs / manifest.name / "losses-python.npz").exists()


@pytest.mark.parametrize(("name", "whole"), RECIPES.items())
def test_a_shrunk_recipe_is_the_papers_in_all_but_width_and_amount(name: str, whole: str) -> None:
    ours, theirs = load_preset(name), load_preset(whole)
    for field in ("family", "num_hidden_layers", "exits"):
        assert getattr(ours.model, field) == getattr(theirs.model, field)
    assert ours.lite.schedule == theirs.lite.schedule
    assert ours.lite.stages[0].context == theirs.lite.stages[0].context
    assert (ours.agent.ppo, ours.agent.reward) == (theirs.agent.ppo, theirs.agent.reward)
    assert ours.rollout.new_tokens == theirs.rollout.new_tokens == ours.calibrate.new_tokens

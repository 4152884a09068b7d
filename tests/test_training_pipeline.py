"""The whole training on `nano`, once: what it writes, and that what the agent was trained on is what is served."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import read_manifest
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig, FixedControl
from tests.training_fakes import Scripted
from training import steps
from training.__main__ import main
from training.data import cursors, heldout
from training.data.corpus import discover
from training.evaluation.evaluate import HeldOut, contract, evaluate
from training.exits.environment import ParallelEpisodes
from training.exits.rewards import COST_WEIGHT, Reward
from training.exits.rollout import Prompt, Rollouts, Setup, roll
from training.exits.served import prompt_ids
from training.exits.teacher_forcing import TeacherForcing
from training.preset import load_preset

NOT_INSTALLED = "--heldout-sources=stdlib"  # so that the evaluation is left out, installed packages or not


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished work folder."""
    folder = tmp_path_factory.mktemp("nano")
    runs = ["--runs", str(folder / "runs")]
    assert main(["all", "--preset", "nano", "--work", str(folder), NOT_INSTALLED, *runs]) == 0
    return folder


@pytest.fixture
def engine(work: Path) -> Engine:
    return load_engine(work / "out", "cpu")


@pytest.fixture
def setup(work: Path, engine: Engine) -> Setup:
    return Setup(engine, TeacherForcing(engine.model, engine.exits), new_tokens=8, stop_ids=frozenset())


@pytest.fixture
def prompts(work: Path, engine: Engine) -> list[list[int]]:
    tokenizer = CodeTokenizer.from_folder(work / "out")
    return [prompt_ids(engine, tokenizer, c, 8) for c in cursors.draw(work, "calibration", 4)]


def test_the_checkpoint_is_whole(work: Path) -> None:
    manifest = read_manifest(work / "out")
    assert manifest is not None
    assert set(manifest.calibration["python"]) == {"agent", "confidence", "fixed", "never"}
    assert manifest.exit_policy in manifest.calibration["python"]
    assert sorted(manifest.cost_curve)[:4] == [1, 2, 4, 8]
    assert manifest.head_layers > 0
    assert "agent.safetensors" in manifest.files


def test_every_calibrated_threshold_states_its_figures(work: Path) -> None:
    manifest = read_manifest(work / "out")
    assert manifest is not None
    for rows in manifest.calibration["python"].values():
        for row in rows:
            assert 0 <= row.agreement_lower_95 <= row.agreement <= 1
            assert 2 <= row.mean_exit_layer <= 6


def test_nothing_is_done_twice(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["all", "--preset", "nano", "--work", str(work), NOT_INSTALLED])
    assert "==" not in capsys.readouterr().out


def test_a_later_step_before_an_earlier_one_is_not_done(work: Path) -> None:
    job = steps.Job(load_preset("nano"), work, work / "out")
    stamp = work / "steps" / "rollout"
    before = stamp.stat().st_mtime_ns
    try:
        stamp.touch()
        assert [steps.is_done(job, name) for name in ("export", "rollout", "agent")] == [True, True, False]
    finally:
        os.utime(stamp, ns=(before, before))


def test_the_halves_of_the_validation_files_have_no_file_in_common(work: Path) -> None:
    texts = [{c.text for c in cursors.draw(work, half, 50)} for half in ("agent", "calibration")]
    assert texts[0] and texts[1] and not texts[0] & texts[1]


def test_rollouts_of_the_full_model_are_its_own_tokens(setup: Setup, prompts: list[list[int]]) -> None:
    (stored,) = roll(setup, [Prompt(prompts[0])])
    emitted = [step.token_id for step in setup.engine.generate(prompts[0], FixedControl(), max_new_tokens=8)]
    assert stored.labels.tolist() == emitted


def test_rollouts_along_early_choices_keep_the_full_models_token_as_label(
    setup: Setup, prompts: list[list[int]]
) -> None:
    config = DecodeConfig("fixed", setup.engine.exits[0] - 0.5)
    (stored,) = roll(setup, [Prompt(prompts[0])], config)
    emitted = [s.token_id for s in setup.engine.generate(prompts[0], FixedControl(config), max_new_tokens=8)]
    assert stored.choices[:, 0].tolist() == emitted
    assert stored.labels.tolist() == setup.engine.full_depth_argmax(prompts[0], emitted, FixedControl())


def test_the_authors_text_before_the_cursor_is_stored_in_completions_of_its_own(
    setup: Setup, prompts: list[list[int]]
) -> None:
    (stored,) = roll(setup, [Prompt([0, *range(2, 22)])], with_reference=True)
    emitted = len(stored) - 20
    assert stored.position.tolist() == [*range(8), *range(8), *range(4), *range(emitted)]
    assert stored.completion.tolist() == [0] * 8 + [1] * 8 + [2] * 4 + [3] * emitted


def test_the_environment_charges_and_shows_what_the_engine_runs(setup: Setup, prompts: list[list[int]]) -> None:
    exits_at = [0, 1, 0, 0, 2, 0, 1, 0]
    (stored,), scripted, engine = roll(setup, [Prompt(prompts[0])]), Scripted(exits_at), setup.engine
    labels = stored.labels.tolist()
    engine.policies["scripted"] = scripted
    control = FixedControl(DecodeConfig("scripted", 0.0))
    for _ in engine.generate(prompts[0], control, max_new_tokens=8, constraint=lambda so_far: [labels[len(so_far)]]):
        pass
    always_right = dataclasses.replace(stored, choices=np.repeat(stored.labels[:, None], 3, axis=1))
    episodes = ParallelEpisodes(always_right, engine.manifest, 1, prompt_tokens=1)  # the rest is cached
    reward, shown = 0.0, []
    for exit_at in exits_at:
        for action in [0] * exit_at + [1] * (exit_at < 2):
            shown.append(episodes.observe()[0])
            reward += float(episodes.step(np.array([action]), Reward(), COST_WEIGHT)[0][0])
    full = engine.layers + engine.manifest.head_layers
    assert np.allclose(shown, scripted.seen, atol=0.01)  # states are stored in half precision
    assert (len(exits_at) - reward) * full / COST_WEIGHT == pytest.approx(engine.work.layer_equivalents)


def test_the_rest_of_the_line_is_hidden_from_the_prompt(work: Path) -> None:
    text = "alpha = 1\nbeta = secret\ngamma = 3\n"
    assert cursors.SourcePosition(text, text.index("secret")).document == "alpha = 1\nbeta = \ngamma = 3\n"


def test_the_evaluation_writes_its_results_and_a_report(work: Path, tmp_path: Path) -> None:
    (package,) = discover(["stdlib"])
    package = dataclasses.replace(package, files=("textwrap.py",))
    pointers = heldout.draw([package], count=4)
    lines = list(heldout._resolve(pointers, {package.name: package.root}, "python"))
    evaluate(work / "out", {"python": HeldOut(lines, missing=0)}, tmp_path)
    results = json.loads((tmp_path / "nano" / "results.json").read_text(encoding="utf8"))
    python = results["languages"]["python"]
    assert python["preferences"]["accuracy"]["agreement"] == 1.0
    assert python["oracle_ratio"] <= python["best_fixed_ratio"] <= 1.0
    assert python["preferences"]["accuracy"]["exact_match"] == python["full_depth"]["exact_match"]
    assert set(results["speed"]["tokens_per_s"]) == {"hugging_face", "full_depth", "with_exits"}
    assert "rest of the line" in (tmp_path / "nano" / "results.md").read_text(encoding="utf8").lower()
    sizes = [path.stat().st_size for path in (tmp_path / "nano").glob("*.png")]
    assert len(sizes) == 3
    assert max(sizes) < 150_000
    printed = contract(json.loads(json.dumps(results)))
    assert set(printed["languages"]["python"]["preferences"]) == {"accuracy", "balanced", "energy"}


def test_a_step_without_what_it_needs_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--preset", "nano", "--work", str(tmp_path)]) == 1
    assert capsys.readouterr().err.strip().endswith("run `python -m training lite` first.")


def test_an_unknown_preset_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all", "--preset", "giant", "--work", str(tmp_path)]) == 1
    assert "mini" in capsys.readouterr().err


def test_rollouts_read_back_memory_mapped(work: Path) -> None:
    stored = Rollouts.load(work / "rollouts")
    assert isinstance(stored.hidden, np.memmap)
    assert stored.hidden.shape == (len(stored), 2, 64)


def test_the_newest_weights_are_exported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no trained model"):
        steps._trained(tmp_path)
    for age, folder in enumerate(["checkpoints/checkpoint-5", "lite", "checkpoints/checkpoint-9"]):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "complete.json").touch()
        (tmp_path / folder / "config.json").touch()
        os.utime(tmp_path / folder / "config.json", (age, age))
        assert steps._trained(tmp_path) == tmp_path / folder


def test_the_study_of_actions_reports_every_policy_at_three_preferences(work: Path, tmp_path: Path) -> None:
    command = ["actions", "--preset", "nano", "--work", str(work), "--languages", "python", "--runs", str(tmp_path)]
    assert main(command) == 0
    found = json.loads((tmp_path / "nano" / "actions.json").read_text())["languages"]["python"]
    assert set(found["preferences"]) == {"energy", "balanced", "accuracy"}
    for figures in found["preferences"].values():
        assert {"full depth, no stop", "probe", "agent", "the paper's", "oracle"} <= set(figures["rows"])
        assert figures["rows"]["oracle"]["reward"] >= figures["rows"]["agent"]["reward"]
        mean, low, high = figures["gain"]
        assert low <= mean <= high
    assert "| oracle |" in (tmp_path / "nano" / "actions.md").read_text()
    assert main(command) == 0  # all that was learnt is there

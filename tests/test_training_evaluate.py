"""The evaluation's sums by hand, its prompts on a toy, and what it prints."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from greencode_lsp.models.manifest import CalibrationRow, Manifest
from greencode_lsp.records import DecodeConfig
from tests import training_toy as toy
from training import steps
from training.__main__ import main
from training.checkpoint.export import export
from training.data import heldout
from training.data.cursors import SourcePosition
from training.data.heldout import HeldOutLine, Pointer
from training.evaluation.calibrate import LoadedCheckpoint
from training.evaluation.evaluate import HeldOut, beside_others, best_fixed_ratio, contract, of_language, summary
from training.evaluation.protocols import (
    CONTEXT_TOKENS,
    FRACTIONS,
    PREFERENCES,
    compared,
    context_tasks,
    preferences,
    score,
    score_share,
    tasks_of,
)
from training.evaluation.results_table import to_markdown
from training.evaluation.sweep import load_checkpoint
from training.lm.families import build_model

TEXT = toy.TEXT * 4
LINE = HeldOutLine(
    Pointer("toy", "1", "MIT", "toy.py", "0", 2, 12), SourcePosition(TEXT, TEXT.index("return") + len("return "))
)


def completion(agrees: list[int], exits: list[int], exact: float = 0.0) -> dict[str, Any]:
    scores = {"exact_match": exact, "edit_similarity": 0.5}
    costs = {"layer_equivalents": float(sum(exits)), "full_layer_equivalents": 4.0 * len(exits)}
    return {"agrees": agrees, "exit_layers": exits, "scores": scores, "text": "x", **costs}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    """An exported random model."""
    folder = tmp_path_factory.mktemp("evaluate")
    recipe = toy.preset()
    work = toy.work_folder(folder / "work", recipe)
    torch.manual_seed(3)
    build_model(recipe.model, toy.VOCAB).save_pretrained(work / "lite")
    return load_checkpoint(export(recipe, work, work / "lite", folder / "out"), work, 6)


def test_agreement_is_the_mean_over_completions_and_costs_are_over_tokens() -> None:
    found = summary([completion([1, 1, 1, 1], [4, 4, 4, 4], exact=1.0), completion([1, 0], [2, 2])], layers=4)
    assert (found["agreement"], found["agreement_by_token"]) == (0.75, 5 / 6)
    assert (found["mean_exit_layer"], found["early_share"]) == (20 / 6, 2 / 6)
    assert found["layer_equivalents_ratio"] == 20 / 24
    assert (found["exact_match"], found["edit_similarity"]) == (0.5, 0.5)
    assert 0 <= found["agreement_lower_95"] < 0.75


def rows(**agreement_and_ratio: tuple[float, float]) -> dict[str, dict[str, Any]]:
    return {
        name.replace("_", " "): {"agreement": agreement, "layer_equivalents_ratio": ratio}
        for name, (agreement, ratio) in agreement_and_ratio.items()
    }


def test_the_best_fixed_exit_is_the_cheapest_that_agrees_as_often_as_balanced() -> None:
    found = rows(balanced=(0.98, 0.7), fixed_2=(0.9, 0.5), fixed_3=(0.98, 0.8), oracle=(1.0, 0.3))
    assert best_fixed_ratio(found) == 0.8


def test_only_full_depth_agrees_where_no_fixed_exit_does() -> None:
    assert best_fixed_ratio(rows(balanced=(0.98, 0.7), fixed_3=(0.97, 0.8))) == 1.0


def test_the_rest_of_the_line_is_asked_without_what_follows_and_served_with_it(loaded: LoadedCheckpoint) -> None:
    rest, served = tasks_of(loaded, LINE, "python", is_compared=False)
    assert rest.reference == served.reference == "first + second"
    assert len(rest.prompt) < len(served.prompt)
    suffix = loaded.tokenizer.token_id("<|fim_suffix|>")
    assert suffix in served.prompt
    assert suffix not in rest.prompt


def test_the_papers_prompts_are_heads_of_the_file_and_the_reference_what_follows(loaded: LoadedCheckpoint) -> None:
    ids = loaded.tokenizer.encode(TEXT)
    tasks = list(context_tasks(loaded, [LINE], "python"))
    assert len(tasks) == len(FRACTIONS)
    for task, fraction in zip(tasks, FRACTIONS, strict=True):
        start = int(len(ids) * fraction)
        assert task.prompt[-5:] == ids[start - 5 : start]
        assert task.reference == loaded.tokenizer.decode(ids[start : start + CONTEXT_TOKENS])


def test_a_line_is_scored_under_every_preference_and_where_it_is_due_under_every_exit(loaded: LoadedCheckpoint) -> None:
    (few, _), (all_, _) = (tuple(tasks_of(loaded, LINE, "python", due)) for due in (False, True))
    assert set(score(loaded, few)) == {"full_depth", "oracle", *PREFERENCES}
    assert set(score(loaded, all_)) - set(score(loaded, few)) == {"fixed 1", "fixed 2"}


def test_points_of_a_policys_table_are_compared() -> None:
    row = CalibrationRow(1.5, 0.99, 0.985, 3.0, 0.8, 0.5)
    manifest = Manifest("toy", "llama", (2, 4), exit_policy="agent", calibration={"python": {"agent": (row,)}})
    assert compared(manifest, "python")["agent 1.500"] == DecodeConfig("agent", 1.5)
    assert preferences(manifest, "python")["balanced"] == DecodeConfig("agent", 1.5)


def test_the_printed_object_has_the_keys_that_others_read(loaded: LoadedCheckpoint) -> None:
    tasks = [*tasks_of(loaded, LINE, "python", is_compared=True), *context_tasks(loaded, [LINE], "python")]
    scored = [(task, score(loaded, task)) for task in tasks]
    python = of_language(loaded.engine, scored, HeldOut([LINE], missing=2))
    printed = json.loads(json.dumps(contract({"model": "toy", "languages": {"python": python}})))
    found = printed["languages"]["python"]
    assert printed["model"] == "toy"
    assert set(found["preferences"]) == {"accuracy", "balanced", "energy"}
    wanted = {"exact_match", "edit_similarity", "agreement", "agreement_lower_95", "mean_exit_layer"}
    assert all(wanted | {"layer_equivalents_ratio"} <= set(row) for row in found["preferences"].values())
    assert {"exact_match", "edit_similarity"} <= set(found["full_depth"])
    assert 0 < found["oracle_ratio"] <= found["best_fixed_ratio"] <= 1.0


def test_without_the_held_out_packages_the_way_to_get_them_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heldout, "read_lines", lambda sources, language: ([], 1000))
    steps._heldout_lines.cache_clear()
    assert main(["evaluate", "--model", "bundled", "--runs", str(tmp_path), "--heldout-sources", "nowhere"]) == 1
    steps._heldout_lines.cache_clear()
    assert "pip install '.[eval]'" in capsys.readouterr().err


def test_the_report_says_how_much_of_the_gap_is_closed() -> None:
    line = summary([completion([1], [2], exact=1.0)], layers=4)
    balanced = line | {"layer_equivalents_ratio": 0.8}
    by_name = {"full_depth": line, "accuracy": line, "balanced": balanced, "energy": line}
    language = {
        "lines": 1,
        "lines_missing": 0,
        "protocols": {"rest_of_line": by_name, "fill_in_the_middle": by_name},
        "preferences": {name: by_name[name] for name in PREFERENCES},
        "best_fixed_ratio": 1.0,
        "oracle_ratio": 0.5,
        "balanced_ratio": 0.8,
    }
    speed = {"tokens_per_s": {"full_depth": 10.0}, "new_tokens": 4, "prompt_tokens": 8.0, "rounds": 2}
    text = to_markdown(
        {
            "model": "toy",
            "layers": 4,
            "exit_policy": "agent",
            "languages": {"python": language},
            "loss_per_exit": {},
            "speed": speed,
            "threads": 1,
            "samples": {"python": [{"before": "a|b", "reference": "", "model": "`x`", "exit_layers": [2]}]},
        }
    )
    assert "closes 40% of the gap" in text
    assert "| `a\\|b` | (nothing) | `` `x` `` | 2 |" in text


def results_in(language: str, weights: str, manifest: str = "m") -> dict[str, Any]:
    by_language = {key: {language: 1} for key in ("languages", "configs", "samples")}
    return {"weights": weights, "manifest": manifest, "precision": "int8", **by_language}


def test_a_language_scored_by_itself_stands_beside_those_of_the_same_weights(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results_in("python", "same")))
    assert beside_others(results_in("java", "same"), path)["languages"] == {"python": 1, "java": 1}
    assert beside_others(results_in("java", "other"), path)["languages"] == {"java": 1}
    assert beside_others(results_in("java", "same", "with another agent"), path)["languages"] == {"java": 1}


def test_what_a_process_has_scored_can_go_to_another(tmp_path: Path) -> None:
    folder = tmp_path / "scored"
    recipe = toy.preset()
    work = toy.work_folder(tmp_path / "work", recipe)
    torch.manual_seed(3)
    build_model(recipe.model, toy.VOCAB).save_pretrained(work / "lite")
    scored = score_share(export(recipe, work, work / "lite", folder), [LINE], [], "python")
    assert len(pickle.loads(pickle.dumps(scored))) == 2

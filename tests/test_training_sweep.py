"""The calibration's long loop on a toy: interrupted, resumed, told apart from another, and true to the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from greencode_lsp.errors import CorpusError
from tests import training_toy as toy
from training.checkpoint.export import export
from training.data.cursors import SourcePosition
from training.evaluation import calibrate, sweep
from training.evaluation.calibrate import ThresholdCandidate
from training.evaluation.sweep import Sweep
from training.lm.families import build_model

CANDIDATES = [
    ThresholdCandidate("confidence", 2.0),
    ThresholdCandidate("confidence", -3.0),
    ThresholdCandidate("fixed", 1.5, every=2),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported random model."""
    folder = tmp_path_factory.mktemp("sweep")
    recipe = toy.preset()
    work = toy.work_folder(folder / "work", recipe)
    torch.manual_seed(3)
    build_model(recipe.model, toy.VOCAB).save_pretrained(work / "lite")
    return export(recipe, work, work / "lite", folder / "out")


@pytest.fixture
def six(checkpoint: Path, tmp_path: Path) -> Sweep:
    """A sweep over six cursors."""
    places = [SourcePosition(toy.TEXT * 2, offset, "toy", "python") for offset in range(20, 80, 10)]
    return Sweep(checkpoint, tmp_path, "python", 6, CANDIDATES, places)


def test_every_cursor_has_a_record_with_a_row_per_setting(six: Sweep) -> None:
    records = sweep.run(six, 1)
    assert [record["cursor"] for record in records] == list(range(6))
    assert [[row is None for row in record["figures"]] for record in records[:2]] == [[False] * 3, [False, False, True]]


def test_an_interrupted_sweep_goes_on_where_it_stopped(six: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sweep.run(six, 1)
    path = six.folder / "python-0.jsonl"
    lines = path.read_text(encoding="utf8").splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + lines[4][:30], encoding="utf8")  # three records and a torn one
    measured: list[int] = []

    def counted(*arguments: Any) -> dict[str, Any]:
        measured.append(arguments[2])
        return calibrate.measure(*arguments)

    monkeypatch.setattr(sweep, "measure", counted)
    assert sweep.run(six, 1) == whole
    assert measured == [3, 4, 5]


def test_records_of_other_thresholds_do_not_count(six: Sweep) -> None:
    sweep.run(six, 1)
    other = replace(six, candidates=[ThresholdCandidate("confidence", -9.0)])
    assert [len(record["figures"]) for record in sweep.run(other, 1)] == [1] * 6


def test_the_engine_itself_says_the_same_as_the_replay(six: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "CHECKED_PROMPTS", 1.0)
    monkeypatch.setattr(calibrate, "CHECKED_ROWS", 1.0)
    records = sweep.run(six, 1)
    assert sum(record["checks"]["pairs"] for record in records) == 6 * 2 + 3
    assert [record["checks"]["mismatches"] for record in records] == [[]] * 6


def test_a_replay_that_differs_from_the_engine_is_found_and_says_how_near_it_was(
    six: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "CHECKED_PROMPTS", 1.0)
    monkeypatch.setattr(calibrate, "CHECKED_ROWS", 1.0)
    monkeypatch.setattr(calibrate, "emit_served", lambda *_: [])
    record = sweep.run(six, 1)[0]
    assert len(record["checks"]["mismatches"]) == 3
    assert all(found["gap"] >= 0 for found in record["checks"]["mismatches"])


def test_a_full_disk_is_one_sentence(six: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweep, "_begin", full)
    with pytest.raises(CorpusError, match="No space left on device"):
        sweep.run(six, 1)


def test_a_process_whose_parent_is_gone_stops(six: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def is_alive(self) -> bool:
            return False

    monkeypatch.setattr(sweep, "parent_process", Gone)
    assert sweep.run(six, 1) == []

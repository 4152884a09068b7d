"""A calibration's promise, judged on packages that its table has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from greencode_lsp.errors import CorpusError
from training.data.cursors import SourcePosition
from training.evaluation.calibrate import ThresholdCandidate
from training.evaluation.resplits import Losses, losses_of, resplit
from training.steps import RUNS

SHIPPED = sorted(RUNS.glob("*/losses-*.npz"))


def losses(rates: list[float], spread: float = 0.0, completions: int = 1600, packages: int = 20) -> Losses:
    """Return losses of 0 or 1 at a rate per row, which differs by package by the spread."""
    rng = np.random.default_rng(1)
    package = rng.integers(packages, size=completions)
    shift = np.where(np.arange(packages) % 2, spread, -spread)[package][:, None]
    found = rng.random((completions, len(rates))) < np.asarray(rates) + shift
    names = np.array([f"p{i}" for i in package])
    return Losses(
        np.array(["agent"] * len(rates)), -np.arange(len(rates), dtype=np.float64), found.astype(np.uint8) * 250, names
    )


def test_a_promise_made_of_completions_that_are_alike_everywhere_is_kept() -> None:
    rows = [row for row in resplit(losses([0.0, 0.01, 0.02, 0.05, 0.1])) if row.asked == 0.93]
    assert rows[0].served == 200
    assert rows[0].broken <= 10


def test_a_promise_made_of_a_few_unlike_packages_is_seen_to_break() -> None:
    rows = [row for row in resplit(losses([0.04], spread=0.04, packages=4, completions=4000)) if row.asked == 0.95]
    assert rows[0].broken > 20


def test_what_is_kept_of_the_records_is_each_loss_and_its_package(tmp_path: Path) -> None:
    settings = [
        ThresholdCandidate("agent", 1.0),
        ThresholdCandidate("probe", 0.5),
        ThresholdCandidate("agent", 0.0, every=5),
    ]
    records = [{"cursor": 1, "figures": [[0.9], [1.0], None]}, {"cursor": 0, "figures": [[1.0], [1.0], [0.5]]}]
    places = [SourcePosition("x", 0, "first"), SourcePosition("y", 0, "second")]
    kept = Losses.load(losses_of(records, settings, places).save(tmp_path / "new" / "losses.npz"))
    assert kept.losses.tolist() == [[25, 255], [0, 125]]
    assert kept.packages.tolist() == ["second", "first"]
    assert (kept.policies.tolist(), kept.thresholds.tolist()) == (["agent", "agent"], [1.0, 0.0])


def test_missing_losses_are_told_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="training calibrate"):
        Losses.load(tmp_path / "none.npz")


@pytest.mark.parametrize("path", SHIPPED, ids=[f"{path.parent.name}-{path.stem}" for path in SHIPPED])
def test_the_promise_of_what_is_shipped_breaks_in_at_most_a_twentieth_of_the_resplits(path: Path) -> None:
    for row in resplit(Losses.load(path)):
        assert row.broken <= 0.05 * 200, row

"""Thresholds, bounds and the choice of a policy, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from greencode_lsp.models.manifest import CalibrationRow
from tests.training_fakes import rollouts
from training.calibrate import lower_bound_95, thresholds, winner


def row(agreement: float, ratio: float) -> CalibrationRow:
    return CalibrationRow(0.0, agreement, agreement, 3.0, ratio, 0.5)


def test_the_bound_of_perfect_agreement_is_the_exact_one_for_the_completions() -> None:
    tokens = np.full(59, 16)
    assert lower_bound_95(tokens, tokens) == pytest.approx(0.95, abs=0.001)


def test_the_bound_lies_below_the_share_and_tightens_with_more_completions() -> None:
    agreeing, tokens = np.array([10, 8] * 10), np.full(20, 10)
    few, many = lower_bound_95(agreeing, tokens), lower_bound_95(np.tile(agreeing, 20), np.full(400, 10))
    assert few < many < 0.9


def test_thresholds_run_from_careful_to_bold() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 1)).astype(np.float32)
    right = rng.random((400, 1)) < 1 / (1 + np.exp(-3 * logits))
    found = thresholds(logits, rollouts([[tuple(map(bool, r))] for r in right]))
    assert len(found) > 3
    assert found == sorted(found, reverse=True)


def test_the_cheapest_policy_at_the_wanted_agreement_wins() -> None:
    tables = {"agent": (row(0.99, 0.8), row(0.9, 0.4)), "confidence": (row(0.98, 0.7),)}
    name, figures = winner(tables)
    assert (name, figures["layer_equivalents_ratio"]) == ("confidence", {"agent": 0.8, "confidence": 0.7})


def test_a_tie_goes_to_the_agent() -> None:
    assert winner({"confidence": (row(0.99, 0.7),), "agent": (row(0.99, 0.7),)})[0] == "agent"


def test_without_enough_agreement_the_most_careful_policy_wins() -> None:
    assert winner({"agent": (row(0.9, 0.2),), "fixed": (row(0.95, 0.9),)})[0] == "fixed"

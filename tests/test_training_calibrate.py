"""Thresholds, rows and the choice of a policy, by hand; the long loop on a random model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import CalibrationRow, Manifest
from greencode_lsp.records import DecodeConfig
from tests.training_fakes import rollouts
from training.evaluation.calibrate import (
    FIGURES,
    SPARSE_EVERY,
    ThresholdCandidate,
    best_rows,
    grid_again,
    served,
    tables_of,
    thresholds,
    winner,
)

CANDIDATES = [ThresholdCandidate("agent", 2.0), ThresholdCandidate("agent", 1.0), ThresholdCandidate("agent", 0.0)]


def row(bound: float, ratio: float) -> CalibrationRow:
    return CalibrationRow(0.0, 1.0, bound, 3.0, ratio, 0.5)


def figures(agreement: float, ratio: float) -> list[float]:
    """A completion of 10 tokens that left after 2 layers each."""
    known = {"agreement": agreement, "tokens": 10, "exit_layers": 20, "early": 5}
    known |= {"layer_equivalents": 40 * ratio, "full_layer_equivalents": 40, "shown_agreement": agreement}
    return [known.get(name, 0.25) for name in FIGURES]


def records(*rows: tuple[float, float], completions: int = 400) -> list[dict[str, object]]:
    return [{"cursor": i, "figures": [figures(*row) for row in rows], "checks": {}} for i in range(completions)]


def test_thresholds_run_from_careful_to_bold() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 1)).astype(np.float32)
    right = rng.random((400, 1)) < 1 / (1 + np.exp(-3 * logits))
    found = thresholds(logits, rollouts([[tuple(map(bool, r))] for r in right]))
    assert len(found) > 3
    assert found == sorted(found, reverse=True)


def test_without_rollouts_the_thresholds_of_the_table_are_measured_again() -> None:
    agent = (replace(row(0.99, 0.8), threshold=2.0), replace(row(0.9, 0.4), threshold=1.0, agreement=0.9))
    manifest = Manifest("fake", "llama", (2, 4), calibration={"python": {"agent": agent}})
    engine: Any = SimpleNamespace(manifest=manifest, exits=(2, 4))
    found = grid_again(engine, "python")
    assert found[:2] == [ThresholdCandidate("agent", 2.0), ThresholdCandidate("agent", 1.0, SPARSE_EVERY)]
    assert [candidate.policy for candidate in found[2:]] == ["fixed", "never", "oracle"]


def test_neither_rollouts_nor_a_table_is_an_error_that_says_what_to_run() -> None:
    engine: Any = SimpleNamespace(manifest=Manifest("fake", "llama", (2, 4)), exits=(2, 4))
    with pytest.raises(CorpusError, match="training rollout"):
        grid_again(engine, "python")


def test_a_row_states_means_over_completions_and_costs_over_tokens() -> None:
    (found,) = tables_of(records((0.95, 0.8)), CANDIDATES[:1])["agent"]
    assert (found.agreement, found.mean_exit_layer, found.layer_equivalents_ratio) == (0.95, 2.0, 0.8)
    assert (found.early_share, found.codebleu, found.completions) == (0.5, 0.25, 400)
    assert 0.9 < found.agreement_lower_95 < 0.95
    assert found.verified_ratio is None


def test_a_bound_is_the_lesser_of_whole_completions_and_of_what_is_shown_of_them() -> None:
    shown = records((0.95, 0.8))
    for record in shown:
        record["figures"][0][FIGURES.index("shown_agreement")] = 0.8  # type: ignore[index]  # a list here
    (found,) = tables_of(shown, CANDIDATES[:1])["agent"]
    assert found.agreement == 0.95
    assert 0.7 < found.agreement_lower_95 < 0.8


def test_a_completion_of_which_nothing_is_shown_proves_nothing_of_what_is_shown() -> None:
    shown = records((1.0, 0.8))
    for record in shown[:300]:
        record["figures"][0][FIGURES.index("shown_agreement")] = float("nan")  # type: ignore[index]  # a list here
    (found,) = tables_of(shown, CANDIDATES[:1])["agent"]
    assert found.agreement_lower_95 == pytest.approx((0.05 / 3) ** (1 / 100), abs=1e-3)


def test_full_depth_asks_no_exit_as_it_does_not_where_it_is_served() -> None:
    assert ThresholdCandidate("never", 0.0).config() == DecodeConfig()
    assert ThresholdCandidate("agent", 0.5).config(copies=True) == DecodeConfig("agent", 0.5, copies=True)


def test_rows_are_monotone_and_a_bolder_one_that_is_no_cheaper_is_left_out() -> None:
    found = tables_of(records((0.97, 0.9), (0.99, 0.8), (0.9, 0.85)), CANDIDATES)["agent"]
    assert [found_row.threshold for found_row in found] == [2.0, 1.0]
    assert [found_row.agreement for found_row in found] == [0.97, 0.97]  # what the second had more was luck
    assert found[0].agreement_lower_95 == found[1].agreement_lower_95


def test_a_row_that_was_measured_on_some_completions_is_bounded_by_those() -> None:
    sparse = records((1.0, 0.9), (1.0, 0.5))
    for i, record in enumerate(sparse):
        if i % 5:
            record["figures"] = [*record["figures"][:1], None]  # type: ignore[index]  # a list here
    conservative, aggressive = tables_of(sparse, CANDIDATES[:2])["agent"]
    assert (conservative.completions, aggressive.completions) == (400, 80)
    # three policies share the 5 %: the one that `auto` means is picked on these completions
    assert aggressive.agreement_lower_95 == pytest.approx((0.05 / 3) ** (1 / 80), abs=1e-3)


def test_the_cost_of_verified_drafts_is_that_of_the_completions_it_was_measured_on() -> None:
    some = records((0.95, 0.8))
    some[0]["verified"], some[5]["verified"] = [(30.0, 40.0)], [(50.0, 60.0)]
    (found,) = tables_of(some, CANDIDATES[:1])["agent"]
    assert found.verified_ratio == 0.8


def test_the_cheapest_policy_that_is_proven_at_the_default_preference_wins() -> None:
    tables = {"agent": (row(0.99, 0.8), row(0.9, 0.4)), "confidence": (row(0.98, 0.7),)}
    assert winner(tables) == "confidence"
    assert best_rows(tables)["agent"].layer_equivalents_ratio == 0.8


def test_a_tie_goes_to_the_agent() -> None:
    assert winner({"confidence": (row(0.99, 0.7),), "agent": (row(0.99, 0.7),)}) == "agent"


def test_without_a_proven_row_the_policy_with_the_best_bound_wins() -> None:
    assert winner({"agent": (row(0.9, 0.2),), "fixed": (row(0.95, 0.9),)}) == "fixed"


def test_what_is_reported_only_is_neither_served_nor_wins() -> None:
    tables = {"oracle": (row(1.0, 0.4),), "probe": (row(0.99, 0.5),), "agent": (row(0.99, 0.9),)}
    assert winner(tables) == "agent"
    assert set(served(tables)) == {"agent"}

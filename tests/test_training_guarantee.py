"""The promise: what the bound says of losses whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.evaluation.risk_control import fixed_sequence, lower_bound, p_value

TRUE_RISKS = np.linspace(0.0, 0.15, 16)
"""From the most conservative row to the most aggressive."""


def selected(bounds: list[float], share: float) -> int | None:
    """The boldest row that keeps the share by the fixed sequence."""
    return max((i for i, bound in enumerate(bounds) if bound >= share), default=None)


def drawn(rng: np.random.Generator, completions: int) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Losses of completions of 16 tokens that agree or not together, rows in step: as dependent as can be."""
    luck = rng.random(completions)
    severity = rng.integers(8, 17, completions) / 16  # the mean of 8..16 of 16 is 0.75
    return [np.where(luck < risk / 0.75, severity, 0.0) for risk in TRUE_RISKS]


def test_the_p_value_without_a_loss_is_hoeffdings() -> None:
    # h1(0, a) = -log(1 - a), so exp(-n h1) = (1 - a)^n, below e times the binomial's (1 - a)^n
    assert p_value(0.0, 100, 0.03) == pytest.approx(0.97**100)


def test_the_p_value_is_bentkus_where_that_is_less() -> None:
    # n = 2, mean 1/2, a = 0.9: e P(Bin(2, 0.9) <= 1) = e (0.01 + 0.18); Hoeffding exp(-2 h1(1/2, 0.9)) = 0.36
    hoeffding = math.exp(-2 * (0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)))
    assert hoeffding == pytest.approx(0.36)
    assert p_value(0.5, 2, 0.9) == pytest.approx(min(hoeffding, math.e * 0.19))


def test_a_mean_loss_at_the_risk_proves_nothing() -> None:
    assert p_value(0.1, 1000, 0.1) == 1.0


def test_the_bound_of_perfect_agreement_is_the_exact_one() -> None:
    assert lower_bound(np.zeros(59)) == pytest.approx(0.05 ** (1 / 59), abs=1e-6)


def test_the_bound_lies_below_the_mean_and_tightens_with_more_completions() -> None:
    few, many = lower_bound(np.tile([0.0, 0.1], 50)), lower_bound(np.tile([0.0, 0.1], 2500))
    assert few < many < 0.95


def test_a_row_after_one_that_failed_cannot_be_better() -> None:
    bounds = fixed_sequence([np.zeros(500), np.full(500, 0.1), np.zeros(500)])
    assert bounds[2] == bounds[1] < bounds[0]


def test_nothing_is_selected_where_no_row_keeps_the_share() -> None:
    assert selected([0.97, 0.9], 0.98) is None
    assert selected([0.99, 0.985, 0.97], 0.98) == 1


def test_twenty_splits_break_the_promise_at_most_once() -> None:
    broken = useful = 0
    for split in range(20):
        chosen = selected(fixed_sequence(drawn(np.random.default_rng(split), 3000)), 0.95)
        broken += chosen is not None and TRUE_RISKS[chosen] > 0.05 + 1e-9
        useful += chosen is not None and TRUE_RISKS[chosen] >= 0.03
    assert broken <= 1
    assert useful >= 18  # a bound that selects nothing would break nothing


def test_an_overconfident_bound_would_be_found_out() -> None:
    broken = 0
    for split in range(20):
        bounds = [1 - float(losses.mean()) for losses in drawn(np.random.default_rng(split), 3000)]
        chosen = selected(bounds, 0.95)
        broken += chosen is not None and TRUE_RISKS[chosen] > 0.0499
    assert broken > 1

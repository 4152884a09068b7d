"""How sure a sum of savings is: a bootstrap over its rows, widened by the error of the model behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
BLOCKS = 400
"""Rows are resampled in at most so many stretches of time: neighbours are alike."""
FEWEST_ROWS = 10
"""With fewer no interval is given."""


@dataclass(frozen=True, slots=True)
class Interval:
    """95 % bounds."""

    low: float
    high: float


def saved_bounds(pairs: Sequence[tuple[float, float]], share_error: float) -> tuple[Interval | None, Interval | None]:
    """Return 95 % intervals of the joules and of the share saved; None where there are too few rows.

    `pairs` are (full depth, spent) joules by row, in order of time; `share_error` is how far the model of full depth
    may be off, as a share of it, the same in every row.
    """
    if len(pairs) < FEWEST_ROWS:
        return None, None
    sums = np.array(pairs, np.float64)
    blocks = np.array([part.sum(axis=0) for part in np.array_split(sums, min(BLOCKS, len(pairs)))])  # [B, 2]
    drawn = np.random.default_rng(0).multinomial(len(blocks), [1 / len(blocks)] * len(blocks), RESAMPLES)
    full_j, spent_j = (drawn @ blocks).T
    if not (full_j > 0).all():
        return None, None
    total_full_j, total_spent_j = (float(total) for total in sums.sum(axis=0))
    saved = _widened(full_j - spent_j, total_full_j - total_spent_j, share_error * total_full_j)
    return saved, _widened(1 - spent_j / full_j, 1 - total_spent_j / total_full_j, share_error)


def _widened(resampled: NDArray[np.float64], value: float, error: float) -> Interval:
    low, high = (float(bound) for bound in np.percentile(resampled, [2.5, 97.5]))
    return Interval(value - float(np.hypot(value - low, error)), value + float(np.hypot(high - value, error)))

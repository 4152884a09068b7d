"""What may be promised of a threshold: Learn then Test with Hoeffding-Bentkus p-values.

Sources: Angelopoulos, Bates, Candes, Jordan, Lei, "Learn then Test" (arXiv 2110.01052), fixed-sequence testing;
Bates et al., "Distribution-free, risk-controlling prediction sets" (arXiv 2101.02703), the p-value. The unit is a
completion, whose loss in [0, 1] is the share of its tokens that disagree with full depth.

The rows of a policy are tested from the most conservative to the most aggressive, and a row counts only while every row
before it held. So the bound of a row is the least bound so far, and whatever share is asked for, "the row's bound is at
least the share" selects a row that breaks the promise with a probability of at most DELTA.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

Floats = NDArray[np.float64]

DELTA = 0.05
"""One less the confidence."""
PROMISE = (
    "On code of the calibration packages: with 95 % confidence over the draw of the cursors, the mean share of a "
    "completion's tokens that equal the full model's is at least `agreement_lower_95`, for greedy completions of at "
    "most `new_tokens` after prompts of at most `prompt_tokens`, whole or ended by the stop rule of the default "
    "preference. It says nothing about one file, such as yours, nor about another precision or language."
)


def p_value(mean_loss: float, completions: int, risk: float) -> float:
    """Return the Hoeffding-Bentkus p-value of "the expected loss is above `risk`", from the mean of n losses."""
    if mean_loss >= risk:
        return 1.0
    # h1 is the Kullback-Leibler divergence of two coins, in nats
    miss = (1 - mean_loss) * math.log((1 - mean_loss) / (1 - risk)) if risk < 1 else math.inf
    hit = mean_loss * math.log(mean_loss / risk) if mean_loss else 0.0
    hoeffding = math.exp(-completions * (hit + miss))
    bentkus = math.e * float(binom.cdf(math.ceil(completions * mean_loss - 1e-9), completions, risk))
    return min(1.0, hoeffding, bentkus)


def lower_bound(losses: Floats, delta: float = DELTA) -> float:
    """Return the largest share of agreement that the losses [n] prove at level `delta`."""
    mean, low, high = float(losses.mean()), float(losses.mean()), 1.0
    for _ in range(40):  # the p-value falls as the risk grows
        middle = (low + high) / 2
        low, high = (low, middle) if p_value(mean, len(losses), middle) <= delta else (middle, high)
    return 1 - high


def fixed_sequence(losses: Sequence[Floats], delta: float = DELTA) -> list[float]:
    """Return each row's bound, rows from conservative to aggressive: the least bound of the rows so far."""
    return [float(bound) for bound in np.minimum.accumulate([lower_bound(row, delta) for row in losses])]

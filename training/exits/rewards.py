"""Rewards of the exit agent. Pure functions over arrays [n], one entry per parallel episode.

Letters: e the layer of the exit the agent stands at, e* the first exit whose token is the full model's, L the depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

RewardName = Literal["energy", "paper"]
COST_WEIGHT = 0.1
"""lambda: what a token at full depth costs, in units of one right token."""
ALPHA, BETA, GAMMA, EPSILON = 1.0, 1.0, 1.0, 0.1


@dataclass(frozen=True, slots=True)
class Reward:
    """What the agent is paid. Raises ValueError where there is no reward of that name, or energy is free."""

    name: RewardName = "energy"
    cost_weight: float = COST_WEIGHT
    """lambda of the `energy` reward: what a token at full depth costs, in units of one right token."""

    def __post_init__(self) -> None:
        if self.name not in get_args(RewardName):
            raise ValueError(f"the reward is one of {', '.join(get_args(RewardName))}, not {self.name!r}")
        if not self.cost_weight > 0:
            raise ValueError(f"the cost weight is above 0, not {self.cost_weight}")


def energy_reward(correct: Floats, layer_equivalents: Floats, full: float, weight: float | Floats) -> Floats:
    """Return quality - lambda x cost: what the paper says it balances, and its reward lacks.

    Cost is in layer-equivalents, the unit of every reported ratio: c_s(m) as measured on the device, so that joules are
    layer-equivalents times one factor, the joules of a layer, which lambda absorbs.
    `correct` is 1 where this action emitted the full-depth token and 0 elsewhere; `layer_equivalents` is what the
    action ran, catch-up of skipped positions included, and `full` a whole token's at full depth. Summed over an
    episode: right tokens, less lambda times its cost in tokens at full depth.
    """
    return correct - weight * layer_equivalents / full


def paper_reward(
    exits: tuple[int, ...], index: Integers, best: Integers, right: Booleans, exit_here: Booleans
) -> Floats:
    """Return GREEN-CODE's reward (arXiv 2501.11006, alignment variant), fixed: every branch over L.

        exit at e = e*               +1 / L        go on at e <  e*     +1 / L
        exit late, right             -alpha (e - e*) / L    go on at e >= e*     -gamma (next(e) - e*) / L
        exit early (e < e*), wrong   -beta (e* - e) / L
        exit late, wrong             -epsilon / L

    In the authors' code one positive, going on past the last early exit to a token only the last layer knows, escapes
    the division and weighs L times the others. `index` and `best` count exits from 0; `right` says that the token at
    `index` is the full model's.
    """
    layers = np.asarray(exits, np.float64)
    here, ideal, following = layers[index], layers[best], layers[np.minimum(index + 1, len(exits) - 1)]
    early = here < ideal
    exiting = np.select(
        [index == best, early, right],
        [np.ones_like(here), -BETA * (ideal - here), -ALPHA * (here - ideal)],
        -EPSILON,
    )
    going_on = np.where(early, 1.0, -GAMMA * (following - ideal))
    return np.asarray(np.where(exit_here, exiting, going_on) / layers[-1])

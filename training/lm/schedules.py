"""Loss schedules: which exits one optimiser step trains, how strongly, and on what.

`paper` and `uniform` sum a cross-entropy over every exit, as GREEN-CODE does (section III-B, after LITE, arXiv
2310.18581): a head per exit, and weight taken from the last layer. `protect` leaves the last layer weight 1 and trains
one sampled exit per step, drawn with the paper's relative weights, at every n-th position, half on the labels and half
on the last layer's own distribution; `protect-all` trains all of them at each step, equally. `plain` trains the last
layer only: what the others are measured against.

A pretrained model's early states are far from what its LM head reads: losses of 15 to 22 where the last layer has 2.2,
whose gradients move the shared head and fill the clipped step. `protect-mapped` is `protect-all` through an affine map
of each exit's own, begun by least squares, to norm and LM head as they are: no early exit moves these (a tied head only
as the embedding, by what enters the layers). lm/exit_maps.py
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from greencode_lsp.errors import CorpusError

FIRST_HALF, SECOND_HALF, LAST, RATIO = 0.7, 0.2, 0.1, 0.9
"""The paper's budgets, and by how much each exit of a half weighs less than the one before it."""
NAMES = ("paper", "uniform", "protect", "protect-all", "protect-mapped", "plain")


@dataclass(frozen=True, slots=True)
class Term:
    """One exit's part of a step's loss: weight * ((1 - distilled) CE(label) + distilled CE(last layer's p))."""

    exit_layer: int
    weight: float
    distilled: float = 0.0
    stride: int = 1
    """Taken at every n-th position."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the optimiser steps of a run are made of."""

    exits: tuple[int, ...]
    weights: tuple[float, ...]
    """Of each exit, the last layer's at the end."""
    sampled: bool = False
    """One early exit per step, drawn by weight, stands for all of them and carries their whole weight."""
    distilled: float = 0.0
    """Share of an early exit's loss that comes from the last layer's distribution instead of the labels."""
    stride: int = 1
    """Early exits are trained at every n-th position only."""
    is_mapped: bool = False
    """Early exits speak through maps of their own to a norm and an LM head that they do not move."""

    def terms(self, step: int) -> tuple[Term, ...]:
        """Return the loss's terms at a step, by depth, the last layer's at the end: a function of the step alone."""
        early, weights = self.exits[:-1], self.weights[:-1]
        last = Term(self.exits[-1], self.weights[-1])
        if self.sampled and early:
            (drawn,) = random.Random(step).choices(early, weights)
            return (Term(drawn, sum(weights), self.distilled, self.stride), last)
        terms = [Term(e, w, self.distilled, self.stride) for e, w in zip(early, weights, strict=True) if w > 0]
        return (*terms, last)


def paper_weights(exits: Sequence[int]) -> tuple[float, ...]:
    """Return GREEN-CODE's weights by exit, the last layer's at the end; they sum to 1.

    An exit belongs to the first half where at most half of the layers have run. A half without exits leaves its budget
    to the others in proportion.
    """
    depth, early = exits[-1], exits[:-1]
    halves = [[e for e in early if 2 * e <= depth], [e for e in early if 2 * e > depth]]
    weights: list[float] = []
    for half, budget in zip(halves, (FIRST_HALF, SECOND_HALF), strict=True):
        raw = [RATIO**i for i in range(len(half))]
        weights += [budget * r / sum(raw) for r in raw]
    weights.append(LAST)
    return tuple(w / sum(weights) for w in weights)


def build(name: str, exits: Sequence[int], exit_weight: float, stride: int) -> Schedule:
    """Return a schedule by name; `exit_weight` and `stride` shape those that protect. Raises CorpusError for others."""
    layers = tuple(exits)
    if name == "paper":
        return Schedule(layers, paper_weights(exits))
    if name == "uniform":
        return Schedule(layers, (1 / len(layers),) * len(layers))
    if name == "plain":
        return Schedule(layers, (0.0,) * (len(layers) - 1) + (1.0,))
    if name == "protect":
        *early, _ = paper_weights(exits)
        weights = [exit_weight * w / sum(early) for w in early]
        return Schedule(layers, (*weights, 1.0), sampled=True, distilled=0.5, stride=stride)
    if name in ("protect-all", "protect-mapped"):
        weights = [*[exit_weight / max(1, len(layers) - 1)] * (len(layers) - 1), 1.0]
        return Schedule(layers, tuple(weights), distilled=0.5, stride=stride, is_mapped=name == "protect-mapped")
    raise CorpusError(f"There is no loss schedule {name!r}; [lite] schedule is one of {', '.join(NAMES)}.")

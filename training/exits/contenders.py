"""What the agent has to beat, on the simulator: hand-set combinations with their best constants, and an oracle.

A combination is one way to leave early (probe, confidence, a fixed exit, or none), a constant draft length after which
the tokens are verified, and a threshold on the line's probability below which the completion ends. Every constant is
chosen for each preference on packages kept back from fitting; figures come from others still.

Letters: n walks, C completions, N nodes, S exits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.policy import AgentPolicy, observation
from greencode_lsp.models.manifest import Manifest
from training.exits.rewards import Floats, Integers
from training.exits.simulator import EMIT, GO, STOP, VERIFY, Simulator, Worth
from training.exits.trees import Trees

PREFERENCES: Mapping[str, float] = {"energy": 0.0, "balanced": 0.5, "accuracy": 1.0}
Decide = Callable[[Simulator], Integers]
"""What each walk [n] does next."""
NO_DRAFTS = 99
DRAFT_LENGTHS = (1, 2, 3, 4, NO_DRAFTS)
"""Tokens shown before they are verified; NO_DRAFTS never verifies."""
LINE_PROBABILITIES = (0.0, 0.02, 0.05, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
QUANTILES = 16
SWEEPS = 3
"""Rounds in which each constant in turn takes its best value."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """Every completion under one policy at one preference; all arrays [C]."""

    reward: Floats
    right: Floats
    wrong: Floats
    cost: Floats
    """Layer-equivalents."""
    shown: Floats


@dataclass(frozen=True, slots=True)
class Case:
    """Recorded completions and what policies are shown of them."""

    trees: Trees
    manifest: Manifest
    worth: Worth
    signals: NDArray[np.floating[Any]]
    """[N, S, ..] in the place of the hidden states."""
    exit_logits: NDArray[np.floating[Any]]
    """[N, S - 1] the probe's."""

    def simulator(self, walks: int, seed: int = 0) -> Simulator:
        """Return walks over these completions."""
        return Simulator(self.trees, self.manifest, walks, self.worth, seed, self.signals)


def walk(case: Case, decide: Decide, preference: float) -> Outcome:
    """Walk every completion once, side by side."""
    count = len(case.trees.package)
    sim = case.simulator(count)
    every = np.arange(count)
    sim.begin(np.ones(count, bool), every, preference)
    alive = np.ones(count, bool)
    sums = np.zeros((5, count))
    sums[0] = -case.worth.price(preference) * sim.totals.cost / sim.full  # the first segment is run before any choice
    while alive.any():
        rewards, ended = sim.step(decide(sim))
        sums[0] += rewards * alive
        now = ended & alive
        totals = sim.totals
        sums[1:, now] = np.stack([totals.right, totals.wrong, totals.cost, totals.shown])[:, now]
        alive &= ~ended
        sim.begin(ended, every[ended], preference)
    return Outcome(*sums)


@dataclass(frozen=True, slots=True)
class Combination:
    """A hand-set policy's constants."""

    kind: str
    """`probe`, `confidence`, `fixed` or `full`."""
    threshold: float
    """Of the exit logit; of `fixed` the exit's index."""
    draft_length: int
    line_probability: float

    def decide(self, exit_logits: NDArray[np.floating[Any]]) -> Decide:
        """Return the policy; `exit_logits` [N, S - 1] are the probe's."""

        def decided(sim: Simulator) -> Integers:
            at = np.minimum(sim.exit, sim.exits - 2)
            is_last = sim.token_exit == sim.exits - 1
            if self.kind == "probe":
                leaves = exit_logits[sim.node, at] > self.threshold
            elif self.kind == "confidence":  # the head is what tells
                leaves = ~sim.picked | (sim.odds > self.threshold)
            elif self.kind == "fixed":
                leaves = sim.exit == self.threshold
            else:
                leaves = np.zeros(sim.walks, bool)
            actions = np.where(leaves | is_last, EMIT, GO)
            drafts = sim.drafts + ~is_last
            checks = sim.picked & (drafts >= self.draft_length) & (actions == EMIT) & (drafts > 0)
            actions = np.where(checks, VERIFY, actions)
            ends = sim.picked & (actions != GO) & (sim.line_log_confidence < np.log(max(self.line_probability, 1e-12)))
            return np.asarray(np.where(ends, STOP, actions))

        return decided


def exit_logits(agent: AgentPolicy, trees: Trees, exits: int) -> NDArray[np.float32]:
    """Return an exit policy's logits [N, S - 1], nothing skipped before."""
    logits = np.empty((len(trees), exits - 1), np.float32)
    for index in range(exits - 1):
        every = np.full(len(trees), index)
        hidden = trees.hidden[:, index].astype(np.float32)
        logits[:, index] = agent.exit_logits(
            observation(hidden, every, exits, np.ones_like(every), trees.position.astype(np.int64))
        )
    return logits


def _choices(kind: str, case: Case) -> Sequence[float]:
    if kind == "full":
        return (0.0,)
    if kind == "fixed":
        return tuple(range(len(case.manifest.exits) - 1))
    values = case.exit_logits if kind == "probe" else case.trees.log_odds[:, :-1]
    return tuple(float(v) for v in np.unique(np.quantile(values, np.linspace(0.02, 0.98, QUANTILES))))


def best_combination(kind: str, case: Case, preference: float) -> tuple[Combination, float]:
    """Return a kind's best constants on a case, by coordinate search from two starts, and its mean reward."""

    def score(one: Combination) -> float:
        if one not in known:
            known[one] = float(walk(case, one.decide(case.exit_logits), preference).reward.mean())
        return known[one]

    known: dict[Combination, float] = {}
    values = _choices(kind, case)
    lengths = DRAFT_LENGTHS if kind != "full" else (NO_DRAFTS,)
    for length in {lengths[0], NO_DRAFTS}:
        best = Combination(kind, values[len(values) // 2], length, LINE_PROBABILITIES[7])
        for _ in range(SWEEPS):
            before = best
            best = max((replace(best, threshold=v) for v in values), key=score)
            best = max((replace(best, line_probability=p) for p in LINE_PROBABILITIES), key=score)
            best = max((replace(best, draft_length=k) for k in lengths), key=score)
            if best == before:
                break
    top = max(known, key=lambda one: known[one])
    return top, known[top]


def oracle(sim: Simulator) -> Integers:
    """Know the author's text and what every exit says: show a right token from its first exit, else end at once."""
    trees, node = sim.trees, sim.node
    more = trees.shown[node] - trees.here[node][:, None]  # [n, S, 2]
    good = (more[..., 1] == 0) & (more[..., 0] > 0)
    any_ahead = good[np.arange(sim.walks)[:, None], np.arange(sim.exits)].any(axis=1)
    here = good[np.arange(sim.walks), sim.token_exit]
    later = np.where(np.arange(sim.exits) >= sim.token_exit[:, None], good, False).any(axis=1)
    return np.asarray(np.where(~any_ahead | ~later, STOP, np.where(here, EMIT, GO)))


def bootstrap(ours: Floats, theirs: Floats, package: Integers, seed: int = 0) -> tuple[float, float, float]:
    """Return mean(ours - theirs) and its 95 % interval, packages resampled with replacement, both on the same ones."""
    rng = np.random.default_rng(seed)
    names = np.unique(package)
    sums = np.array([[(ours - theirs)[package == name].sum(), (package == name).sum()] for name in names])
    drawn = sums[rng.integers(len(names), size=(RESAMPLES, len(names)))].sum(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return round(float((ours - theirs).mean()), 4), round(float(low), 4), round(float(high), 4)


def ratio_interval(
    ours: Outcome, theirs: Outcome, package: Integers, seed: int = 0
) -> tuple[float, float, float] | None:
    """Return ours / theirs of cost per right character shown, and its 95 % interval by package.

    None where either shows no right character, in a resample either.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(package)
    parts = (ours.cost, ours.right, theirs.cost, theirs.right)
    sums = np.array([[part[package == name].sum() for part in parts] for name in names])
    drawn = sums[rng.integers(len(names), size=(RESAMPLES, len(names)))].sum(axis=1)
    total = sums.sum(axis=0)
    if not (drawn[:, [1, 3]] > 0).all():
        return None
    ratios = drawn[:, 0] / drawn[:, 1] / (drawn[:, 2] / drawn[:, 3])
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(total[0] / total[1] / (total[2] / total[3])), float(low), float(high)

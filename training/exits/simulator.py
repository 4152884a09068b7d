"""A branching simulator over recorded trees: the agent spends and saves what the engine can, no model inside.

A walk stands at a node (ids emitted so far), behind an exit, and has picked that exit's token or not yet:

    GO      run the next segment over all it has not consumed; a token that was picked is given up
    EMIT    not picked yet: run the head and pick. Picked: show the token, run the first segment for the next one
    VERIFY  picked: run every segment to the end over the backlog, crop at the first token that is not the full model's
    STOP    end the completion here; a picked token is not shown

Past the last segment the token is picked without being asked. Rewards are characters of the author's text shown before
the first error, less `error_weight` times those shown after it, less price times cost. The cost is the engine's own:
c(m) over m pending positions, heads, and the prompt's uncached positions, which a deep segment has to run once used.

Where a token's continuation was not recorded the walk goes on as if the full model's had been shown, and all that it
shows counts as wrong.

Letters: n walks, S exits, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.cost import relative_cost
from greencode_lsp.engine.state import Vector
from greencode_lsp.models.manifest import Manifest
from training.exits.rewards import Booleans, Floats, Integers
from training.exits.trees import CUT, Trees

GO, EMIT, VERIFY, STOP = range(4)
ACTIONS = 4
MOST_POSITIONS = 256
UNCACHED = (1, 1, 2, 2, 3, 3, 4, 6, 8, 16)
"""Prompt positions not cached yet, drawn evenly: a keystroke or two mostly, now and then more."""
FEATURES = 8
"""Entries of an observation beside the hidden state, exit and backlogs."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What is paid. Prices are in characters for what one token costs at full depth, head included."""

    error_weight: float = 0.25
    """Of a character shown after the first error: to be read in vain costs a part of what a right one saves."""
    dear: float = 0.3
    """The price at preference 0."""
    cheap: float = 0.03
    """The price at preference 1; geometric in between."""

    def price(self, preference: NDArray[np.floating] | float) -> Floats:
        """Return characters per full-depth token."""
        share = np.asarray(preference, np.float64)
        return np.asarray(self.dear ** (1 - share) * self.cheap**share)


@dataclass(slots=True)
class EpisodeTotals:
    """Of each walk's completion so far; every array [n]."""

    right: Floats
    """Characters shown before the first error."""
    wrong: Floats
    """Characters shown after it."""
    cost: Floats
    """Layer-equivalents, heads and the prompt's uncached positions included."""
    shown: Integers
    """Tokens."""


def privileged_length(exits: int) -> int:
    """Return the length of what a critic may know besides."""
    return 5 + 3 * exits


def observation_length(signals: int, exits: int) -> int:
    """Return the length of an observation: so many signals, a model with that many exits, the last included."""
    return signals + 2 * exits + FEATURES


class Simulator:
    """n walks side by side."""

    def __init__(
        self,
        trees: Trees,
        manifest: Manifest,
        walks: int,
        worth: Worth,
        seed: int = 0,
        signals: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Take trees and, where a policy is shown less than the hidden states, what it is shown instead [N, S, ..]."""
        self.trees, self.worth, self.walks = trees, worth, walks
        self._signals = trees.hidden if signals is None else signals
        self.exits = len(manifest.exits)
        self.head, self.full = manifest.head_layers, manifest.exits[-1] + manifest.head_layers
        self._widths = np.diff((0, *manifest.exits)).astype(np.float64)
        self._curve = np.array([0.0, *(relative_cost(manifest.cost_curve, m) for m in range(1, MOST_POSITIONS))])
        self._roots = trees.roots
        self._ahead = ahead(trees)
        self._rows = np.arange(walks)
        self._rng = np.random.default_rng(seed)
        self.node, self.exit, self.position = (np.zeros(walks, np.int64) for _ in range(3))
        self.picked, self._is_off = np.zeros(walks, bool), np.zeros(walks, bool)
        self.token_exit = np.zeros(walks, np.int64)
        """The exit whose token is picked: that where the walk stands, the last after a correction."""
        self.filled = np.zeros((walks, self.exits), np.int64)
        self.uncached = np.ones(walks, np.int64)
        self.preference = np.full(walks, 0.5)
        self.log_confidence, self.last_odds = np.zeros(walks), np.zeros(walks)
        self.drafts = np.zeros(walks, np.int64)
        """Tokens shown, and not verified."""
        self._wrong_node = np.full(walks, -1)
        self._before_wrong = np.zeros((walks, 5))
        """position, right, wrong, log confidence, last log-odds at the first draft that is not the full model's."""
        self.totals = EpisodeTotals(np.zeros(walks), np.zeros(walks), np.zeros(walks), np.zeros(walks, np.int64))
        self.begin(np.ones(walks, bool))

    def begin(
        self, which: Booleans, completions: Integers | None = None, preference: Floats | float | None = None
    ) -> None:
        """Put the walks marked [n] behind the first exit of a completion, drawn or given; run the first segment."""
        count = int(which.sum())
        drawn = self._rng.integers(len(self._roots), size=count) if completions is None else completions
        self.node[which] = self._roots[drawn]
        # of a completion given, always the same
        place = self._rng.integers(len(UNCACHED), size=count) if completions is None else drawn % len(UNCACHED)
        self.uncached[which] = np.asarray(UNCACHED)[place]
        self.preference[which] = self._rng.random(count) if preference is None else preference
        for array in (self.exit, self.position, self.token_exit, self.filled, self.drafts):
            array[which] = 0
        for floats in (self.log_confidence, self.last_odds, self.totals.right, self.totals.wrong):
            floats[which] = 0.0
        self.picked[which] = self._is_off[which] = False
        self._wrong_node[which] = -1
        self.totals.shown[which] = 0
        self.filled[which, 0] = self.uncached[which]
        self.totals.cost[which] = self._widths[0] * self._curve[self.uncached[which]]

    @property
    def pending(self) -> Integers:
        """[n, S] positions that each segment has not run."""
        return np.asarray((self.uncached + self.position)[:, None] - self.filled)

    @property
    def odds(self) -> Floats:
        """[n] log-odds of the picked token; of the exit's own where none is picked, which costs a head to know."""
        return np.asarray(self.trees.log_odds[self.node, self.token_exit], np.float64)

    @property
    def line_log_confidence(self) -> Floats:
        """[n] of the tokens shown, and the picked one."""
        return np.asarray(self.log_confidence + np.where(self.picked, _log_share(self.odds), 0.0))

    def allowed(self) -> Booleans:
        """Return [n, 4]: which actions there are."""
        is_last = self.token_exit == self.exits - 1
        unverified = ~is_last | (self.drafts > 0)
        return np.stack(
            [~is_last, np.ones(self.walks, bool), self.picked & unverified, np.ones(self.walks, bool)], axis=1
        )

    def observe(self) -> Vector:
        """Return observations [n, signals + 2 S + FEATURES], the preference last."""
        signals = self._signals[self.node, self.token_exit].astype(np.float32)
        place = np.eye(self.exits, dtype=np.float32)[self.token_exit]
        backlog = np.log1p(self.pending).astype(np.float32)
        more = (
            self.picked,
            np.where(self.picked, self.odds, 0.0) / 4,
            self.line_log_confidence / 2,
            self.log_confidence / 2,
            self.last_odds / 4,
            self.position / 16,
            np.log1p(self.drafts),
            self.preference,
        )
        return np.concatenate([signals, place, backlog, np.stack(more, axis=1)], axis=1, dtype=np.float32)

    def privileged(self) -> Vector:
        """Return [n, 5 + 4 S] of what no policy can know: what the full model would show, which exits are right.

        For the critic alone (an asymmetric actor-critic, Pinto et al., arXiv 1710.06542): it makes no advantage biased.
        """
        trees, node = self.trees, self.node
        more = trees.shown[node].astype(np.float32) - trees.here[node][:, None]
        agrees = trees.choices[node] == trees.choices[node][:, -1:]
        state = np.stack([self._is_off, self._wrong_node >= 0], axis=1)
        parts = (np.log1p(self._ahead[node]), np.sign(more) * np.log1p(np.abs(more)).reshape(more.shape), agrees, state)
        return np.concatenate([np.asarray(p, np.float32).reshape(self.walks, -1) for p in parts], axis=1)

    def copy_of(self, other: Simulator, rows: Integers) -> None:
        """Stand where some walks [n] of another simulator stand."""
        for name in _STATE:
            getattr(self, name)[:] = getattr(other, name)[rows]
        for item in fields(EpisodeTotals):
            getattr(self.totals, item.name)[:] = getattr(other.totals, item.name)[rows]

    def step(self, actions: Integers) -> tuple[Floats, Booleans]:
        """Take one action per walk; return rewards [n] and which completions ended [n]. Those must `begin` anew."""
        before, spent = self._shown_worth(), self.totals.cost.copy()
        emits = actions == EMIT
        shows, picks = emits & self.picked, emits & ~self.picked
        self._go_on(actions == GO)
        self._pick(picks)
        self._verify(actions == VERIFY)
        ended = self._show(shows) | (actions == STOP)
        self._stop(actions == STOP)
        costs = (self.totals.cost - spent) / self.full
        return self._shown_worth() - before - self.worth.price(self.preference) * costs, ended

    def _shown_worth(self) -> Floats:
        return np.asarray(self.totals.right - self.worth.error_weight * self.totals.wrong)

    def _run(self, which: Booleans, segment: Integers) -> None:
        """Run a segment [n] over all its pending positions."""
        rows, of = self._rows[which], segment[which]
        positions = self.pending[rows, of]
        self.totals.cost[rows] += self._widths[of] * self._curve[np.minimum(positions, MOST_POSITIONS - 1)]
        self.filled[rows, of] += positions

    def _go_on(self, which: Booleans) -> None:
        following = np.minimum(self.exit + 1, self.exits - 1)
        self._run(which, following)
        self.exit = np.where(which, following, self.exit)
        self.token_exit = np.where(which, self.exit, self.token_exit)
        self.picked &= ~which
        self._pick(which & (self.exit == self.exits - 1))

    def _pick(self, which: Booleans) -> None:
        self.totals.cost[which] += self.head
        self.picked |= which

    def _verify(self, which: Booleans) -> None:
        if not which.any():
            return
        for segment in range(1, self.exits):
            self._run(which, np.full(self.walks, segment))
        self.totals.cost[which] += self.head * self._curve[self.drafts[which] + 1]
        back = which & (self._wrong_node >= 0)
        self.node[back] = self._wrong_node[back]
        position, right, wrong, confidence, odds = self._before_wrong[back].T
        self.totals.shown[back] -= self.position[back] - position.astype(np.int64)
        self.position[back] = position.astype(np.int64)
        self.totals.right[back], self.totals.wrong[back] = right, wrong
        self.log_confidence[back], self.last_odds[back] = confidence, odds
        self._is_off[back] = False
        self.filled[back] = np.minimum(self.filled[back], (self.uncached + self.position)[back, None])
        self.token_exit[which] = self.exit[which] = self.exits - 1
        self.drafts[which], self._wrong_node[which] = 0, -1

    def _show(self, which: Booleans) -> Booleans:
        """Show the picked token; return which completions end with it."""
        if not which.any():
            return which
        trees, node, at = self.trees, self.node, self.token_exit
        is_draft = which & (at != self.exits - 1)
        is_wrong = is_draft & (trees.choices[node, at] != trees.choices[node, -1])
        first = is_wrong & (self._wrong_node < 0)
        kept = (self.position, self.totals.right, self.totals.wrong, self.log_confidence, self.last_odds)
        self._before_wrong[first] = np.stack(kept, axis=1)[first]
        self._wrong_node[first] = node[first]
        # what was verified stays so only while nothing unverified stands before it
        self.drafts += which & (is_draft | (self.drafts > 0))
        counts = trees.shown[node, at].astype(np.float64)
        on, off = which & ~self._is_off, which & self._is_off
        self.totals.right[on], self.totals.wrong[on] = counts[on].T
        self.totals.wrong[off] += np.abs(counts - trees.here[node])[off].sum(axis=1)
        odds = self.odds
        self.log_confidence[which] += _log_share(odds[which])
        self.last_odds[which] = odds[which]
        child, full = trees.child[node, at], trees.child[node, -1]
        is_cut = which & (child == CUT)
        self._is_off |= is_cut
        following = np.where(is_cut, full, child)
        ended = which & (following < 0)
        goes_on = which & ~ended
        self.position += goes_on
        self.totals.shown += which
        self.node = np.where(goes_on, following, self.node)
        self.exit[goes_on] = self.token_exit[goes_on] = 0
        self.picked &= ~goes_on
        self._run(goes_on, np.zeros(self.walks, np.int64))
        return ended

    def _stop(self, which: Booleans) -> None:
        """Take the half of a word back that the picked token would have gone on with."""
        takes = which & self.picked & ~self._is_off
        counts = self.trees.stopped[self.node, self.token_exit].astype(np.float64)
        self.totals.right[takes], self.totals.wrong[takes] = counts[takes].T


_STATE = (
    *("node", "exit", "position", "picked", "token_exit", "filled", "uncached", "preference", "log_confidence"),
    *("last_odds", "drafts", "_is_off", "_wrong_node", "_before_wrong"),
)


def ahead(trees: Trees) -> Floats:
    """Return [N, 3]: right and wrong characters and tokens that the full model's path adds after each node."""
    sums = np.zeros((len(trees), 3))
    counts = trees.shown[:, -1].astype(np.float64) - trees.here
    for node in range(len(trees) - 1, -1, -1):  # a node comes before those after it
        child = trees.child[node, -1]
        sums[node] = (*np.maximum(counts[node], 0), 1)
        if child >= 0:
            sums[node] += sums[child]
    return sums


def _log_share(odds: Floats) -> Floats:
    """Return log p for the log-odds of p."""
    return np.asarray(-np.logaddexp(0.0, -odds))

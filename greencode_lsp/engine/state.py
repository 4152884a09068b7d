"""The decoder's state: segments that advance, the one step that prefill, decoding and verifying are made of.

Segment s is the run of layers between two exits. It has run the first `filled[s]` positions; what it has not consumed
of what the segment before has produced is its backlog,

    pending[s] = positions filled[s] .. filled[s - 1], with filled[-1] the number of ids fed.      (I2)

A skipped segment is run later over everything it missed, in one causal batch, so that its keys and values are what the
full model would have computed for the same ids (I1). What runs the layers is a `Runner`; three exist: ONNX Runtime,
torch, and recorded states (training).

Letters: S segments, D hidden size, V vocabulary, k positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.errors import CancelledError

Vector = NDArray[np.float32]
CHUNK_POSITIONS = 128
"""Positions per run in prefill, so that a cancel is heard in between; `load_engine` fits it to the machine."""


class Runner(Protocol):
    """The arithmetic of one token sequence: what enters and leaves its segments, their keys and values."""

    shortlist: NDArray[np.int64] | None
    """Ids [n] that a shortlist head reads, ascending; None for a model without one."""

    lone_rows: int
    """Rows that a lone one is run as where it must round as several do."""

    @property
    def max_positions(self) -> int:
        """Positions there is room for."""
        ...

    def bytes_at(self, positions: int) -> int:
        """Return what a sequence takes that was filled so far at most."""
        ...

    def embed(self, ids: Sequence[int], start: int) -> None:
        """Let ids enter the first segment at positions from `start`."""
        ...

    def run(self, segment: int, start: int, stop: int, *, batch_invariant: bool) -> None:
        """Run a segment over positions `start` .. `stop` - 1 and append their keys and values.

        With `batch_invariant` a position rounds alike alone and among others, where the arithmetic can (I4).
        """
        ...

    def normalised(self, segment: int, start: int, stop: int) -> Vector:
        """Return what a segment made of those positions through its exit's head and the final norm, [k, D]."""
        ...

    def logits(self, segment: int, start: int, stop: int) -> Vector:
        """Return the LM head's logits [k, V] of the same."""
        ...

    def shortlist_logits(self, segment: int, start: int, stop: int) -> Vector:
        """Return the logits [k, n] of the shortlist's ids alone; not asked of a model without one."""
        ...


class Recorder(Protocol):
    """Counts what runs."""

    def count_run(self, segment: int, positions: int, decoded: int, padding: int = 0) -> None:
        """Record a segment run, how many of its positions were decoded, and rows that were run beside to no end."""
        ...

    def count_head(self, positions: int) -> None:
        """Record positions through the LM head."""
        ...

    def count_shortlist(self, positions: int) -> None:
        """Record one run of positions through the shortlist's rows of it."""
        ...

    def count_exit_check(self, segment: int) -> None:
        """Record one position read at an early exit, through its own head if it has one."""
        ...


class ExitRule(Protocol):
    """Says whether the last token exits after a segment."""

    def __call__(self, state: DecoderState, index: int) -> bool:
        """Return True to exit; not asked after the last segment."""
        ...

    def takes_shortlist(self, state: DecoderState, index: int) -> bool:
        """Return True to let the shortlist say the token, where the last token exits; the full head does else."""
        ...


@dataclass(frozen=True, slots=True)
class ExitDecision:
    """Where the last token exits, and what it says there."""

    exit_index: int
    logits: Vector
    """[V], or [n] of the shortlist's ids."""
    is_short: bool = False
    """Whether they are of the shortlist's ids alone."""


class DecoderState:
    """One token sequence, as far as each segment has run it."""

    def __init__(self, runner: Runner, segments: int) -> None:
        self.runner = runner
        self.filled = [0] * segments
        """Positions that each segment has run."""
        self.ids: list[int] = []
        self.reached = 0
        """The most positions that were ever filled: their memory is taken."""
        self._tokens = np.zeros(runner.max_positions, np.int64)
        self._decoded = np.zeros(runner.max_positions, bool)
        """Positions of tokens that were generated here, also when a later prompt holds them."""
        self._first_lone = runner.max_positions
        """The first position that a segment has run alone, where that rounds otherwise."""
        self.chunk_positions = CHUNK_POSITIONS
        self.recorder: Recorder | None = None
        self._exit_logits: dict[tuple[int, bool], Vector] = {}
        """By exit, of the full head and of the shortlist."""
        self._read: set[int] = set()
        """Exits at which the last position was read."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def last(self) -> int:
        """Index of the last segment."""
        return len(self.filled) - 1

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The ids fed, as an array."""
        return self._tokens[: len(self.ids)]

    def available(self, index: int) -> int:
        """Return how many positions the segment could have consumed: filled[index - 1]."""
        return self.filled[index - 1] if index else len(self.ids)

    def feed(self, ids: Sequence[int], decoded: bool | NDArray[np.bool_] = False) -> None:
        """Append ids, `decoded` or a prompt's: they become pending in the first segment."""
        start = len(self.ids)
        self.runner.embed(ids, start)
        self._tokens[start : start + len(ids)] = ids
        self._decoded[start : start + len(ids)] = decoded
        self.ids.extend(ids)
        self.reached = max(self.reached, len(self.ids))
        self._forget_last()

    def crop(self, length: int) -> None:
        """Forget everything after the first `length` ids; all of them below 0."""
        length = max(0, length)
        self.filled = [min(filled, length) for filled in self.filled]
        if length <= self._first_lone:
            self._first_lone = self.runner.max_positions
        del self.ids[length:]
        self._forget_last()

    def let_go(self, start: int) -> None:
        """Count positions from `start` on as a prompt's, if one holds them: no completion's full depth ran them."""
        self._decoded[start:] = False

    def rerun_lone(self) -> bool:
        """Let the first lone position and what follows be run again, as with others it rounds as they do (I4).

        Say whether there was any.
        """
        first = self._first_lone
        if first >= len(self.ids):
            return False
        ids, decoded = self.ids[first:], self._decoded[first : len(self.ids)].copy()
        self.crop(first)
        self.feed(ids, decoded)
        return True

    def common_prefix(self, ids: Sequence[int]) -> int:
        """Return how many of the cached ids `ids` begins with; at most all but one of them, or there are no logits."""
        limit = min(len(self.ids), len(ids) - 1)
        return next((n for n in range(limit) if self.ids[n] != ids[n]), limit)

    def reuse(self, ids: Sequence[int]) -> int:
        """Crop to the longest common prefix with `ids`, feed the rest (at least one id); return the length reused."""
        common = self.common_prefix(ids)
        self.crop(common)
        self.feed(ids[common:])
        return common

    def advance(self, index: int, cancelled: Callable[[], bool], *, batch_invariant: bool = False) -> None:
        """Run a segment over all its pending positions, in chunks.

        Raises CancelledError between chunks; what has run until then stays, and I2 holds.
        """
        stop = self.available(index)
        while self.filled[index] < stop:
            if cancelled():
                raise CancelledError
            start = self.filled[index]
            end = min(start + self.chunk_positions, stop)
            self.runner.run(index, start, end, batch_invariant=batch_invariant)
            self.filled[index] = end
            padding = (self.runner.lone_rows - 1) * (end - start == 1)
            if padding and not batch_invariant:
                padding, self._first_lone = 0, min(self._first_lone, start)
            if self.recorder:
                self.recorder.count_run(index, end - start, int(self._decoded[start:end].sum()), padding)

    def advance_until(
        self, rule: ExitRule | None, cancelled: Callable[[], bool], *, batch_invariant: bool = False
    ) -> ExitDecision:
        """Advance segment by segment until the rule says exit, without one to the end; return where and what."""
        for index in range(len(self.filled)):
            self.advance(index, cancelled, batch_invariant=batch_invariant)
            if index == self.last or (rule is not None and rule(self, index)):
                if self.runner.shortlist is not None and rule is not None and rule.takes_shortlist(self, index):
                    return ExitDecision(index, self.shortlist_logits(index), is_short=True)
                return ExitDecision(index, self.exit_logits(index))
        raise AssertionError("a model has at least one segment")

    def normalised(self, index: int) -> Vector:
        """Return what a segment that has run to the end made of the last position, as the LM head reads it, [D]."""
        self._count_exit_check(index)
        normalised: Vector = self.runner.normalised(index, len(self.ids) - 1, len(self.ids))[0]
        return normalised

    def exit_logits(self, index: int) -> Vector:
        """Return logits [V] of the last position after a segment; the head runs once, however often they are asked."""
        if (index, False) not in self._exit_logits:
            if self.recorder:
                self.recorder.count_head(1)
            self._count_exit_check(index)
            self._exit_logits[index, False] = self.runner.logits(index, len(self.ids) - 1, len(self.ids))[0]
        return self._exit_logits[index, False]

    def shortlist_logits(self, index: int) -> Vector:
        """Return logits [n] of the shortlist's ids after a segment; its rows run once, however often they are asked."""
        if (index, True) not in self._exit_logits:
            if self.recorder:
                self.recorder.count_shortlist(1)
            self._count_exit_check(index)
            self._exit_logits[index, True] = self.runner.shortlist_logits(index, len(self.ids) - 1, len(self.ids))[0]
        return self._exit_logits[index, True]

    def _count_exit_check(self, index: int) -> None:
        if self.recorder and index < self.last and index not in self._read:
            self._read.add(index)
            self.recorder.count_exit_check(index)

    def _forget_last(self) -> None:
        self._exit_logits.clear()
        self._read.clear()

    def full_depth_logits(self, count: int, cancelled: Callable[[], bool], *, batch_invariant: bool = False) -> Vector:
        """Advance all segments to the end; return logits [count, V] of the last positions."""
        self.advance_all(cancelled, batch_invariant=batch_invariant)
        return self.last_logits(len(self.ids) - count, len(self.ids))

    def advance_all(self, cancelled: Callable[[], bool], *, batch_invariant: bool = False) -> None:
        """Advance all segments to the end; raises as `advance`."""
        for index in range(len(self.filled)):
            self.advance(index, cancelled, batch_invariant=batch_invariant)

    def last_logits(self, start: int, stop: int) -> Vector:
        """Return logits [k, V] of the last layer at positions `start` .. `stop` - 1, which all segments have run."""
        if self.recorder:
            self.recorder.count_head(stop - start)
        return self.runner.logits(self.last, start, stop)

    def last_shortlist_logits(self, start: int, stop: int) -> Vector:
        """Return logits [k, n] of the shortlist's ids at the same."""
        if self.recorder:
            self.recorder.count_shortlist(stop - start)
        return self.runner.shortlist_logits(self.last, start, stop)

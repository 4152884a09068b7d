"""Cached token sequences of several documents: the one with the longest common prefix serves a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from greencode_lsp.engine.state import CHUNK_POSITIONS, DecoderState

MAX_BYTES = 64 << 20
"""Of all sequences together, as far as each was ever filled; one is kept whatever its size."""
SAME_DOCUMENT = 0.25
"""A sequence is cropped to a prompt that shares this part of the shorter of the two, else kept for its own document."""


class Sequences:
    """A least-recently-used list of decoder states, bounded by bytes."""

    def __init__(self, open_state: Callable[[], DecoderState], max_bytes: int = MAX_BYTES) -> None:
        self._open = open_state
        self.chunk_positions = CHUNK_POSITIONS
        """Positions per run in prefill, of every sequence."""
        self._used: list[DecoderState] = [self._open()]  # the latest last
        self._returned_to: set[DecoderState] = set()
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._used)

    @property
    def latest(self) -> DecoderState:
        """The sequence chosen last."""
        return self._used[-1]

    def choose(self, ids: Sequence[int]) -> DecoderState:
        """Return the sequence to serve a prompt: the most alike, else a new one or the one unused for longest."""
        shared, best = max(((s.common_prefix(ids), i) for i, s in enumerate(self._used)), default=(0, 0))
        state = self._used[best]
        if shared < SAME_DOCUMENT * min(len(ids), len(state.ids)):
            is_room = self._bytes(self._used) + state.runner.bytes_at(len(ids)) <= self._max_bytes
            state = self._open() if is_room else self._oldest(self._used)
            self._returned_to.discard(state)
        elif shared:
            self._returned_to.add(state)
        state.chunk_positions = self.chunk_positions
        others = [s for s in self._used if s is not state]
        filled = state.runner.bytes_at(max(state.reached, len(ids)))
        while others and self._bytes(others) + filled > self._max_bytes:
            others.remove(self._oldest(others))
        self._returned_to.intersection_update([*others, state])
        self._used = [*others, state]
        return state

    def _bytes(self, states: Sequence[DecoderState]) -> int:
        return sum(state.runner.bytes_at(state.reached) for state in states)

    def _oldest(self, states: Sequence[DecoderState]) -> DecoderState:
        """Return the sequence to give up: a place that was only passed through goes before one that was typed at."""
        passed = [sequence for sequence in states if sequence not in self._returned_to]
        return (passed or states)[0]

    def forget(self) -> None:
        """Forget what every sequence holds."""
        for sequence in self._used:
            sequence.crop(0)

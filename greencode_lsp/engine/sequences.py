"""Cached token sequences of several documents: the one with the longest common prefix serves a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from greencode_lsp.engine.state import CHUNK_POSITIONS, DecoderState

MAX_BYTES = 128 << 20
"""Of all sequences together, as if each were full; one is kept whatever its size."""
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
        self.limit = max(1, max_bytes // self._used[0].runner.max_bytes)
        """How many sequences are kept."""

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
            state = self._open() if len(self._used) < self.limit else self._oldest()
            self._returned_to.discard(state)
        elif shared:
            self._returned_to.add(state)
        state.chunk_positions = self.chunk_positions
        self._used = [*(s for s in self._used if s is not state), state]
        return state

    def _oldest(self) -> DecoderState:
        """Return the sequence to give up: a place that was only passed through goes before one that was typed at."""
        passed = [sequence for sequence in self._used if sequence not in self._returned_to]
        return (passed or self._used)[0]

    def forget(self) -> None:
        """Forget what every sequence holds."""
        for sequence in self._used:
            sequence.crop(0)

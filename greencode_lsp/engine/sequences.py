"""Cached token sequences of several documents: the one with the longest common prefix serves a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from greencode_lsp.engine.family import Family
from greencode_lsp.engine.native.decoder import NativeDecoder
from greencode_lsp.engine.native.segments import NativeSegments
from greencode_lsp.engine.propagate import PropagatedSegments
from greencode_lsp.engine.segments import CHUNK_POSITIONS, Segments

KVMode = Literal["exact", "propagate"]
"""`propagate` is the paper's, for comparison (engine/propagate.py)."""
MAX_BYTES = 128 << 20
"""Of all sequences together, as if each were full; one is kept whatever its size."""
SAME_DOCUMENT = 0.25
"""A sequence is cropped to a prompt that shares this part of the shorter of the two, else kept for its own document."""


class Sequences:
    """A least-recently-used list of `Segments`, bounded by bytes."""

    def __init__(
        self, family: Family[Any], exits: tuple[int, ...], kv: KVMode = "exact", max_bytes: int = MAX_BYTES
    ) -> None:
        self._family, self._exits, self._kv = family, exits, kv
        self.chunk_positions = CHUNK_POSITIONS
        """Positions per run in prefill, of every sequence."""
        self._used: list[Segments] = [self._open()]  # the latest last
        self._returned_to: set[Segments] = set()
        self.limit = max(1, max_bytes // self._used[0].max_bytes)
        """How many sequences are kept."""

    def __len__(self) -> int:
        return len(self._used)

    @property
    def latest(self) -> Segments:
        """The sequence chosen last."""
        return self._used[-1]

    def choose(self, ids: Sequence[int]) -> Segments:
        """Return the sequence to serve a prompt: the most alike, else a new one or the one unused for longest."""
        shared, best = max(((s.common_prefix(ids), i) for i, s in enumerate(self._used)), default=(0, 0))
        found = self._used[best]
        if shared < SAME_DOCUMENT * min(len(ids), len(found.ids)):
            found = self._open() if len(self._used) < self.limit else self._oldest()
            self._returned_to.discard(found)
        elif shared:
            self._returned_to.add(found)
        found.chunk_positions = self.chunk_positions
        self._used = [*(s for s in self._used if s is not found), found]
        return found

    def _oldest(self) -> Segments:
        """Return the sequence to give up: a place that was only passed through goes before one that was typed at."""
        passed = [sequence for sequence in self._used if sequence not in self._returned_to]
        return (passed or self._used)[0]

    def forget(self) -> None:
        """Forget what every sequence holds."""
        for sequence in self._used:
            sequence.crop(0)

    def _open(self) -> Segments:
        if self._kv == "propagate":
            return PropagatedSegments(self._family, self._exits)
        if isinstance(self._family, NativeDecoder):
            return NativeSegments(self._family, self._exits)
        return Segments(self._family, self._exits)

"""Segments that advance: the one step that prefill, decoding, catching up and verifying are made of.

Segment s is the run of layers between two exits. It owns its layers' KV cache, `filled` positions long; `states[s]`
holds what enters it at each position, so that its backlog, what the segment before has produced and it has not
consumed yet, is

    pending[s] = states[s][filled[s] : filled[s - 1]], with filled[-1] the number of ids fed.      (I2)

A skipped segment is run later over everything it missed, in one causal batch, so that its KV is what the full model
would have computed for the same ids (I1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from greencode_lsp.engine.family import Cache, Family
from greencode_lsp.errors import CancelledError

CHUNK_POSITIONS = 128
"""Positions per run in prefill, so that a cancel is heard in between; `load_engine` fits it to the machine."""


class ExitRule(Protocol):
    """Says whether the last token leaves after a segment."""

    def __call__(self, segments: Segments, index: int) -> bool:
        """Return True to leave; not asked after the last segment."""
        ...


class Segment:
    """A run of layers with its own cache."""

    def __init__(self, layers: range, cache: Cache) -> None:
        self.layers, self.cache, self.filled = layers, cache, 0


class Segments:
    """The decoder's state for one token sequence; everything is allocated once, for `max_positions`."""

    def __init__(self, family: Family[Any], exits: tuple[int, ...]) -> None:
        self.family, self.exits = family, exits
        starts = (0, *exits[:-1])
        self._segments = [Segment(range(a, b), family.new_cache(b - a)) for a, b in zip(starts, exits, strict=True)]
        one = family.embed(torch.zeros(1, dtype=torch.long, device=family.device), 0)  # [1, D]
        self.states = [one.new_zeros(family.kv_shape[1], one.shape[1]) for _ in range(len(exits) + 1)]
        """What enters each segment, and last what leaves the last one: [max_positions, D] each."""
        self.ids: list[int] = []
        self._tokens = np.zeros(family.kv_shape[1], np.int64)
        self.chunk_positions = CHUNK_POSITIONS

    def __len__(self) -> int:
        return len(self._segments)

    def __getitem__(self, index: int) -> Segment:
        return self._segments[index]

    @property
    def max_bytes(self) -> int:
        """What a full sequence takes; memory is touched only as far as it was ever filled."""
        caches = [t for s in self._segments for t in (s.cache.keys, s.cache.values)]
        return sum(tensor.nbytes for tensor in (*self.states, *caches))

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The ids fed, as an array."""
        return self._tokens[: len(self.ids)]

    def available(self, index: int) -> int:
        """Return how many positions the segment could have consumed: filled[index - 1]."""
        return self._segments[index - 1].filled if index else len(self.ids)

    def outputs(self, index: int, count: int = 1) -> Tensor:
        """Return what a segment that has run to the end made of the last `count` positions, [count, D]."""
        return self.states[index + 1][len(self.ids) - count : len(self.ids)]

    def feed(self, ids: Sequence[int]) -> None:
        """Append ids: their embeddings become pending in the first segment."""
        start = len(self.ids)
        embedded = self.family.embed(torch.tensor(ids, dtype=torch.long, device=self.family.device), start)
        self.states[0][start : start + len(ids)] = embedded
        self._tokens[start : start + len(ids)] = ids
        self.ids.extend(ids)

    def advance(self, index: int, cancelled: Callable[[], bool]) -> Tensor:
        """Run a segment over all its pending positions, in chunks; return their outputs [P, D].

        Raises CancelledError between chunks; what has run until then stays, and I2 holds.
        """
        segment = self._segments[index]
        start, stop = segment.filled, self.available(index)
        entering, leaving = self.states[index], self.states[index + 1]
        while segment.filled < stop:
            if cancelled():
                raise CancelledError
            at, end = segment.filled, min(segment.filled + self.chunk_positions, stop)
            self.family.run_layers(entering[at:end], at, segment.layers, segment.cache, out=leaving[at:end])
            segment.filled = end
        return leaving[start:stop]

    def advance_until(self, rule: ExitRule, cancelled: Callable[[], bool]) -> int:
        """Advance segment by segment until the rule says leave; return the index of the segment left after."""
        for index in range(len(self)):
            self.advance(index, cancelled)
            if index + 1 == len(self) or rule(self, index):
                return index
        raise AssertionError("a model has at least one segment")

    def crop(self, length: int) -> None:
        """Forget everything after the first `length` ids."""
        for segment in self._segments:
            segment.filled = min(segment.filled, length)
        del self.ids[length:]

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

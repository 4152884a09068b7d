"""Segments that advance: the one step that prefill, decoding, catching up and verifying are made of.

Segment s is the run of layers between two exits. It owns its layers' KV cache, `filled` positions long, and the
`pending` hidden states that the segment before has produced and it has not consumed yet:

    pending[s] covers exactly positions filled[s] .. filled[s-1], with filled[-1] the number of ids fed.      (I2)

A skipped segment is run later over everything it missed, in one causal batch, so that its KV is what the full model
would have computed for the same ids (I1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from greencode_lsp.engine.family import Family, KVCache
from greencode_lsp.errors import CancelledError

CHUNK_POSITIONS = 128
"""Positions per run in prefill, so that a cancel is heard in between."""


class Segment:
    """A run of layers with its own cache and backlog."""

    def __init__(self, layers: range, kv_shape: tuple[int, int, int], empty: Tensor) -> None:
        self.layers = layers
        self.cache = KVCache(len(layers), kv_shape, like=empty)
        self.filled = 0
        self.pending = empty  # [P, D]


class Segments:
    """The decoder's state for one token sequence."""

    def __init__(self, family: Family, exits: tuple[int, ...]) -> None:
        self.family, self.exits = family, exits
        empty = family.embed(torch.zeros(1, dtype=torch.long, device=family.device), 0)[:0]  # [0, D]
        starts = (0, *exits[:-1])
        self._segments = [Segment(range(a, b), family.kv_shape, empty) for a, b in zip(starts, exits, strict=True)]
        self.ids: list[int] = []

    def __len__(self) -> int:
        return len(self._segments)

    def __getitem__(self, index: int) -> Segment:
        return self._segments[index]

    def feed(self, ids: Sequence[int]) -> None:
        """Append ids: their embeddings become pending in the first segment."""
        first = self._segments[0]
        embedded = self.family.embed(torch.tensor(ids, dtype=torch.long, device=self.family.device), len(self.ids))
        first.pending = torch.cat((first.pending, embedded))  # [P + T, D]
        self.ids.extend(ids)

    def advance(self, index: int, cancelled: Callable[[], bool]) -> Tensor:
        """Run a segment over all its pending positions, in chunks; return their outputs [P, D].

        Raises CancelledError between chunks; what has run until then stays, and I2 holds.
        """
        segment = self._segments[index]
        outputs = []
        while len(segment.pending):
            if cancelled():
                raise CancelledError
            chunk = segment.pending[:CHUNK_POSITIONS]
            out = self.family.run_layers(chunk, segment.filled, segment.layers, segment.cache)
            segment.filled += len(chunk)
            segment.pending = segment.pending[CHUNK_POSITIONS:]
            if index + 1 < len(self):
                following = self._segments[index + 1]
                following.pending = torch.cat((following.pending, out))
            outputs.append(out)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def crop(self, length: int) -> None:
        """Forget everything after the first `length` ids."""
        before = len(self.ids)  # filled[s - 1]
        for segment in self._segments:
            filled = segment.filled
            segment.pending = segment.pending[: max(0, min(before, length) - filled)]
            segment.filled, before = min(filled, length), filled
        del self.ids[length:]

    def reuse(self, ids: Sequence[int]) -> int:
        """Crop to the longest common prefix with `ids`, feed the rest (at least one id); return the length reused."""
        common = 0
        limit = min(len(self.ids), len(ids) - 1)
        while common < limit and self.ids[common] == ids[common]:
            common += 1
        self.crop(common)
        self.feed(ids[common:])
        return common

"""Small steps on CUDA as captured graphs: one launch per segment instead of dozens.

A graph replays fixed kernels on fixed memory, so a step of T positions is given a static shape: its inputs are
buffers, positions are a tensor, keys and values are written by index, and it attends to a whole bucket of the cache
under a mask. The blocks themselves are those of eager runs, over another `AttentionWindow`.

Letters: T positions of a step, N keys of a bucket, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from greencode_lsp.engine.torch.blocks import KVCache, LayerStack

MOST_POSITIONS = 8
"""Longer runs are bound by arithmetic, not by launches, and go without a graph."""
BUCKETS = (256, 512, 1024, 2048, 4096)
"""Lengths of the cache that a graph attends to; one more step up costs memory, not exactness."""
WARM_UPS = 3
Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Turns work on static buffers into a replay of it."""


class StaticWindow:
    """See `AttentionWindow`: T positions held in a tensor, seeing a bucket of the cache under a mask."""

    def __init__(self, positions: Tensor, keys: int) -> None:
        self.index = positions  # [T]
        self._keys = keys
        self.mask = torch.arange(keys, device=positions.device)[None] <= positions[:, None]  # [T, N]

    def append(self, cache: KVCache, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `AttentionWindow`."""
        cache.keys[layer].index_copy_(1, self.index, keys.transpose(0, 1))
        cache.values[layer].index_copy_(1, self.index, values.transpose(0, 1))
        return cache.keys[layer, :, : self._keys], cache.values[layer, :, : self._keys]


class CapturedStep:
    """T positions through some layers on static buffers, captured at first use."""

    def __init__(self, blocks: LayerStack, layers: range, cache: KVCache, like: Tensor, keys: int) -> None:
        self._blocks, self._layers, self._cache, self._keys = blocks, layers, cache, keys
        self._entering, self._leaving = torch.empty_like(like), torch.empty_like(like)  # [T, D]
        self._offsets = torch.arange(len(like), device=like.device)
        self._positions = self._offsets.clone()
        self._replay: Callable[[], None] | None = None

    def _work(self) -> None:
        window = StaticWindow(self._positions, self._keys)
        self._leaving.copy_(self._blocks.run(self._entering, window, self._layers, self._cache))

    def __call__(self, hidden: Tensor, start: int, out: Tensor, capture: Capture) -> None:
        """Run [T, D] at positions from `start` into `out`."""
        self._entering.copy_(hidden)
        torch.add(self._offsets, start, out=self._positions)
        if self._replay is None:
            self._replay = capture(self._work)
        self._replay()
        out.copy_(self._leaving)


def cuda_graph() -> Capture:
    """Return a capture that warms up on a side stream and records a CUDA graph; all in one pool."""
    pool = torch.cuda.graph_pool_handle()

    def capture(work: Callable[[], None]) -> Callable[[], None]:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch types it not
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            work()
        replay: Callable[[], None] = graph.replay
        return replay

    return capture


def uncaptured(work: Callable[[], None]) -> Callable[[], None]:
    """Return the work itself: the same shapes and buffers without a graph, on any device."""
    return work


def bucket(stop: int, max_positions: int) -> int:
    """Return how many cached keys a step that ends before `stop` attends to."""
    return next((size for size in BUCKETS if stop <= size <= max_positions), max_positions)

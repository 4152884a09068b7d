"""What the engine asks of a model family, and the KV cache its layers write.

Letters: T positions of one run, N positions cached, D hidden size, V vocabulary, H query heads, G key/value heads,
C head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from greencode_lsp.engine.checkpoint import Weights
from greencode_lsp.engine.quantize import Int8Matrix, Matrix, linear


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix [O, K] with its optional bias [O]."""

    weight: Matrix
    bias: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(O, K)."""
        matrix = self.weight.values if isinstance(self.weight, Int8Matrix) else self.weight
        return matrix.shape[0], matrix.shape[1]

    def below(self, first: int) -> Linear:
        """Return the rows from `first` on, sharing memory."""
        return Linear(self.weight[first:], None if self.bias is None else self.bias[first:])

    def __call__(self, x: Tensor) -> Tensor:
        """Return x W^T + b, [T, O] for x [T, K]."""
        return linear(x, self.weight, self.bias)


def read_linear(weights: Weights, *paths: str) -> Linear:
    """Return the modules at the paths as one: their matrices, and biases where they have any, stacked by rows."""
    return Linear(weights.matrix(*(p + ".weight" for p in paths)), weights.biases(*(p + ".bias" for p in paths)))


@dataclass(frozen=True, slots=True)
class Norm:
    """RMSNorm where there is no bias, else LayerNorm."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return [..., D] normalised."""
        if self.bias is None:
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's weights; what is multiplied with the same input is fused along its rows."""

    attention_norm: Norm
    qkv: Linear
    out: Linear
    feed_norm: Norm
    up: Linear
    """Gate above up, in a family that gates."""
    down: Linear


class KVCache:
    """Keys and values of one segment's layers, allocated once: [layers, G, max_positions, C] each."""

    def __init__(self, layers: int, shape: tuple[int, int, int], like: Tensor) -> None:
        self.keys = torch.zeros(layers, *shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros_like(self.keys)
        self.steps: dict[tuple[int, int], Any] = {}
        """Captured steps by (positions, keys): they hold this very memory (engine/graphs.py)."""


class Window(Protocol):
    """The positions of one run: where they stand in tables, how they write the cache and what they see of it."""

    @property
    def index(self) -> slice | Tensor:
        """Selects their rows of a table by position."""
        ...

    @property
    def mask(self) -> Tensor | None:
        """[T, N] True where a position may look; None where each sees all."""
        ...

    def append(self, cache: KVCache, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write [T, G, C] of one layer; return the cached keys and values to attend to, [G, N, C] each."""
        ...


class EagerWindow:
    """Positions start .. start + T - 1, seeing exactly what is cached up to each."""

    def __init__(self, start: int, positions: int, device: torch.device) -> None:
        self._stop = start + positions
        self.index = slice(start, self._stop)
        self.mask = causal_mask(positions, start, device)

    def append(self, cache: KVCache, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `Window`."""
        cache.keys[layer, :, self.index] = keys.transpose(0, 1)
        cache.values[layer, :, self.index] = values.transpose(0, 1)
        return cache.keys[layer, :, : self._stop], cache.values[layer, :, : self._stop]


class Cache(Protocol):
    """The keys and values of one segment's layers, in the layout of the family that made it."""

    keys: Tensor
    values: Tensor


CacheT = TypeVar("CacheT", bound=Cache)


class Family(Protocol[CacheT]):
    """A decoder's own arithmetic. Layers are numbered from 0; all tensors are of one sequence."""

    layers: int
    device: torch.device
    kv_shape: tuple[int, int, int]
    """(G, max_positions, C)."""

    def new_cache(self, layers: int) -> CacheT:
        """Return an empty KV cache for a segment of that many layers, in the family's own layout."""
        ...

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Return [T, D] for ids [T] at positions start, start + 1, ..."""
        ...

    def run_layers(self, hidden: Tensor, start: int, layers: range, cache: CacheT, *, out: Tensor) -> None:
        """Run layers over [T, D] at positions from `start`, append their KV, write [T, D] to `out`."""
        ...

    def propagate(self, hidden: Tensor, start: int, layers: range, cache: CacheT) -> None:
        """Append keys and values that the layers' own norms and projections make of one state [T, D] for them all."""
        ...

    def normalise(self, hidden: Tensor) -> Tensor:
        """Return [T, D] through the final norm: what exits, the head and the agent read."""
        ...

    def head(self, normalised: Tensor) -> Tensor:
        """Return logits [T, V]."""
        ...


def causal_mask(positions: int, start: int, device: torch.device) -> Tensor | None:
    """Return [T, N] True where position start + t may look; None for one position, which sees all that is cached."""
    if positions == 1:
        return None
    return torch.ones(positions, start + positions, dtype=torch.bool, device=device).tril(start)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, by_row: bool = False) -> Tensor:
    """Return softmax(q k / sqrt(C)) v for queries [T, H, C], keys and values [G, N, C], as [T, H * C].

    `by_row` computes each position alone: batched, one may round otherwise than when it comes by itself (design, I4).
    """
    count, length = len(queries), keys.shape[1]
    if by_row and count > 1:
        ends = range(length - count + 1, length + 1)
        each = (attend(queries[t : t + 1], keys[:, :n], values[:, :n], None) for t, n in enumerate(ends))
        return torch.cat(list(each))
    out = F.scaled_dot_product_attention(
        queries.transpose(0, 1)[None], keys[None], values[None], attn_mask=mask, enable_gqa=True
    )
    return out[0].transpose(0, 1).reshape(count, -1)

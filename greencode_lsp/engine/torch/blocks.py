"""The layers of any family in torch's operators, from its `Architecture`.

Letters: T positions of one run, N positions cached, D hidden size, H query heads, G key/value heads, C head size,
O output rows, K inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.models.weights import WeightSource


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix [O, K] with its optional bias [O]."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return x W^T + b, [T, O] for x [T, K]."""
        return F.linear(x, self.weight, self.bias)


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
        """Captured steps by (positions, keys): they hold this very memory (engine/torch/graphs.py)."""


class AttentionWindow(Protocol):
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
        """See `AttentionWindow`."""
        cache.keys[layer, :, self.index] = keys.transpose(0, 1)
        cache.values[layer, :, self.index] = values.transpose(0, 1)
        return cache.keys[layer, :, : self._stop], cache.values[layer, :, : self._stop]


class LayerStack:
    """All layers of a checkpoint, on one device in one dtype."""

    def __init__(self, architecture: Architecture, source: WeightSource, device: str, dtype: torch.dtype) -> None:
        self.architecture, self._source = architecture, source
        self._device, self._dtype = device, dtype
        self._named = set(source.names())
        self._blocks = [self._read(index) for index in range(architecture.layers)]
        self._rope: tuple[Tensor, Tensor] | None = None
        if architecture.rotation_speeds is not None:
            tables = (torch.from_numpy(table) for table in architecture.rotations(architecture.max_positions))
            cosines, sines = (torch.cat((t, t), dim=-1)[:, None].to(device, dtype) for t in tables)  # [N, 1, C]
            self._rope = cosines, sines

    def tensor(self, name: str) -> Tensor:
        """Return a tensor of the checkpoint."""
        return torch.from_numpy(self._source.float32(name)).to(self._device, self._dtype)

    def norm(self, module: str) -> Norm:
        """Return the family's norm."""
        bias = None if self.architecture.has_rms_norm else self.tensor(module + ".bias")
        return Norm(self.tensor(module + ".weight"), bias, self.architecture.eps)

    def _linear(self, *modules: str) -> Linear:
        has_bias = modules[0] + ".bias" in self._named
        bias = torch.cat([self.tensor(m + ".bias") for m in modules]) if has_bias else None
        return Linear(torch.cat([self.tensor(m + ".weight") for m in modules]), bias)

    def _read(self, index: int) -> Block:
        layer = self.architecture.layer(index)
        return Block(
            attention_norm=self.norm(layer.attention_norm),
            qkv=self._linear(*layer.qkv),
            out=self._linear(layer.out),
            feed_norm=self.norm(layer.feed_norm),
            up=self._linear(*layer.up),
            down=self._linear(layer.down),
        )

    def run(self, hidden: Tensor, window: AttentionWindow, layers: range, cache: KVCache) -> Tensor:
        """Run layers over [T, D] of a window, append their KV, return [T, D]."""
        norm_first = self.architecture.norm_first
        for row, index in enumerate(layers):
            block = self._blocks[index]
            normed = block.attention_norm(hidden) if norm_first else hidden
            hidden = hidden + block.out(self._attend(block.qkv(normed), window, row, cache))
            hidden = hidden if norm_first else block.attention_norm(hidden)
            normed = block.feed_norm(hidden) if norm_first else hidden
            hidden = hidden + block.down(self._activate(block.up(normed)))
            hidden = hidden if norm_first else block.feed_norm(hidden)
        return hidden

    def _activate(self, x: Tensor) -> Tensor:
        if not self.architecture.is_gated:
            return F.relu(x)
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up

    def _attend(self, qkv: Tensor, window: AttentionWindow, row: int, cache: KVCache) -> Tensor:
        heads, (groups, _, size) = self.architecture.heads, self.architecture.kv_shape
        split = qkv.view(len(qkv), -1, size)  # [T, H + 2 G, C]
        turned = split[:, : heads + groups]
        if self._rope is not None:
            turned = _rotate(turned, *(table[window.index] for table in self._rope))
        keys, values = window.append(cache, row, turned[:, heads:], split[:, heads + groups :])
        return attend(turned[:, :heads], keys, values, window.mask)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply RoPE to [T, heads, C] with tables [T, 1, C]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def causal_mask(positions: int, start: int, device: torch.device) -> Tensor | None:
    """Return [T, N] True where position start + t may look; None for one position, which sees all that is cached."""
    if positions == 1:
        return None
    return torch.ones(positions, start + positions, dtype=torch.bool, device=device).tril(start)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return softmax(q k / sqrt(C)) v for queries [T, H, C], keys and values [G, N, C], as [T, H * C]."""
    out = F.scaled_dot_product_attention(
        queries.transpose(0, 1)[None], keys[None], values[None], attn_mask=mask, enable_gqa=True
    )
    return out[0].transpose(0, 1).reshape(len(queries), -1)

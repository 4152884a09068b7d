"""What the engine asks of a model family, and the KV cache its layers write.

Letters: T positions of one run, N positions cached, D hidden size, V vocabulary, H query heads, G key/value heads,
C head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from greencode_lsp.engine.quantize import Matrix, linear


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix [O, K] with its optional bias [O]."""

    weight: Matrix
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return x W^T + b, [T, O] for x [T, K]."""
        return linear(x, self.weight, self.bias)


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

    def append(self, layer: int, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write [G, T, C] at `start`; return everything cached up to there, [G, N, C] each."""
        stop = start + keys.shape[1]
        self.keys[layer, :, start:stop] = keys
        self.values[layer, :, start:stop] = values
        return self.keys[layer, :, :stop], self.values[layer, :, :stop]


class Family(Protocol):
    """A decoder's own arithmetic. Layers are numbered from 0; all tensors are of one sequence."""

    layers: int
    device: torch.device
    kv_shape: tuple[int, int, int]
    """(G, max_positions, C)."""

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Return [T, D] for ids [T] at positions start, start + 1, ..."""
        ...

    def run_layers(self, hidden: Tensor, start: int, layers: range, cache: KVCache) -> Tensor:
        """Run layers over [T, D] at positions from `start`, append their KV, return [T, D]."""
        ...

    def normalise(self, hidden: Tensor) -> Tensor:
        """Return [..., D] through the final norm: what exits, the head and the agent read."""
        ...

    def head(self, normalised: Tensor) -> Tensor:
        """Return logits [..., V]."""
        ...


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
    return out[0].transpose(0, 1).reshape(queries.shape[0], -1)

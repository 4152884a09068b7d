"""The Llama family: RMSNorm, RoPE (with llama3 scaling), GQA, SwiGLU, optional biases, tied or untied head."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from greencode_lsp.engine.checkpoint import Weights
from greencode_lsp.engine.family import Block, EagerWindow, KVCache, Norm, Window, attend, read_linear
from greencode_lsp.engine.quantize import Int8Matrix, linear, rows
from greencode_lsp.errors import UnsupportedModelError


def rope_inverse_frequencies(config: dict[str, Any], head_size: int) -> Tensor:
    """Return [C / 2] rotation speeds from either config layout.

    Newer folders hold `rope_parameters`; older ones `rope_theta` and `rope_scaling`. The llama3 scaling keeps fast
    rotations, divides slow ones by `factor`, and blends between the two wavelength limits.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    frequencies = theta ** -(torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    if kind == "default":
        return frequencies
    if kind != "llama3":
        raise UnsupportedModelError(f"The RoPE scaling {kind!r} is not supported; default and llama3 are.")
    factor, low, high = float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    original = float(rope["original_max_position_embeddings"])
    wavelengths = 2 * math.pi / frequencies
    smooth = ((original / wavelengths - low) / (high - low)).clamp(0, 1)
    return frequencies * (smooth + (1 - smooth) / factor)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply RoPE to [T, heads, C] with tables [T, 1, C]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Llama:
    """See `Family`."""

    gated, norm_first = True, True

    def __init__(self, config: dict[str, Any], weights: Weights, max_positions: int) -> None:
        if config.get("hidden_act", "silu") != "silu":
            raise UnsupportedModelError(f"The activation {config['hidden_act']!r} is not supported in Llama; silu is.")
        self.layers: int = config["num_hidden_layers"]
        self.heads: int = config["num_attention_heads"]
        groups: int = config.get("num_key_value_heads") or self.heads
        head_size: int = config.get("head_dim") or config["hidden_size"] // self.heads
        self._eps = float(config.get("rms_norm_eps", 1e-6))
        self.kv_shape = (groups, max_positions, head_size)
        self._embedding = weights.matrix("model.embed_tokens.weight")
        self.device = self._embedding.device
        self.norm = Norm(weights("model.norm.weight"), None, self._eps)
        self.head_matrix = self._embedding if config.get("tie_word_embeddings") else weights.matrix("lm_head.weight")
        weights.expect_no_more("model.layers.", self.layers)
        self._by_row = isinstance(self.head_matrix, Int8Matrix)
        self.blocks = [self._read_block(weights, f"model.layers.{i}.") for i in range(self.layers)]
        angles = torch.arange(max_positions)[:, None] * rope_inverse_frequencies(config, head_size)  # [N, C / 2]
        angles = torch.cat((angles, angles), dim=-1)[:, None].to(self.device)  # [N, 1, C]
        self.rope = angles.cos().to(weights.dtype), angles.sin().to(weights.dtype)

    def _read_block(self, weights: Weights, at: str) -> Block:
        return Block(
            attention_norm=Norm(weights(at + "input_layernorm.weight"), None, self._eps),
            qkv=read_linear(weights, *(f"{at}self_attn.{name}_proj" for name in "qkv")),
            out=read_linear(weights, at + "self_attn.o_proj"),
            feed_norm=Norm(weights(at + "post_attention_layernorm.weight"), None, self._eps),
            up=read_linear(weights, at + "mlp.gate_proj", at + "mlp.up_proj"),
            down=read_linear(weights, at + "mlp.down_proj"),
        )

    def new_cache(self, layers: int) -> KVCache:
        """Return an empty cache for a segment of that many layers."""
        return KVCache(layers, self.kv_shape, like=self.norm.weight)

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Return [T, D]; positions enter by RoPE."""
        return rows(self._embedding, ids)

    def run_layers(self, hidden: Tensor, start: int, layers: range, cache: KVCache, *, out: Tensor) -> None:
        """Run layers over [T, D], write [T, D] to `out`."""
        out.copy_(self.run(hidden, EagerWindow(start, len(hidden), hidden.device), layers, cache))

    def run(self, hidden: Tensor, window: Window, layers: range, cache: KVCache) -> Tensor:
        """Run layers over [T, D] of a window, return [T, D]."""
        positions = hidden.shape[0]
        groups, _, size = self.kv_shape
        cos, sin = (table[window.index] for table in self.rope)
        for row, index in enumerate(layers):
            block = self.blocks[index]
            qkv = block.qkv(block.attention_norm(hidden)).view(positions, -1, size)  # [T, H + 2 G, C]
            rotated = _rotate(qkv[:, : self.heads + groups], cos, sin)
            new_keys, new_values = rotated[:, self.heads :], qkv[:, self.heads + groups :]  # [T, G, C]
            keys, values = window.append(cache, row, new_keys, new_values)
            hidden = hidden + block.out(
                attend(rotated[:, : self.heads], keys, values, window.mask, by_row=self._by_row)
            )
            gate, up = block.up(block.feed_norm(hidden)).chunk(2, dim=-1)
            hidden = hidden + block.down(F.silu(gate) * up)
        return hidden

    def normalise(self, hidden: Tensor) -> Tensor:
        """Return the final RMSNorm of [..., D]."""
        return self.norm(hidden)

    def propagate(self, hidden: Tensor, start: int, layers: range, cache: KVCache) -> None:
        """Append keys and values made of [T, D] itself, layer by layer."""
        positions, (groups, _, size) = hidden.shape[0], self.kv_shape
        window = EagerWindow(start, positions, hidden.device)
        cos, sin = (table[window.index] for table in self.rope)
        for row, index in enumerate(layers):
            block = self.blocks[index]
            made = block.qkv.below(self.heads * size)(block.attention_norm(hidden))  # [T, 2 G C]
            keys, values = made.view(positions, 2, groups, size).unbind(1)
            window.append(cache, row, _rotate(keys, cos, sin), values)

    def before_head(self, normalised: Tensor) -> Tensor:
        """Return what the head matrix multiplies: the state itself."""
        return normalised

    def head(self, normalised: Tensor) -> Tensor:
        """Return logits [T, V]."""
        return linear(normalised, self.head_matrix)

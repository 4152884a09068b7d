"""The OPT family: LayerNorm before or after, learned positions, ReLU, `word_embed_proj_dim`, tied head."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from greencode_lsp.engine.checkpoint import Weights
from greencode_lsp.engine.family import Block, EagerWindow, KVCache, Norm, Window, attend, read_linear
from greencode_lsp.engine.quantize import Int8Matrix, linear, rows
from greencode_lsp.errors import UnsupportedModelError

_POSITION_OFFSET = 2  # the published position table starts with two unused rows
_NORM_EPS = 1e-5


class Opt:
    """See `Family`."""

    gated, rope = False, None

    def __init__(self, config: dict[str, Any], weights: Weights, max_positions: int) -> None:
        if config.get("activation_function", "relu") != "relu" or not config.get("layer_norm_elementwise_affine", True):
            raise UnsupportedModelError("This OPT variant is not supported; OPT with ReLU and affine norms is.")
        if not config.get("tie_word_embeddings", True):
            raise UnsupportedModelError("OPT with an untied head is not supported; OPT with a tied one is.")
        self.layers: int = config["num_hidden_layers"]
        self.heads: int = config["num_attention_heads"]
        self.kv_shape = (self.heads, max_positions, config["hidden_size"] // self.heads)
        self.norm_first: bool = config.get("do_layer_norm_before", True)
        at = "model.decoder."
        self.head_matrix = weights.matrix(at + "embed_tokens.weight")  # [V, W], tied
        self.device = self.head_matrix.device
        self._positions = weights(at + "embed_positions.weight")
        self._project_in = weights.optional_matrix(at + "project_in.weight")  # [D, W]
        self._project_out = weights.optional_matrix(at + "project_out.weight")  # [W, D]
        final = at + "final_layer_norm."
        self.norm = self._read_norm(weights, final) if final + "weight" in weights else None
        weights.expect_no_more(at + "layers.", self.layers)
        self._by_row = isinstance(self.head_matrix, Int8Matrix)
        self.blocks = [self._read_block(weights, f"{at}layers.{i}.") for i in range(self.layers)]

    @staticmethod
    def _read_norm(weights: Weights, at: str) -> Norm:
        return Norm(weights(at + "weight"), weights(at + "bias"), _NORM_EPS)

    def _read_block(self, weights: Weights, at: str) -> Block:
        return Block(
            attention_norm=self._read_norm(weights, at + "self_attn_layer_norm."),
            qkv=read_linear(weights, *(f"{at}self_attn.{name}_proj" for name in "qkv")),
            out=read_linear(weights, at + "self_attn.out_proj"),
            feed_norm=self._read_norm(weights, at + "final_layer_norm."),
            up=read_linear(weights, at + "fc1"),
            down=read_linear(weights, at + "fc2"),
        )

    def new_cache(self, layers: int) -> KVCache:
        """Return an empty cache for a segment of that many layers."""
        return KVCache(layers, self.kv_shape, like=self._positions)

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Return [T, D]: token plus learned position."""
        tokens = rows(self.head_matrix, ids)  # [T, W]
        if self._project_in is not None:
            tokens = linear(tokens, self._project_in)
        first = start + _POSITION_OFFSET
        return tokens + self._positions[first : first + len(ids)]

    def run_layers(self, hidden: Tensor, start: int, layers: range, cache: KVCache, *, out: Tensor) -> None:
        """Run layers over [T, D], write [T, D] to `out`."""
        out.copy_(self.run(hidden, EagerWindow(start, len(hidden), hidden.device), layers, cache))

    def run(self, hidden: Tensor, window: Window, layers: range, cache: KVCache) -> Tensor:
        """Run layers over [T, D] of a window, return [T, D]."""
        positions = hidden.shape[0]
        heads, _, size = self.kv_shape
        for row, index in enumerate(layers):
            block = self.blocks[index]
            normed = block.attention_norm(hidden) if self.norm_first else hidden
            queries, new_keys, new_values = block.qkv(normed).view(positions, 3, heads, size).unbind(1)
            keys, values = window.append(cache, row, new_keys, new_values)
            hidden = hidden + block.out(attend(queries, keys, values, window.mask, by_row=self._by_row))
            hidden = hidden if self.norm_first else block.attention_norm(hidden)
            normed = block.feed_norm(hidden) if self.norm_first else hidden
            hidden = hidden + block.down(F.relu(block.up(normed)))
            hidden = hidden if self.norm_first else block.feed_norm(hidden)
        return hidden

    def normalise(self, hidden: Tensor) -> Tensor:
        """Return the final LayerNorm of [..., D], where the checkpoint has one."""
        return self.norm(hidden) if self.norm else hidden

    def propagate(self, hidden: Tensor, start: int, layers: range, cache: KVCache) -> None:
        """Append keys and values made of [T, D] itself, layer by layer."""
        positions, (heads, _, size) = hidden.shape[0], self.kv_shape
        window = EagerWindow(start, positions, hidden.device)
        for row, index in enumerate(layers):
            block = self.blocks[index]
            normed = block.attention_norm(hidden) if self.norm_first else hidden
            keys, values = block.qkv.below(heads * size)(normed).view(positions, 2, heads, size).unbind(1)
            window.append(cache, row, keys, values)

    def before_head(self, normalised: Tensor) -> Tensor:
        """Return what the head matrix multiplies: the state through `project_out` where the checkpoint has one."""
        return normalised if self._project_out is None else linear(normalised, self._project_out)

    def head(self, normalised: Tensor) -> Tensor:
        """Return logits [T, V]."""
        return linear(self.before_head(normalised), self.head_matrix)

"""The OPT family: LayerNorm before or after, learned positions, ReLU, `word_embed_proj_dim`, tied head."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from greencode_lsp.engine.checkpoint import Weights
from greencode_lsp.engine.family import Block, KVCache, Linear, Norm, attend, causal_mask
from greencode_lsp.engine.quantize import linear, rows
from greencode_lsp.errors import UnsupportedModelError

_POSITION_OFFSET = 2  # the published position table starts with two unused rows
_NORM_EPS = 1e-5


class Opt:
    """See `Family`."""

    def __init__(self, config: dict[str, Any], weights: Weights, max_positions: int) -> None:
        if config.get("activation_function", "relu") != "relu" or not config.get("layer_norm_elementwise_affine", True):
            raise UnsupportedModelError("This OPT variant is not supported; OPT with ReLU and affine norms is.")
        if not config.get("tie_word_embeddings", True):
            raise UnsupportedModelError("OPT with an untied head is not supported; OPT with a tied one is.")
        self.layers: int = config["num_hidden_layers"]
        heads: int = config["num_attention_heads"]
        self.kv_shape = (heads, max_positions, config["hidden_size"] // heads)
        self.norm_first: bool = config.get("do_layer_norm_before", True)
        at = "model.decoder."
        self._embedding = weights.matrix(at + "embed_tokens.weight")  # [V, W]
        self.device = self._embedding.device
        self._positions = weights(at + "embed_positions.weight")
        self._project_in = weights.optional_matrix(at + "project_in.weight")  # [D, W]
        self._project_out = weights.optional_matrix(at + "project_out.weight")  # [W, D]
        final = at + "final_layer_norm."
        self.norm = self._read_norm(weights, final) if final + "weight" in weights else None
        weights.expect_no_more(at + "layers.", self.layers)
        self.blocks = [self._read_block(weights, f"{at}layers.{i}.") for i in range(self.layers)]

    @staticmethod
    def _read_norm(weights: Weights, at: str) -> Norm:
        return Norm(weights(at + "weight"), weights(at + "bias"), _NORM_EPS)

    def _read_block(self, weights: Weights, at: str) -> Block:
        def fused(*names: str) -> Linear:
            paths = [at + name for name in names]
            return Linear(
                weights.matrix(*(p + ".weight" for p in paths)), weights.biases(*(p + ".bias" for p in paths))
            )

        return Block(
            attention_norm=self._read_norm(weights, at + "self_attn_layer_norm."),
            qkv=fused(*(f"self_attn.{name}_proj" for name in "qkv")),
            out=fused("self_attn.out_proj"),
            feed_norm=self._read_norm(weights, at + "final_layer_norm."),
            up=fused("fc1"),
            down=fused("fc2"),
        )

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Return [T, D]: token plus learned position."""
        tokens = rows(self._embedding, ids)  # [T, W]
        if self._project_in is not None:
            tokens = linear(tokens, self._project_in)
        first = start + _POSITION_OFFSET
        return tokens + self._positions[first : first + len(ids)]

    def run_layers(self, hidden: Tensor, start: int, layers: range, cache: KVCache) -> Tensor:
        """Run layers over [T, D], return [T, D]."""
        positions = hidden.shape[0]
        heads, _, size = self.kv_shape
        mask = causal_mask(positions, start, hidden.device)
        for row, index in enumerate(layers):
            block = self.blocks[index]
            normed = block.attention_norm(hidden) if self.norm_first else hidden
            queries, new_keys, new_values = block.qkv(normed).view(positions, 3, heads, size).unbind(1)
            keys, values = cache.append(row, start, new_keys.transpose(0, 1), new_values.transpose(0, 1))
            hidden = hidden + block.out(attend(queries, keys, values, mask))
            hidden = hidden if self.norm_first else block.attention_norm(hidden)
            normed = block.feed_norm(hidden) if self.norm_first else hidden
            hidden = hidden + block.down(F.relu(block.up(normed)))
            hidden = hidden if self.norm_first else block.feed_norm(hidden)
        return hidden

    def normalise(self, hidden: Tensor) -> Tensor:
        """Return the final LayerNorm of [..., D], where the checkpoint has one."""
        return self.norm(hidden) if self.norm else hidden

    def head(self, normalised: Tensor) -> Tensor:
        """Return logits [..., V] through `project_out` where the checkpoint has one."""
        if self._project_out is not None:
            normalised = linear(normalised, self._project_out)
        return linear(normalised, self._embedding)

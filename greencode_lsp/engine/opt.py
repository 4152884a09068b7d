"""The OPT family: LayerNorm before or after, learned positions, ReLU, `word_embed_proj_dim`, tied head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from greencode_lsp.engine.checkpoint import Weights
from greencode_lsp.engine.family import KVCache, attend, causal_mask
from greencode_lsp.errors import UnsupportedModelError

_POSITION_OFFSET = 2  # the published position table starts with two unused rows
_NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class _Affine:
    """A weight with its optional bias."""

    weight: Tensor
    bias: Tensor | None

    def linear(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        return F.linear(x, self.weight, self.bias)

    def norm(self, x: Tensor) -> Tensor:
        """Return the LayerNorm of [..., D]."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, _NORM_EPS)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One block's weights; q, k and v are fused along their rows."""

    attention_norm: _Affine
    qkv: _Affine
    out: _Affine
    feed_norm: _Affine
    up: _Affine
    down: _Affine


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
        self._norm_first: bool = config.get("do_layer_norm_before", True)
        at = "model.decoder."
        self._embedding = weights(at + "embed_tokens.weight")  # [V, W]
        self.device = self._embedding.device
        self._positions = weights(at + "embed_positions.weight")
        self._project_in = weights.optional(at + "project_in.weight")  # [D, W]
        self._project_out = weights.optional(at + "project_out.weight")  # [W, D]
        final = at + "final_layer_norm."
        has_norm = final + "weight" in weights
        self._norm = _Affine(weights(final + "weight"), weights.optional(final + "bias")) if has_norm else None
        weights.expect_no_more(at + "layers.", self.layers)
        self._layers = [self._read_layer(weights, f"{at}layers.{i}.") for i in range(self.layers)]

    @staticmethod
    def _read_layer(weights: Weights, at: str) -> _Layer:
        def affine(name: str) -> _Affine:
            return _Affine(weights(f"{at}{name}.weight"), weights.optional(f"{at}{name}.bias"))

        names = [f"{at}self_attn.{name}_proj" for name in "qkv"]
        qkv = _Affine(
            weights.rows(*(n + ".weight" for n in names)), weights.optional_rows(*(n + ".bias" for n in names))
        )
        return _Layer(
            attention_norm=affine("self_attn_layer_norm"),
            qkv=qkv,
            out=affine("self_attn.out_proj"),
            feed_norm=affine("final_layer_norm"),
            up=affine("fc1"),
            down=affine("fc2"),
        )

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Return [T, D]: token plus learned position."""
        tokens = F.embedding(ids, self._embedding)  # [T, W]
        if self._project_in is not None:
            tokens = F.linear(tokens, self._project_in)
        first = start + _POSITION_OFFSET
        return tokens + self._positions[first : first + len(ids)]

    def run_layers(self, hidden: Tensor, start: int, layers: range, cache: KVCache) -> Tensor:
        """Run layers over [T, D], return [T, D]."""
        positions = hidden.shape[0]
        heads, _, size = self.kv_shape
        mask = causal_mask(positions, start, hidden.device)
        for row, index in enumerate(layers):
            layer = self._layers[index]
            normed = layer.attention_norm.norm(hidden) if self._norm_first else hidden
            queries, new_keys, new_values = layer.qkv.linear(normed).view(positions, 3, heads, size).unbind(1)
            keys, values = cache.append(row, start, new_keys.transpose(0, 1), new_values.transpose(0, 1))
            hidden = hidden + layer.out.linear(attend(queries, keys, values, mask))
            hidden = hidden if self._norm_first else layer.attention_norm.norm(hidden)
            normed = layer.feed_norm.norm(hidden) if self._norm_first else hidden
            hidden = hidden + layer.down.linear(F.relu(layer.up.linear(normed)))
            hidden = hidden if self._norm_first else layer.feed_norm.norm(hidden)
        return hidden

    def normalise(self, hidden: Tensor) -> Tensor:
        """Return the final LayerNorm of [..., D], where the checkpoint has one."""
        return self._norm.norm(hidden) if self._norm else hidden

    def head(self, normalised: Tensor) -> Tensor:
        """Return logits [..., V] through `project_out` where the checkpoint has one."""
        if self._project_out is not None:
            normalised = F.linear(normalised, self._project_out)
        return F.linear(normalised, self._embedding)

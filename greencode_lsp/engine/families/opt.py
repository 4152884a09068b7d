"""The OPT family: LayerNorm before or after, learned positions, ReLU, `word_embed_proj_dim`, tied head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greencode_lsp.engine.architecture import MAX_POSITIONS, Architecture, Layer
from greencode_lsp.errors import UnsupportedModelError

_AT = "model.decoder."
_POSITION_OFFSET = 2  # the published position table starts with two unused rows


def _layer(index: int) -> Layer:
    at = f"{_AT}layers.{index}."
    query, key, value = (f"{at}self_attn.{name}_proj" for name in "qkv")
    return Layer(
        attention_norm=at + "self_attn_layer_norm",
        qkv=(query, key, value),
        out=at + "self_attn.out_proj",
        feed_norm=at + "final_layer_norm",
        up=(at + "fc1",),
        down=at + "fc2",
    )


def describe(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a `config.json` of `model_type` opt describes."""
    if config.get("activation_function", "relu") != "relu" or not config.get("layer_norm_elementwise_affine", True):
        raise UnsupportedModelError("This OPT variant is not supported; OPT with ReLU and affine norms is.")
    if not config.get("tie_word_embeddings", True):
        raise UnsupportedModelError("OPT with an untied head is not supported; OPT with a tied one is.")
    heads, hidden_size = config["num_attention_heads"], config["hidden_size"]
    norm_first = bool(config.get("do_layer_norm_before", True))
    has_final_norm = norm_first and not config.get("_remove_final_layer_norm", False)
    is_projected = (config.get("word_embed_proj_dim") or hidden_size) != hidden_size
    embedding = _AT + "embed_tokens.weight"
    return Architecture(
        family="opt",
        layers=config["num_hidden_layers"],
        hidden_size=hidden_size,
        heads=heads,
        groups=heads,
        head_size=hidden_size // heads,
        inner_size=config["ffn_dim"],
        vocabulary=config["vocab_size"],
        max_positions=min(config["max_position_embeddings"], MAX_POSITIONS),
        layer=_layer,
        embedding=embedding,
        head=embedding,
        final_norm=_AT + "final_layer_norm" if has_final_norm else None,
        layers_at=_AT + "layers.",
        has_rms_norm=False,
        norm_first=norm_first,
        is_gated=False,
        positions=_AT + "embed_positions.weight",
        position_offset=_POSITION_OFFSET,
        project_in=_AT + "project_in.weight" if is_projected else None,
        project_out=_AT + "project_out.weight" if is_projected else None,
    )

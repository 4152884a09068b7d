"""The Llama family: RMSNorm, RoPE (with llama3 scaling), GQA, SwiGLU, optional biases, tied or untied head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from greencode_lsp.engine.architecture import MAX_POSITIONS, Architecture, Layer
from greencode_lsp.errors import UnsupportedModelError


def rotation_speeds(config: Mapping[str, Any], head_size: int) -> tuple[float, ...]:
    """Return [C / 2] rotation speeds from either config layout.

    Newer folders hold `rope_parameters`; older ones `rope_theta` and `rope_scaling`. The llama3 scaling keeps fast
    rotations, divides slow ones by `factor`, and blends between the two wavelength limits.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    speeds = (theta ** -(np.arange(0, head_size, 2, dtype=np.float32) / head_size)).astype(np.float32)
    if kind == "llama3":
        factor, low, high = float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
        original = float(rope["original_max_position_embeddings"])
        wavelengths = 2 * math.pi / speeds
        smooth = np.clip((original / wavelengths - low) / (high - low), 0, 1)
        speeds = speeds * (smooth + (1 - smooth) / factor)
    elif kind != "default":
        raise UnsupportedModelError(f"The RoPE scaling {kind!r} is not supported; default and llama3 are.")
    return tuple(float(speed) for speed in speeds)


def _layer(index: int) -> Layer:
    at = f"model.layers.{index}."
    query, key, value = (f"{at}self_attn.{name}_proj" for name in "qkv")
    return Layer(
        attention_norm=at + "input_layernorm",
        qkv=(query, key, value),
        out=at + "self_attn.o_proj",
        feed_norm=at + "post_attention_layernorm",
        up=(at + "mlp.gate_proj", at + "mlp.up_proj"),
        down=at + "mlp.down_proj",
    )


def describe(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a `config.json` of `model_type` llama describes."""
    if config.get("hidden_act", "silu") != "silu":
        raise UnsupportedModelError(f"The activation {config['hidden_act']!r} is not supported in Llama; silu is.")
    heads, hidden_size = config["num_attention_heads"], config["hidden_size"]
    head_size = config.get("head_dim") or hidden_size // heads
    embedding = "model.embed_tokens.weight"
    return Architecture(
        family=str(config["model_type"]),
        layers=config["num_hidden_layers"],
        hidden_size=hidden_size,
        heads=heads,
        groups=config.get("num_key_value_heads") or heads,
        head_size=head_size,
        inner_size=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        max_positions=min(config["max_position_embeddings"], MAX_POSITIONS),
        layer=_layer,
        embedding=embedding,
        head=embedding if config.get("tie_word_embeddings") else "lm_head.weight",
        final_norm="model.norm",
        layers_at="model.layers.",
        eps=float(config.get("rms_norm_eps", 1e-6)),
        rotation_speeds=rotation_speeds(config, head_size),
    )

"""The Qwen2 family (Qwen2.5, Qwen2.5-Coder): Llama with biases on queries, keys and values; head tied or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.families import llama
from greencode_lsp.errors import UnsupportedModelError


def describe(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture that a `config.json` of `model_type` qwen2 describes; biases are found by their names."""
    if config.get("use_sliding_window"):
        raise UnsupportedModelError(
            "Qwen2 with use_sliding_window is not supported; set greencode.model to a model without it."
        )
    return llama.describe(config)

"""Small checkpoints in numpy, of each family, and a source that holds them in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from greencode_lsp.models.checks import expected
from greencode_lsp.models.weights import QuantizedBlocks

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "vocab_size": 260,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
QWEN2 = LLAMA | {"model_type": "qwen2", "tie_word_embeddings": True}
OPT: dict[str, Any] = {
    "model_type": "opt",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "ffn_dim": 64,
    "vocab_size": 260,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 8,
}
CONFIGS = {"llama": LLAMA, "qwen2": QWEN2, "opt": OPT}


def tensors_of(config: dict[str, Any], *, biases: bool = False) -> dict[str, NDArray[np.float32]]:
    """Return random tensors as the config describes them."""
    rng = np.random.default_rng(7)
    table = expected(config)
    shapes = table.required | (table.optional if biases else {})
    return {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}


def byte_tokenizer() -> dict[str, Any]:
    """Return a tokenizer.json of single bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate(characters)}, "merges": []},
    }


def write_folder(folder: Path, config: dict[str, Any]) -> Path:
    """Write a published folder of a tiny model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    save_file(tensors_of(config), folder / "model.safetensors")
    return folder


class MemorySource:
    """See `WeightSource`."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, NDArray[np.float32]]) -> None:
        self.config, self.tensors = config, tensors

    def digest(self) -> str:
        """See `WeightSource`."""
        return "0" * 64

    def fingerprint(self) -> str:
        """See `WeightSource`."""
        return "0" * 64

    def names(self) -> Iterable[str]:
        """See `WeightSource`."""
        return list(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource`."""
        return self.tensors[name].shape

    def float32(self, name: str) -> NDArray[np.float32]:
        """See `WeightSource`."""
        return self.tensors[name]

    def blocks(self, name: str, bits: int = 8) -> QuantizedBlocks | None:
        """See `WeightSource`."""
        return None

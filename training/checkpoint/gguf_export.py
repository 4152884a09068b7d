"""A Llama folder as GGUF, for benchmarks against llama.cpp on the same weights (extra `bench`).

No tokenizer goes along: the benchmarks speak ids. llama.cpp rotates neighbouring channels where Hugging Face's layout
rotates halves, so the rows of q and k are put in llama.cpp's order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.checkpoint import Weights, read_config
from greencode_lsp.errors import UnsupportedModelError
from greencode_lsp.models.gguf import LAYER_NAMES, NAMES


def export_gguf(folder: Path, out: Path, *, quantised: bool = True) -> Path:
    """Write a Llama checkpoint folder as GGUF, matrices in Q8_0 or float32; returns `out`.

    Raises UnsupportedModelError for other families and for RoPE scalings that are not plain.
    """
    import gguf  # an extra's

    config = read_config(folder)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if config.get("model_type") != "llama" or (rope.get("rope_type") or rope.get("type") or "default") != "default":
        raise UnsupportedModelError("Only Llama with plain RoPE can be written as GGUF.")
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or config["hidden_size"] // heads
    weights = Weights(folder)
    writer = gguf.GGUFWriter(str(out), "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    kind = gguf.GGMLQuantizationType.Q8_0
    for name in weights.names():
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        tensor: NDArray[Any] = weights.float32(name)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = _neighbours(tensor, heads if name.endswith("q_proj.weight") else groups)
        if quantised and tensor.ndim == 2:
            writer.add_tensor(_name(name), gguf.quants.quantize(tensor, kind), raw_dtype=kind)
        else:
            writer.add_tensor(_name(name), np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def _neighbours(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Return [heads * C, D] with each head's two halves of rows interleaved."""
    halves = rows.reshape(heads, 2, -1, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _name(name: str) -> str:
    """Return llama.cpp's name of a tensor. Raises UnsupportedModelError for one it has no place for."""
    module, _, kind = name.rpartition(".")
    if module in NAMES:
        return f"{NAMES[module]}.{kind}"
    _, _, index, layer = module.split(".", 3) if module.count(".") > 2 else ("", "", "", "")
    if layer not in LAYER_NAMES:
        raise UnsupportedModelError(f"The tensor {name} has no place in GGUF's Llama.")
    return f"blk.{index}.{LAYER_NAMES[layer]}.{kind}"

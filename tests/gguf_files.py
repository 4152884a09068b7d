"""Small GGUF files as llama.cpp's converter writes them, from models that transformers made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from greencode_lsp.models.gguf import LAYER_NAMES, NAMES

WEIGHTS_VARIABLE = "GREENCODE_TEST_WEIGHTS"
"""Names a folder of published GGUF files; tests that need one skip where it is not there."""
QWEN = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
SMOLLM = "smollm2-135m-instruct-q4_1.gguf"
SHAPE = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def published(name: str) -> Path:
    """The path of a published file, or a skipped test."""
    path = Path(os.environ.get(WEIGHTS_VARIABLE, "")) / name
    if not path.is_file():
        pytest.skip(f"{WEIGHTS_VARIABLE} names no folder with {name}")
    return path


def model(kind: str, **changes: Any) -> Any:
    """A small model of the kind with random weights, float32."""
    torch.manual_seed(3)
    made = (
        LlamaForCausalLM(LlamaConfig(**{**SHAPE, **changes}))
        if kind == "llama"
        else Qwen2ForCausalLM(Qwen2Config(**{**SHAPE, **changes}))
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (1.0 if parameter.ndim == 1 else 0.0))
    return made.eval()


def write(
    path: Path, made: Any, kind: Kind = Kind.F32, metadata: Mapping[str, int | float | str] | None = None
) -> Path:
    """Write a model as GGUF; its matrices in `kind`, where the library quantises to it."""
    config = made.config
    architecture = config.model_type
    writer = gguf.GGUFWriter(str(path), architecture)
    rope = config.rope_parameters
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    for key, value in (metadata or {}).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(key, value)
    for name, tensor in made.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = permuted(name, tensor.numpy(), config) if architecture == "llama" else tensor.numpy()
        of_this = Kind.F32 if values.ndim == 1 else kind
        writer.add_tensor(stored_name(name), gguf.quantize(values, of_this), raw_dtype=of_this)
    finish(writer)
    return path


def finish(writer: gguf.GGUFWriter) -> None:
    """Write what has been added."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stored_name(name: str) -> str:
    """The file's name of a tensor."""
    module, _, kind = name.rpartition(".")
    if module in NAMES:
        return f"{NAMES[module]}.{kind}"
    index, _, part = module.removeprefix("model.layers.").partition(".")
    return f"blk.{index}.{LAYER_NAMES[part]}.{kind}"


def permuted(name: str, values: np.ndarray[Any, Any], config: Any) -> np.ndarray[Any, Any]:
    """The order of q's and k's rows in a Llama's GGUF: neighbouring channels are rotated together."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return values
    interleaved: np.ndarray[Any, Any] = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2)
    return np.reshape(interleaved, values.shape)


def raw_matrix(path: Path, kind: Kind, rows: int, inputs: int, seed: int = 0) -> Path:
    """A small Llama whose first down projection is random bytes of `kind`, its float16 scales finite."""
    made = model("llama", intermediate_size=inputs, hidden_size=rows)
    write(path, made)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (rows * inputs // block, size), np.uint8)
    for start in scale_offsets(kind):
        data[:, start : start + 2] = rng.normal(0, 0.1, (len(data), 1)).astype("<f2").view(np.uint8)
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(str(path) + ".new", "llama")
    for field in reader.fields.values():
        if field.name.startswith("llama."):
            add = writer.add_float32 if field.types[0] == gguf.GGUFValueType.FLOAT32 else writer.add_uint32
            add(field.name, field.contents())
    for tensor in reader.tensors:
        if tensor.name == "blk.0.ffn_down.weight":
            writer.add_tensor(tensor.name, data.reshape(rows, -1), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, np.array(tensor.data))
    finish(writer)
    Path(str(path) + ".new").replace(path)
    return path


def scale_offsets(kind: Kind) -> Sequence[int]:
    """Where a block holds float16."""
    ends = {Kind.Q6_K: (208,), Kind.Q4_1: (0, 2), Kind.Q5_1: (0, 2), Kind.Q4_K: (0, 2), Kind.Q5_K: (0, 2)}
    return ends.get(kind, (0,))

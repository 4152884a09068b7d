"""Mutated GGUF files: each loads and completes, or is refused in one sentence; no crash, no hang, no growth.

`python -m tests.fuzz gguf`; a case is a number: `python -m tests.fuzz.models --gguf --first N --count 1` runs it again.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from greencode_lsp.models.gguf import LAYER_NAMES, NAMES
from greencode_lsp.models.gguf_header import read_header
from tests.tiny_models import LLAMA, QWEN2, byte_tokenizer, tensors_of

BASES: dict[str, tuple[dict[str, Any], Kind]] = {
    "llama-f32": (LLAMA, Kind.F32),
    "llama-q8_0": (LLAMA, Kind.Q8_0),
    "qwen2-q4_0": (QWEN2, Kind.Q4_0),
    "qwen2-f16": (QWEN2, Kind.F16),
}
NUMBERS = (0, 1, 2, 3, 31, 255, 2**31 - 1, 2**31, 2**32 - 1, 10**9, 2**63, 2**64 - 1)
FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e-45, 3e38)
TEXTS = ("", "\0", "a" * 5000, "../../etc/passwd", "/dev/zero", "\x1b[2J", "llama", "gpt2", "qwen2", "none", "linear")


def make_bases(home: Path) -> None:
    """Write a whole tiny model in each storage."""
    home.mkdir(parents=True, exist_ok=True)
    for name in BASES:
        write(home / f"{name}.gguf", name)


def metadata_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a model, tokenizer included."""
    kind = config["model_type"]
    vocabulary = sorted(byte_tokenizer()["model"]["vocab"], key=byte_tokenizer()["model"]["vocab"].__getitem__)
    merged, words = ["a b", "e r"], ["ab", "er"]
    controls = [f"<extra_{i}>" for i in range(config["vocab_size"] - len(vocabulary) - len(words))]
    tokens = [*vocabulary, *words, *controls]
    return {
        f"{kind}.context_length": config["max_position_embeddings"],
        f"{kind}.embedding_length": config["hidden_size"],
        f"{kind}.block_count": config["num_hidden_layers"],
        f"{kind}.feed_forward_length": config["intermediate_size"],
        f"{kind}.attention.head_count": config["num_attention_heads"],
        f"{kind}.attention.head_count_kv": config["num_key_value_heads"],
        f"{kind}.attention.key_length": config["head_dim"],
        f"{kind}.attention.value_length": config["head_dim"],
        f"{kind}.rope.freq_base": float(config["rope_theta"]),
        f"{kind}.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "general.name": "tiny",
        "general.file_type": 1,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - len(controls)) + [3] * len(controls),
        "tokenizer.ggml.merges": merged,
        "tokenizer.ggml.eos_token_id": tokens.index(controls[0]),
        "tokenizer.ggml.bos_token_id": tokens.index(controls[-1]),
        "tokenizer.ggml.add_bos_token": False,
    }


def write(
    path: Path,
    base: str,
    change: Callable[[dict[str, Any]], None] = lambda metadata: None,
    retype: Callable[[dict[str, Any]], None] = lambda tensors: None,
) -> None:
    """Write a base, its metadata and tensors changed on the way."""
    config, kind = BASES[base]
    metadata, tensors = metadata_of(config), dict(_tensors(config))
    change(metadata)
    retype(tensors)
    writer = gguf.GGUFWriter(str(path), config["model_type"])
    for key, value in metadata.items():
        _add(writer, key, value)
    for name, values in tensors.items():
        of_this = Kind.F32 if values.ndim == 1 or values.shape[-1] % 32 else kind
        with np.errstate(all="ignore"):
            writer.add_tensor(name, gguf.quantize(values, of_this), raw_dtype=of_this)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(config: dict[str, Any]) -> dict[str, Any]:
    def stored(name: str) -> str:
        module, _, kind = name.rpartition(".")
        if module in NAMES:
            return f"{NAMES[module]}.{kind}"
        index, _, part = module.removeprefix("model.layers.").partition(".")
        return f"blk.{index}.{LAYER_NAMES[part]}.{kind}"

    return {stored(name): values for name, values in tensors_of(config).items()}


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            add = writer.add_uint32 if 0 <= value < 2**32 else writer.add_uint64 if value >= 0 else writer.add_int64
            add(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list() if value:
            writer.add_array(key, value)


def mutate(home: Path, path: Path, rng: random.Random) -> str:
    """Write a mutated file; return how it was mutated."""
    base = rng.choice(tuple(BASES))
    data = bytearray((home / f"{base}.gguf").read_bytes())
    header = len(read_header(home / f"{base}.gguf").data)
    kind = rng.choice(("metadata", "metadata", "tensors", "bytes", "numbers", "numbers", "data", "cut"))
    match kind:
        case "metadata":
            write(path, base, change=lambda metadata: _mutate_metadata(metadata, rng))
            return kind
        case "tensors":
            write(path, base, retype=lambda tensors: _mutate_tensors(tensors, rng))
            return kind
        case "bytes":
            for _ in range(rng.choice((1, 1, 3, 20))):
                data[rng.randrange(header)] = rng.randrange(256)
        case "numbers":  # counts, lengths, dimensions, offsets and types are 32 or 64 bits anywhere in a header
            at, wide = _place(rng, data, header), rng.random() < 0.6
            number = rng.choice(NUMBERS)
            data[at : at + (8 if wide else 4)] = struct.pack("<Q", number)[: 8 if wide else 4]
        case "data":
            for _ in range(rng.choice((1, 5, 500))):
                at = rng.randrange(header, len(data) - 2)
                data[at : at + 2] = rng.choice((b"\x00\x7e", b"\x00\x7c", b"\xff\xff", b"\x00\x00", rng.randbytes(2)))
        case "cut":
            data = data[: rng.choice((rng.randrange(len(data)), rng.randrange(64), len(data) - 1))]
    path.write_bytes(data)
    return kind


def _place(rng: random.Random, data: bytearray, header: int) -> int:
    """Return a place of a number: at the beginning, before a name, or anywhere."""
    marks = (b"llama.", b"qwen2.", b"general.", b"tokenizer.", b"blk.", b"token_embd", b"output")
    mark = rng.choice(marks)
    found = [i for i in range(header) if data.startswith(mark, i)] if rng.random() < 0.6 else []
    if found:
        at = rng.choice(found)
        return max(8, at + rng.choice((-8, len(mark), 18, 22, 26, 30)))
    return rng.choice((4, 8, 16, 24)) if rng.random() < 0.4 else rng.randrange(header - 8)


def _mutate_metadata(metadata: dict[str, Any], rng: random.Random) -> None:
    key = rng.choice(list(metadata))
    value = metadata[key]
    if rng.random() < 0.2:
        del metadata[key]
    elif isinstance(value, list) and rng.random() < 0.7:
        at = rng.randrange(len(value))
        nasty = rng.choice(TEXTS) if isinstance(value[0], str) else rng.choice((0, 2, 9, 2**31 - 1))
        metadata[key] = rng.choice((value[:at], value + value, [*value[:at], nasty, *value[at + 1 :]]))
    else:
        metadata[key] = rng.choice((*NUMBERS, -1, *FLOATS, *TEXTS, True, [1, 2], ["a", "b"]))


def _mutate_tensors(tensors: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(list(tensors))
    values = tensors[name]
    match rng.randrange(5):
        case 0:
            del tensors[name]
        case 1:
            tensors[rng.choice(("blk.7.attn_q.weight", "blk.-1.x.weight", "blk.0.attn_q.bias", "x", "a" * 900))] = (
                values
            )
        case 2:
            tensors[name] = np.ascontiguousarray(values.T)
        case 3:
            tensors[name] = values.reshape(1, *values.shape) if values.ndim < 3 else values
        case 4:
            tensors[name] = values[: max(1, len(values) // 2)]

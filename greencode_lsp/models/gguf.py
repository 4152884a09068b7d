"""A GGUF file as a `WeightSource`: Hugging Face's names, config keys and order of rows over llama.cpp's own.

Nothing of the file stays mapped or open: one tensor is read at a time, some rows of it at a time, so that a file that
is replaced or cut while it is read ends in an error and not in a crash. Dequantisation is the `gguf` library's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import IQ4_NL, dequantize
from numpy.typing import NDArray

from greencode_lsp.errors import UnsupportedModelError
from greencode_lsp.models.gguf_header import Header, TensorRecord, damaged, read_header
from greencode_lsp.models.manifest import sha256
from greencode_lsp.models.weights import BLOCK_SIZE, QuantizedBlocks

Architecture = Literal["llama", "qwen2"]
ARCHITECTURES: tuple[Architecture, ...] = ("llama", "qwen2")
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Modules in Hugging Face's name and in GGUF's; a layer's below `model.layers.N.` and `blk.N.`."""
ROPE_FACTORS = "rope_freqs.weight"
_LLAMA3_POSITIONS, _LLAMA3_LOW, _LLAMA3_HIGH = 8192, 1.0, 4.0
"""What every Llama 3 has; the file holds what follows of it, and that is compared."""
_ROTATED = (".attn_q.", ".attn_k.")
_WEIGHTS_AT_ONCE = 4 << 20
_SAMPLE = 4096
_CENTRE = 128
_digests: dict[tuple[str, int, int, int], str] = {}


class GGUFWeights:
    """The tensors of one GGUF file. `QuantizedBlocks` are exact for Q8_0, Q5_0, Q4_0 and IQ4_NL.

    Q4_1, Q5_1, Q4_K and Q5_K add a minimum that is no whole number of steps, and Q6_K scales every 16 weights alone:
    8-bit blocks of 32 cannot hold them, so `blocks` returns None.
    """

    def __init__(self, path: Path) -> None:
        self.header: Header = read_header(path)
        self.path = path
        self._stat = _identity(path)
        self.config = config_of(self.header)
        self._stored = _hugging_face_names(self.header, int(self.config["num_hidden_layers"]))
        self._is_permuted = self.header.text("general.architecture") == "llama"

    def digest(self) -> str:
        """Return the SHA-256 of the file, as publishers state it; a second for half a gigabyte, once per process."""
        key = (str(self.path), *_identity(self.path))
        if key not in _digests:
            _digests[key] = sha256(self.path)
        return _digests[key]

    def fingerprint(self) -> str:
        """Return a SHA-256 over the header, the file's size and time, and the beginning of every tensor.

        For the names of caches: it takes milliseconds, and other weights in the same file's place have another. Only
        `digest` proves that every byte is what it was.
        """
        digest = hashlib.sha256(self.header.data)
        digest.update(repr(_identity(self.path)[:2]).encode())
        with self.path.open("rb") as file:
            for record in self.header.tensors.values():
                file.seek(record.offset)
                digest.update(file.read(min(record.size, _SAMPLE)))
        return digest.hexdigest()

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, read off the header."""
        return self._record(name).shape

    def float32(self, name: str) -> NDArray[np.float32]:
        """Return a tensor."""
        record = self._record(name)
        rows = np.empty((_rows(record), record.shape[-1]), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a damaged file may hold infinite scales
            for part, stored in self._parts(record):
                rows[part] = dequantize(stored, record.kind)
        return self._unpermuted(record, rows.reshape(record.shape))

    def blocks(self, name: str, bits: int = 8) -> QuantizedBlocks | None:
        """Return a matrix in 8-bit blocks equal to what the file holds; None if there are none, or fewer bits asked."""
        record = self._record(name)
        unpack = _UNPACK.get(record.kind)
        if unpack is None or len(record.shape) != 2 or bits < 8:
            return None
        rows, blocks = record.shape[0], record.shape[1] // BLOCK_SIZE
        values = np.empty((rows, blocks, BLOCK_SIZE), np.uint8)
        scale = np.empty((rows, blocks), np.float32)
        size = GGML_QUANT_SIZES[record.kind][1]
        for part, stored in self._parts(record):
            block = stored.reshape(-1, size)
            scale[part] = block[:, :2].copy().view("<f2").reshape(-1, blocks)
            values[part] = unpack(block[:, 2:]).reshape(-1, blocks, BLOCK_SIZE)
        values, scale = self._unpermuted(record, values), self._unpermuted(record, scale)
        return QuantizedBlocks(values, scale, np.full((rows, blocks), _CENTRE, np.uint8))

    def _record(self, name: str) -> TensorRecord:
        if name not in self._stored:
            raise damaged(self.path, f"it lacks the tensor {name}")
        return self.header.tensors[self._stored[name]]

    def _parts(self, record: TensorRecord) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Yield some rows at a time as the bytes [rows, row's bytes] that the file holds of them."""
        rows = _rows(record)
        row_size = record.size // rows
        step = max(1, _WEIGHTS_AT_ONCE // record.shape[-1])
        try:
            with self.path.open("rb") as file:
                if _identity(self.path) != self._stat:
                    raise damaged(self.path, "it changed while it was read")
                file.seek(record.offset)
                for start in range(0, rows, step):
                    count = min(step, rows - start)
                    data = file.read(count * row_size)
                    if len(data) != count * row_size:
                        raise damaged(self.path, f"cut short inside {record.name}")
                    yield slice(start, start + count), np.frombuffer(data, np.uint8).reshape(count, row_size)
        except OSError as error:
            raise damaged(self.path, str(error)) from error

    def _unpermuted(self, record: TensorRecord, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows in Hugging Face's order: llama.cpp rotates neighbours in Llama, others halves."""
        if not self._is_permuted or not any(mark in record.name for mark in _ROTATED):
            return rows
        heads = self.config["num_attention_heads" if _ROTATED[0] in record.name else "num_key_value_heads"]
        pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
        return np.reshape(pairs.swapaxes(1, 2), rows.shape)


def config_of(header: Header) -> dict[str, Any]:
    """Return what the metadata says of the architecture under the keys of a `config.json`.

    Raises UnsupportedModelError for other families and for what these are not built with, ModelDamagedError where a
    size is missing.
    """
    kind = header.text("general.architecture")
    if kind not in ARCHITECTURES:
        known = " and ".join(ARCHITECTURES)
        raise UnsupportedModelError(
            f"{header.path} is of the family {kind!r}; {known} are supported. Set greencode.model to one of those."
        )

    def count(key: str, default: int | None = None) -> int:
        value = header.number(f"{kind}.{key}", default)
        if value is None or value != int(value) or not 0 < value < 1 << 31:
            raise damaged(header.path, f"{kind}.{key} is {value}")
        return int(value)

    hidden, heads = count("embedding_length"), count("attention.head_count")
    head_dim = count("attention.key_length", max(1, hidden // heads))
    _refuse_variants(header, kind, head_dim)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise damaged(header.path, "it lacks the tensor token_embd.weight")
    theta = float(header.number(f"{kind}.rope.freq_base", 10_000.0) or 10_000.0)
    return {
        "model_type": kind,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": count("feed_forward_length"),
        "num_hidden_layers": count("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": count("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": count("context_length"),
        "rms_norm_eps": float(header.number(f"{kind}.attention.layer_norm_rms_epsilon", 1e-6) or 1e-6),
        "rope_theta": theta,
        "rope_scaling": _rope_scaling(header, theta, head_dim),
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "use_sliding_window": False,
        "vocab_size": embedding.shape[0],
    }


def _refuse_variants(header: Header, kind: str, head_dim: int) -> None:
    """Raise UnsupportedModelError, by name, for what the engine would silently compute otherwise."""
    refused = {
        "a mixture of experts": header.number(f"{kind}.expert_count", 0),
        "a sliding window": header.number(f"{kind}.attention.sliding_window", 0),
        "values of another size than its keys": header.number(f"{kind}.attention.value_length", head_dim) != head_dim,
        "a rotation of a part of its heads": header.number(f"{kind}.rope.dimension_count", head_dim) != head_dim,
    }
    for what, is_there in refused.items():
        if is_there:
            raise UnsupportedModelError(f"{header.path} has {what}, which is not supported; set greencode.model.")
    scaling = header.text(f"{kind}.rope.scaling.type") or "none"
    if scaling != "none":
        raise UnsupportedModelError(f"The RoPE scaling {scaling!r} of {header.path} is not supported; llama3's is.")


def _rope_scaling(header: Header, theta: float, head_dim: int) -> dict[str, Any] | None:
    """Return Llama 3's scaling where the file holds its factors [C / 2], None where it holds none."""
    record = header.tensors.get(ROPE_FACTORS)
    if record is None:
        return None
    with header.path.open("rb") as file:
        file.seek(record.offset)
        stored = np.frombuffer(file.read(record.size), "<f4") if record.kind == GGMLQuantizationType.F32 else None
    if stored is None or stored.shape != (head_dim // 2,):
        raise damaged(header.path, f"{ROPE_FACTORS} has the shape {record.shape}")
    factor = float(stored.max())
    wavelengths = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((_LLAMA3_POSITIONS / wavelengths - _LLAMA3_LOW) / (_LLAMA3_HIGH - _LLAMA3_LOW), 0, 1)
    if not np.allclose(1 / (smooth + (1 - smooth) / factor), stored, rtol=1e-4):
        raise UnsupportedModelError(f"The RoPE scaling of {header.path} is not supported; llama3's is.")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LLAMA3_LOW,
        "high_freq_factor": _LLAMA3_HIGH,
        "original_max_position_embeddings": _LLAMA3_POSITIONS,
    }


def _hugging_face_names(header: Header, layers: int) -> dict[str, str]:
    """Return name -> the file's own name. Raises UnsupportedModelError for a tensor that has no place here."""
    of_module = {stored: name for name, stored in NAMES.items()}
    of_layer = {stored: name for name, stored in LAYER_NAMES.items()}
    stored_names: dict[str, str] = {}
    for stored in header.tensors:
        if stored == ROPE_FACTORS:
            continue
        module, _, kind = stored.rpartition(".")
        name = of_module.get(module)
        if module.startswith("blk."):
            index, _, part = module.removeprefix("blk.").partition(".")
            if part in of_layer and index.isascii() and index.isdecimal() and int(index) < layers:
                name = f"model.layers.{int(index)}.{of_layer[part]}"
        if name is None or kind not in ("weight", "bias"):
            raise UnsupportedModelError(f"{header.path} holds {stored}, which its family does not have here.")
        stored_names[f"{name}.{kind}"] = stored
    return stored_names


def _identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _rows(record: TensorRecord) -> int:
    return int(np.prod(record.shape[:-1], dtype=np.int64)) if len(record.shape) > 1 else 1


def _nibbles(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return [n, 32] from [n, 16]: the low halves first."""
    return np.concatenate([packed & np.uint8(0x0F), packed >> np.uint8(4)], axis=1)


def _q8_0(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.bitwise_xor(stored, _CENTRE, dtype=np.uint8)  # int8 + 128


def _q5_0(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    high = np.unpackbits(stored[:, :4], axis=1, bitorder="little") << np.uint8(4)
    values: NDArray[np.uint8] = _nibbles(stored[:, 4:]) | high
    return np.add(values, _CENTRE - 16, dtype=np.uint8)


def _q4_0(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.add(_nibbles(stored), _CENTRE - 8, dtype=np.uint8)


_IQ4_NL_VALUES: NDArray[np.uint8] = (np.array(IQ4_NL.kvalues, np.int16) + _CENTRE).astype(np.uint8)


def _iq4_nl(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.take(_IQ4_NL_VALUES, _nibbles(stored))


_UNPACK: dict[GGMLQuantizationType, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    GGMLQuantizationType.Q8_0: _q8_0,
    GGMLQuantizationType.Q5_0: _q5_0,
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.IQ4_NL: _iq4_nl,
}
"""From a block's bytes behind its float16 scale to values about 128, which need no zero points in a product."""

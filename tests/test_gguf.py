"""A GGUF file enters as the weights it holds, or as one sentence that says what to do."""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from greencode_lsp.engine.load import load_engine
from greencode_lsp.errors import GreenCodeError, ModelDamagedError, ModelNotFoundError, UnsupportedModelError
from greencode_lsp.models import gguf_header
from greencode_lsp.models.checks import CheckedWeights
from greencode_lsp.models.gguf import GGUFWeights
from greencode_lsp.models.manifest import sha256
from greencode_lsp.records import FixedControl
from tests import gguf_files

DOWN = "model.layers.0.mlp.down_proj.weight"
EXACT = (Kind.Q8_0, Kind.Q5_0, Kind.Q4_0, Kind.IQ4_NL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return gguf_files.write(tmp_path / "m.gguf", gguf_files.model("llama"))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_file_gives_back_the_weights_that_went_into_it(tmp_path: Path, kind: str, tied: bool) -> None:
    made = gguf_files.model(kind, tie_word_embeddings=tied)
    weights = GGUFWeights(gguf_files.write(tmp_path / "m.gguf", made))
    expected = {n: t for n, t in made.state_dict().items() if not (tied and n == "lm_head.weight")}
    assert set(weights.names()) == set(expected)
    for name, tensor in expected.items():
        assert weights.shape(name) == tuple(tensor.shape)
        assert np.array_equal(weights.float32(name), tensor.numpy()), name


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_config_is_the_one_that_transformers_wrote(tmp_path: Path, kind: str) -> None:
    config = gguf_files.model(kind, rope_theta=5000.0).config
    found = GGUFWeights(gguf_files.write(tmp_path / "m.gguf", gguf_files.model(kind))).config
    for key in (*gguf_files.SHAPE, "model_type", "tie_word_embeddings", "hidden_act"):
        assert found[key] == getattr(config, key), key
    assert found["rms_norm_eps"] == pytest.approx(config.rms_norm_eps)
    assert found["head_dim"] == config.hidden_size // config.num_attention_heads


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_transformers_computes_the_same_from_the_config_and_weights_of_the_file(tmp_path: Path, kind: str) -> None:
    made = gguf_files.model(kind)
    weights = GGUFWeights(gguf_files.write(tmp_path / "m.gguf", made))
    again = type(made)(type(made.config)(**weights.config))
    again.load_state_dict({name: torch.from_numpy(weights.float32(name)) for name in weights.names()})
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(again.eval()(ids).logits, made(ids).logits, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("stored", [Kind.F32, Kind.Q8_0, Kind.Q5_0])
def test_the_engine_continues_as_transformers_does_on_the_dequantised_weights(
    tmp_path: Path, kind: str, stored: Kind
) -> None:
    made = gguf_files.model(kind)
    path = gguf_files.write(tmp_path / "m.gguf", made, stored)
    weights = GGUFWeights(path)
    made.load_state_dict({name: torch.from_numpy(weights.float32(name)) for name in weights.names()})
    prompt = list(range(3, 40))
    expected = made.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    engine = load_engine(path, "cpu", "float32")
    steps = engine.generate(prompt, FixedControl(), max_new_tokens=12)
    assert [step.token_id for step in steps] == expected[0, len(prompt) :].tolist()


def test_llama3_rope_scaling_is_read_off_its_factors(tmp_path: Path) -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    turns = 8192 / (2 * np.pi * 10_000.0 ** (np.arange(0, 16, 2) / 16))
    smooth = np.clip((turns - 1) / 3, 0, 1)
    factors = (1 / (smooth + (1 - smooth) / 8)).astype(np.float32)

    def write(factors: np.ndarray[Any, Any]) -> GGUFWeights:
        made = gguf_files.model("llama")
        source = gguf_files.write(tmp_path / "plain.gguf", made)
        reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama")
        for field in reader.fields.values():
            if field.name.startswith("llama."):
                add = writer.add_float32 if field.types[0] == gguf.GGUFValueType.FLOAT32 else writer.add_uint32
                add(field.name, field.contents())
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.add_tensor("rope_freqs.weight", factors)
        gguf_files.finish(writer)
        return GGUFWeights(tmp_path / "m.gguf")

    found = write(factors).config["rope_scaling"]
    assert found == {"rope_type": "llama3", "original_max_position_embeddings": 8192, **scaling}
    with pytest.raises(UnsupportedModelError, match="RoPE scaling"):
        write(np.arange(1.0, 9.0, dtype=np.float32))


@pytest.mark.parametrize("kind", EXACT)
def test_blocks_are_bit_for_bit_what_the_library_dequantises(tmp_path: Path, kind: Kind) -> None:
    weights = GGUFWeights(gguf_files.raw_matrix(tmp_path / "m.gguf", kind, 32, 96))
    blocks = weights.blocks(DOWN)
    assert blocks is not None
    assert np.array_equal(blocks.float32(), weights.float32(DOWN))
    assert (blocks.zero == 128).all()


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q5_0, Kind.Q4_0])
def test_blocks_of_rotated_rows_are_in_the_same_order_as_floats(tmp_path: Path, kind: Kind) -> None:
    weights = GGUFWeights(gguf_files.write(tmp_path / "m.gguf", gguf_files.model("llama"), kind))
    for name in ("q_proj", "k_proj", "o_proj"):
        blocks = weights.blocks(f"model.layers.1.self_attn.{name}.weight")
        assert blocks is not None
        assert np.array_equal(blocks.float32(), weights.float32(f"model.layers.1.self_attn.{name}.weight"))


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q4_1, Kind.Q5_1, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K])
def test_what_8_bits_cannot_hold_comes_as_floats_alone(tmp_path: Path, kind: Kind) -> None:
    path = gguf_files.raw_matrix(tmp_path / "m.gguf", kind, 32, 256)
    weights = GGUFWeights(path)
    assert weights.blocks(DOWN) is None
    stored = next(t for t in gguf.GGUFReader(path).tensors if t.name == "blk.0.ffn_down.weight")
    expected = gguf.dequantize(stored.data.view(np.uint8), kind)
    assert np.array_equal(weights.float32(DOWN), expected, equal_nan=True)


def test_the_digest_is_the_publishers_and_the_fingerprint_tells_other_weights(path: Path) -> None:
    weights = GGUFWeights(path)
    assert weights.digest() == sha256(path)
    before = weights.fingerprint()
    assert GGUFWeights(path).fingerprint() == before
    data, time_ns = bytearray(path.read_bytes()), path.stat().st_mtime_ns
    data[next(iter(weights.header.tensors.values())).offset] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(time_ns, time_ns))  # a restored time does not hide it
    assert GGUFWeights(path).fingerprint() != before


def test_a_header_longer_than_the_first_read_is_read_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_header, "FIRST_READ", 50)
    assert len(GGUFWeights(path).names()) == 21


def test_a_file_that_changes_under_its_reader_is_an_error(path: Path) -> None:
    weights = GGUFWeights(path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ModelDamagedError, match="changed"):
        weights.float32("lm_head.weight")


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def text(value: str) -> bytes:
    return u64(len(value)) + value.encode()


def header(keys: bytes = b"", tensors: bytes = b"", *, counts: tuple[int, int] = (0, 0), version: int = 3) -> bytes:
    return b"GGUF" + u32(version) + u64(counts[0]) + u64(counts[1]) + keys + tensors


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(kind) + u64(offset)


def replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert data.count(old) >= 1, "the damage must hit"
        return data.replace(old, new, 1)

    return change


HUGE = 10**18
DAMAGED = {
    "empty": b"",
    "only its magic": b"GGUF",
    "another format": b"PK\3\4" + bytes(100),
    "10^18 tensors": header(counts=(HUGE, 0)),
    "10^18 keys": header(counts=(0, HUGE)),
    "keys that are not there": header(counts=(0, 9999)),
    "tensors that are not there": header(counts=(9999, 0)),
    "a key of 10^18 bytes": header(u64(HUGE), counts=(0, 1)),
    "a string of 10^18 bytes": header(text("a") + u32(8) + u64(HUGE), counts=(0, 1)),
    "a list of 10^18 strings": header(text("a") + u32(9) + u32(8) + u64(HUGE), counts=(0, 1)),
    "a list of 10^6 strings, none there": header(text("a") + u32(9) + u32(8) + u64(10**6), counts=(0, 1)),
    "a list with one string of 10^18 bytes": header(
        text("a") + u32(9) + u32(8) + u64(2) + u64(HUGE), bytes(99), counts=(0, 1)
    ),
    "a list of 10^18 numbers": header(text("a") + u32(9) + u32(4) + u64(HUGE), counts=(0, 1)),
    "a key of an unknown type": header(text("a") + u32(99), counts=(0, 1)),
    "a key twice": header(2 * (text("a") + u32(4) + u32(1)), counts=(0, 2)),
    "an alignment of 3": header(text("general.alignment") + u32(4) + u32(3), counts=(0, 1)),
    "an alignment of 0": header(text("general.alignment") + u32(4) + u32(0), counts=(0, 1)),
    "an alignment that is a word": header(text("general.alignment") + u32(8) + text("x"), counts=(0, 1)),
    "a tensor of 10^9 dimensions": header(b"", text("t") + u32(10**9), counts=(1, 0)),
    "a tensor whose size overflows": header(b"", tensor("t", (2**63, 2**63, 4), 0, 0), counts=(1, 0)),
    "a tensor of 10^18 rows": header(b"", tensor("t", (32, HUGE), 8, 0), counts=(1, 0)),
    "a tensor of no rows": header(b"", tensor("t", (32, 0), 8, 0), counts=(1, 0)),
    "a tensor of part of a block": header(b"", tensor("t", (33,), 8, 0), counts=(1, 0)),
    "a tensor behind the end": header(b"", tensor("t", (32,), 0, HUGE), counts=(1, 0)),
    "tensors that overlap": header(b"", 2 * tensor("t", (8,), 0, 0), counts=(2, 0)) + bytes(200),
}
UNSUPPORTED = {
    "a newer version": header(version=4),
    "an older version": header(version=1),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 1, 1),
    "lists in lists": header(text("a") + u32(9) + u32(9) + u64(HUGE), counts=(0, 1)),
    "an unknown tensor type": header(b"", tensor("t", (32,), 999, 0), counts=(1, 0)) + bytes(500),
    "another family": header(text("general.architecture") + u32(8) + text("mamba"), counts=(0, 1)),
    "no family": header(),
    "one part of several": header(text("split.count") + u32(2) + struct.pack("<H", 3), counts=(0, 1)),
}


@pytest.mark.parametrize("name", [*DAMAGED, *UNSUPPORTED])
def test_a_header_that_cannot_be_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(DAMAGED[name] if name in DAMAGED else UNSUPPORTED[name])
    with pytest.raises(ModelDamagedError if name in DAMAGED else UnsupportedModelError) as raised:
        GGUFWeights(path)
    assert str(path) in str(raised.value)


CHANGES: dict[str, tuple[Callable[[bytes], bytes], type[GreenCodeError]]] = {
    "cut in its weights": (lambda data: data[:-1000], ModelDamagedError),
    "no layers": (
        replace(b"llama.block_count" + u32(4) + u32(2), b"llama.block_count" + u32(4) + u32(0)),
        ModelDamagedError,
    ),
    "fewer layers than weights": (
        replace(b"llama.block_count" + u32(4) + u32(2), b"llama.block_count" + u32(4) + u32(1)),
        UnsupportedModelError,
    ),
    "more layers than weights": (
        replace(b"llama.block_count" + u32(4) + u32(2), b"llama.block_count" + u32(4) + u32(2**31 - 1)),
        UnsupportedModelError,
    ),
    "another width": (
        replace(b"llama.embedding_length" + u32(4) + u32(64), b"llama.embedding_length" + u32(4) + u32(32)),
        ModelDamagedError,
    ),
    "a size that is infinite": (
        replace(b"llama.block_count" + u32(4) + u32(2), b"llama.block_count" + u32(6) + struct.pack("<f", math.inf)),
        ModelDamagedError,
    ),
    "a base that is no number": (
        lambda data: re.sub(rb"(?s)(llama.rope.freq_base.{4}).{4}", lambda m: m[1] + struct.pack("<f", math.nan), data),
        ModelDamagedError,
    ),
    "a missing size": (replace(b"llama.block_count", b"llama.block_xount"), ModelDamagedError),
    "a size that is a float": (
        replace(b"llama.block_count" + u32(4) + u32(2), b"llama.block_count" + u32(6) + struct.pack("<f", 2.5)),
        ModelDamagedError,
    ),
    "a tensor nobody knows": (replace(b"blk.0.ffn_gate.weight", b"blk.0.ffn_gats.weight"), UnsupportedModelError),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_contradicts_itself_is_one_sentence(path: Path, name: str) -> None:
    change, error = CHANGES[name]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(error, match=r"\A[^\n]*\Z"):
        CheckedWeights(GGUFWeights(path))


@pytest.mark.parametrize("length", [*range(0, 1600, 37), -5000, -1])
def test_a_file_cut_anywhere_is_damaged(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelDamagedError, match="damaged"):
        GGUFWeights(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("expert_count", 8),
        ("attention.sliding_window", 64),
        ("attention.value_length", 8),
        ("rope.dimension_count", 8),
        ("rope.scaling.type", "yarn"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused_by_name(tmp_path: Path, key: str, value: int | str) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("llama"), metadata={f"llama.{key}": value})
    with pytest.raises(UnsupportedModelError):
        GGUFWeights(path)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "loop.gguf").symlink_to(tmp_path / "loop.gguf")
    for name in ("pipe.gguf", "loop.gguf", "none.gguf", "."):
        with pytest.raises(ModelNotFoundError):
            GGUFWeights(tmp_path / name)


def test_a_published_file_is_the_one_its_publisher_states() -> None:
    weights = GGUFWeights(gguf_files.published(gguf_files.QWEN))
    assert weights.digest() == "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
    assert weights.config["vocab_size"] == 151936
    for part in ("self_attn.q_proj", "mlp.gate_proj"):
        name = f"model.layers.7.{part}.weight"
        blocks = weights.blocks(name)
        assert blocks is not None
        assert np.array_equal(blocks.float32(), weights.float32(name))


def test_a_store_may_name_a_file_by_its_digest(path: Path) -> None:
    blob = path.rename(path.with_name("sha256-" + sha256(path)))
    tokens = [step.token_id for step in load_engine(blob, "cpu").generate([5, 6], FixedControl(), max_new_tokens=2)]
    assert len(tokens) == 2

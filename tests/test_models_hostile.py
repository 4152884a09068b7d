"""What a model folder holds that is no file, or of a size that cannot be, is refused at once, in one sentence."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from greencode_lsp.completion.backend import load_backend
from greencode_lsp.engine.load import load_engine
from greencode_lsp.errors import GreenCodeError, HubError, ModelDamagedError
from greencode_lsp.models.contents import read_object
from greencode_lsp.models.hub import HubFile
from greencode_lsp.models.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.settings import Settings
from tests.tiny_models import LLAMA, OPT, byte_tokenizer, tensors_of, write_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, devices and FIFOs as POSIX has them")
FILES = ("config.json", "tokenizer.json", "model.safetensors", MANIFEST_NAME, "agent.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "model", LLAMA)
    save_file({"w1": np.zeros((2, 2), np.float32)}, tmp_path / "model" / "agent.safetensors")
    write_manifest(tmp_path / "model", Manifest("tiny", "llama", (2,)))
    return tmp_path / "model"


def load(folder: Path) -> None:
    CodeTokenizer.from_folder(folder)
    load_engine(folder, "cpu", "float32")


def listing(folder: Path, **files: str) -> None:
    data = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(json.dumps(data | {"files": data["files"] | files}))


def test_a_tiny_model_loads(tmp_path: Path) -> None:
    load(write_folder(tmp_path / "model", LLAMA))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["fifo", "device", "link out", "folder", "huge"])
def test_a_file_that_is_none_is_refused_at_once(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link out":
        path.symlink_to("/etc/passwd")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(1 << 41)  # a hole: takes no room
    with pytest.raises(GreenCodeError) as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["/dev/zero", "../../etc/passwd", "..", "", "a/b", "C:\\x", "a\0b"])
def test_a_manifest_that_lists_a_path_is_refused(folder: Path, name: str) -> None:
    listing(folder, **{name: "0" * 64})
    with pytest.raises(ModelDamagedError, match="no plain file name"):
        read_manifest(folder)


def test_a_manifest_does_not_tell_whether_a_file_outside_exists(folder: Path) -> None:
    notices = []
    for target in ("/etc/passwd", "/etc/no-such-file"):
        (folder / "extra").unlink(missing_ok=True)
        (folder / "extra").symlink_to(target)
        listing(folder, extra="0" * 64)
        with pytest.raises(ModelDamagedError) as error:
            read_manifest(folder)
        notices.append(str(error.value))
    assert notices[0] == notices[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "\x1b[2J"},
        {"name": ["a"]},
        {"name": "n" * 10_000},
        {"languages": ["py\nthon"]},
        {"exits": [10**9]},
        {"exits": [True]},
        {"exit_policy": None},
        {"fim": {"prefix": 5}},
        {"format_version": "1"},
        {"head_layers": float("nan")},
        {"cost_curve": {"1": float("inf")}},
        {"calibration": {"python": {"agent": [{"threshold": "0.5"}]}}},
        {"calibration": {"python": {"agent": "rows"}}},
        {"files": {"config.json": 5}},
    ],
)
def test_a_manifest_with_a_field_of_another_kind_is_damaged(folder: Path, changes: dict[str, Any]) -> None:
    data = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(json.dumps(data | changes))
    with pytest.raises(ModelDamagedError) as error:
        read_manifest(folder)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", [b"[" * 200_000, b"\xff\xfe", b'{"a":' * 100_000, b"9" * 100_000])
def test_json_of_any_kind_is_read_or_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ModelDamagedError, match="cannot be read"):
        read_object(tmp_path, "config.json")


def test_a_vocabulary_id_of_hundreds_of_millions_takes_no_memory(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer["model"]["vocab"]["!"] = 400_000_000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelDamagedError, match="400000000"):
        CodeTokenizer.from_folder(folder)


@pytest.mark.parametrize(
    "key", ["head_dim", "num_hidden_layers", "vocab_size", "max_position_embeddings", "hidden_size"]
)
def test_a_config_of_a_billion_is_refused_at_once(tmp_path: Path, key: str) -> None:
    folder = write_folder(tmp_path / "model", LLAMA)
    (folder / "config.json").write_text(json.dumps(LLAMA | {key: 10**9}))
    begun_s = time.process_time()
    with pytest.raises(GreenCodeError, match=key):
        load(folder)
    assert time.process_time() - begun_s < 5  # it took minutes, or all memory


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_weights_with_a_nan_do_not_load(tmp_path: Path, precision: str) -> None:
    folder, tensors = write_folder(tmp_path / "model", LLAMA), tensors_of(LLAMA)
    tensors["model.layers.0.mlp.down_proj.weight"][0, 0] = np.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelDamagedError, match=r"NaN or infinity in model\.layers\.0\.mlp\.down_proj\.weight"):
        load_engine(folder, "cpu", precision)


def test_weights_of_whole_numbers_do_not_load(tmp_path: Path) -> None:
    folder, tensors = write_folder(tmp_path / "model", LLAMA), tensors_of(LLAMA)
    save_file({name: tensor.astype(np.int64) for name, tensor in tensors.items()}, folder / "model.safetensors")
    with pytest.raises(ModelDamagedError, match="int64"):
        load_engine(folder, "cpu", "float32")


@pytest.mark.parametrize("scale", [(1,), (10**6,), (32, 1)])
def test_int8_rows_with_other_scales_do_not_load(tmp_path: Path, scale: tuple[int, ...]) -> None:
    folder, tensors = write_folder(tmp_path / "model", LLAMA), dict[str, Any](tensors_of(LLAMA))
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors |= {name: np.ones((32, 32), np.int8), name + ".scale": np.ones(scale, np.float32)}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelDamagedError, match="other scales"):
        load_engine(folder, "cpu", "int8")


@pytest.mark.parametrize("changed", [{".scale": (32, 2)}, {".zero": (32, 2)}, {"": (32, 1, 17)}, {"": (31, 1, 16)}])
def test_four_bits_of_other_shapes_do_not_load(tmp_path: Path, changed: dict[str, tuple[int, ...]]) -> None:
    folder, tensors = write_folder(tmp_path / "model", LLAMA), dict[str, Any](tensors_of(LLAMA))
    name, shapes = "model.layers.0.self_attn.q_proj.weight", {"": (32, 1, 16), ".scale": (32, 1), ".zero": (32, 1)}
    tensors |= {name + end: np.ones(shape, np.uint8) for end, shape in (shapes | changed).items()}
    tensors[name + ".scale"] = tensors[name + ".scale"].astype(np.float16)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelDamagedError, match=r"other scales|other blocks|shape"):
        load_engine(folder, "cpu", "int8")


@pytest.mark.parametrize(
    "changes", [{"w1": (4096, 16)}, {"w1": (8, 34)}, {"w3": (10**5,)}, {"w2": (4, 9)}, {"b3": (2,)}, {"nan": ()}]
)
def test_an_agent_of_other_shapes_or_numbers_does_not_load(tmp_path: Path, changes: dict[str, tuple[int, ...]]) -> None:
    folder = write_folder(tmp_path / "model", LLAMA)
    shapes: dict[str, tuple[int, ...]] = {"w1": (8, 35), "b1": (8,), "w2": (4, 8), "b2": (4,), "w3": (4,), "b3": (1,)}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in (shapes | changes).items()}
    if "nan" in changes:
        tensors["w2"][0, 0] = np.nan
    save_file(tensors, folder / "agent.safetensors", {"exits": "[1, 2]"})
    write_manifest(folder, Manifest("tiny", "llama", (1, 2)))
    with pytest.raises(ModelDamagedError, match="agent"):
        load_engine(folder, "cpu", "float32")


def test_a_hub_that_sends_more_than_it_lists_is_cut_off(tmp_path: Path) -> None:
    from greencode_lsp.models.hugging_face import BoundedStream

    with (tmp_path / "part").open("ab") as stream:
        bounded = BoundedStream(stream, HubFile("model.safetensors", 10, None, None))
        bounded.write(b"12345678")
        with pytest.raises(HubError, match=r"more of model\.safetensors"):
            bounded.write(b"9" * 1_000_000)
    assert (tmp_path / "part").stat().st_size == 0


def test_a_tokenizer_of_more_tokens_than_the_model_has_does_not_load(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer["model"]["vocab"]["d"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / MANIFEST_NAME).unlink()
    (folder / "agent.safetensors").unlink()
    with pytest.raises(ModelDamagedError, match="5001 tokens and the model knows 260"):
        load_backend(Settings(model=str(folder), device="cpu", precision="float32"))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_embedding_narrower_than_a_block_is_read_as_it_is(tmp_path: Path, precision: str) -> None:
    load_engine(write_folder(tmp_path / "model", OPT), "cpu", precision)

"""`greencode.json`: it round-trips, and what is wrong with a folder is said in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError
from greencode_lsp.models.manifest import MANIFEST_NAME, CalibrationRow, Manifest, read_manifest, sha256, write_manifest

MANIFEST = Manifest(
    name="mini-1",
    family="llama",
    exits=(4, 8, 12, 20),
    languages=("python",),
    fim={"suffix": "<|fim_suffix|>", "prefix": "<|fim_prefix|>"},
    exit_policy="agent",
    calibration={"python": {"agent": (CalibrationRow(0.25, 0.99, 0.98, 11.5, 0.6, 0.7),)}},
    cost_curve={1: 1.0, 8: 1.75},
    head_layers=1.5,
    training={"commit": "abc"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two files and its manifest."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)))
    write_manifest(tmp_path, MANIFEST)
    return tmp_path


def edit(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_manifest_reads_back_as_it_was_written(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest is not None
    files = {name: sha256(folder / name) for name in ("config.json", "model.safetensors")}
    assert manifest == Manifest(**{name: getattr(MANIFEST, name) for name in MANIFEST.__slots__} | {"files": files})


def test_the_manifest_lists_every_file_but_itself_and_leaves_no_other_behind(folder: Path) -> None:
    write_manifest(folder, MANIFEST)
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", MANIFEST_NAME}


def test_a_plain_hugging_face_folder_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


def test_a_missing_folder_names_the_setting_to_fix(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"greencode\.model"):
        read_manifest(tmp_path / "nowhere")


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"lacks model\.safetensors"):
        read_manifest(folder)


def test_one_changed_byte_is_found_by_its_sha_256(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[17] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelDamagedError, match=r"model\.safetensors is damaged .*SHA-256"):
        read_manifest(folder)


def test_without_verification_the_bytes_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"other")
    assert read_manifest(folder, verify=False) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "x"}', "null"])
def test_a_manifest_that_cannot_be_read_is_damaged(folder: Path, text: str) -> None:
    (folder / MANIFEST_NAME).write_text(text)
    with pytest.raises(ModelDamagedError, match="cannot be read"):
        read_manifest(folder)


def test_an_unknown_key_is_damaged(folder: Path) -> None:
    edit(folder, colour="green")
    with pytest.raises(ModelDamagedError, match="colour"):
        read_manifest(folder)


def test_a_newer_format_asks_for_an_update(folder: Path) -> None:
    edit(folder, format_version=2)
    with pytest.raises(ModelDamagedError, match="update greencode-lsp"):
        read_manifest(folder)


def test_the_sha_256_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

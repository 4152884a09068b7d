"""Whatever is wrong with a model folder is one sentence that says what to fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.engine.load import load_engine, pick_device
from greencode_lsp.errors import (
    DeviceError,
    GreenCodeError,
    ModelDamagedError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from greencode_lsp.models.manifest import MANIFEST_NAME, Manifest, write_manifest
from tests import reference


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return reference.save(reference.llama(), tmp_path / "model")


def with_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    write_manifest(folder, Manifest(name="random", family="llama", exits=reference.EXITS))


def with_manifest(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).rename(folder.with_suffix(".gone"))


def flip_a_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def config_is_a_list(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()
    (folder / "config.json").write_text("[]")


ROW = {
    "threshold": 0.0,
    "agreement": 1.0,
    "agreement_lower_95": 1.0,
    "mean_exit_layer": 1.0,
    "layer_equivalents_ratio": 1.0,
    "early_share": 0.0,
}
DAMAGES: dict[str, tuple[Callable[[Path], object], type[GreenCodeError]]] = {
    "no weights": (remove("model.safetensors"), ModelNotFoundError),
    "no config": (remove("config.json"), ModelNotFoundError),
    "one flipped byte": (flip_a_byte, ModelDamagedError),
    "config is a list": (config_is_a_list, ModelDamagedError),
    "no heads": (lambda f: with_config(f, num_attention_heads=0, head_dim=None), ModelDamagedError),
    "heads that do not divide": (lambda f: with_config(f, num_attention_heads=3, head_dim=None), ModelDamagedError),
    "positions are a word": (lambda f: with_config(f, max_position_embeddings="abc"), ModelDamagedError),
    "fewer layers than weights": (lambda f: with_config(f, num_hidden_layers=2), ModelDamagedError),
    "more layers than weights": (lambda f: with_config(f, num_hidden_layers=9), ModelDamagedError),
    "another family": (lambda f: with_config(f, model_type="gpt2"), UnsupportedModelError),
    "another activation": (lambda f: with_config(f, hidden_act="gelu"), UnsupportedModelError),
    "no exits": (lambda f: with_manifest(f, exits=[]), ModelDamagedError),
    "exits beyond the depth": (lambda f: with_manifest(f, exits=[1, 9]), ModelDamagedError),
    "files are a list": (lambda f: with_manifest(f, files=[]), ModelDamagedError),
    "unlisted files": (lambda f: with_manifest(f, files={}), ModelDamagedError),
    "fim is a list": (lambda f: with_manifest(f, fim=[]), ModelDamagedError),
    "an unknown key": (lambda f: with_manifest(f, colour="green"), ModelDamagedError),
    "a later format": (lambda f: with_manifest(f, format_version=99), ModelDamagedError),
    "no JSON": (lambda f: (f / MANIFEST_NAME).write_text("{"), ModelDamagedError),
    "calibrated for an agent it lacks": (
        lambda f: with_manifest(f, calibration={"python": {"agent": [ROW]}}),
        ModelDamagedError,
    ),
}


@pytest.mark.parametrize(("damage", "error"), DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_folder_is_one_sentence(
    folder: Path, damage: Callable[[Path], object], error: type[GreenCodeError]
) -> None:
    damage(folder)
    with pytest.raises(error) as caught:
        load_engine(folder, "cpu", "float32")
    assert "\n" not in str(caught.value)


def test_a_missing_folder_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"greencode\.model"):
        load_engine(tmp_path / "nowhere", "cpu", "float32")


def test_an_unsupported_family_names_those_that_are(folder: Path) -> None:
    with_config(folder, model_type="gpt2")
    with pytest.raises(UnsupportedModelError, match=r"gpt2.*llama, qwen2, opt"):
        load_engine(folder, "cpu", "float32")


def test_opt_with_an_untied_head_is_refused(tmp_path: Path) -> None:
    folder = reference.save(reference.opt(), tmp_path)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": False}))
    (folder / MANIFEST_NAME).unlink()
    with pytest.raises(UnsupportedModelError, match="untied"):
        load_engine(folder, "cpu", "float32")


def test_an_unknown_device_names_the_setting() -> None:
    with pytest.raises(DeviceError, match=r"greencode\.device"):
        pick_device("tpu")

"""Exit packs come from anybody: each is believed only for the weights it names, in its format, with shapes that fit."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from greencode_lsp import cli
from greencode_lsp.engine.load import load_engine, open_source
from greencode_lsp.errors import GreenCodeError, ModelDamagedError, ModelNotFoundError, UnsupportedModelError
from greencode_lsp.models import checks, packs
from greencode_lsp.models.draft_table import DraftTable
from greencode_lsp.models.manifest import MANIFEST_NAME, sha256
from greencode_lsp.models.packs import EXITS_FILE
from tests import gguf_files, tiny_models
from tests.exit_packs import pack_for

HIDDEN, VOCABULARY = tiny_models.LLAMA["hidden_size"], tiny_models.LLAMA["vocab_size"]
SHORTLIST = np.array([0, 3, 77])
DRAFTS = DraftTable(np.array([4, 9], np.uint32), np.array([1, 2], np.int32), np.array([255, 51], np.uint8))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_models.write_folder(tmp_path / "public", tiny_models.LLAMA)


@pytest.fixture
def pack(checkpoint: Path, tmp_path: Path) -> Path:
    exits: Any = {"exits": (1, 2), "kinds": ("affine",)}
    return pack_for(checkpoint, tmp_path / "pack", **exits, shortlist=SHORTLIST, drafts=DRAFTS)


def restate(pack: Path, **changes: Any) -> None:
    """Write another manifest over a pack's, its files' hashes made to fit."""
    path = pack / MANIFEST_NAME
    data = json.loads(path.read_text()) | changes
    data["files"] = {name: sha256(pack / name) for name in data["files"]}
    path.write_text(json.dumps(data))


def rewrite(pack: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_file(pack / EXITS_FILE)
    change(tensors)
    save_file(tensors, pack / EXITS_FILE)
    restate(pack)


def read(checkpoint: Path, pack: Path) -> packs.ExitHeads:
    manifest = packs.read_pack(pack, open_source(checkpoint).digest())
    return packs.read_exit_heads(pack, manifest, HIDDEN, VOCABULARY)


def test_a_pack_is_read_for_the_weights_it_names(checkpoint: Path, pack: Path) -> None:
    heads = read(checkpoint, pack)
    assert heads.kinds == ("affine",)
    assert heads.shortlist is not None and heads.shortlist.tolist() == SHORTLIST.tolist()
    assert heads.drafts is not None and heads.drafts.ids.tolist() == DRAFTS.ids.tolist()


def test_a_pack_for_other_weights_is_refused_by_their_hash(checkpoint: Path, pack: Path) -> None:
    with pytest.raises(ModelDamagedError, match="belongs to weights with the SHA-256"):
        packs.read_pack(pack, "0" * 64)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_a_pack_of_another_format_version_is_refused(checkpoint: Path, pack: Path, version: object) -> None:
    restate(pack, pack_version=version)
    with pytest.raises(ModelDamagedError, match=r"has the format .* 1 is read"):
        read(checkpoint, pack)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pack_that_holds_no_numbers_is_refused(checkpoint: Path, pack: Path, value: float) -> None:
    rewrite(pack, lambda tensors: tensors["exit.0.map.weight"].__setitem__((1, 1), value))
    with pytest.raises(ModelDamagedError, match=r"NaN or infinity in exit\.0\.map\.weight"):
        read(checkpoint, pack)


WRONG: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "another shape": ("in the shape", lambda t: t.update({"exit.0.map.bias": np.zeros(HIDDEN + 1, np.float16)})),
    "a tensor missing": ("lacks the tensor", lambda t: t.pop("exit.0.map.bias")),
    "a tensor too many": ("has no place", lambda t: t.update({"exit.1.map.bias": np.zeros(HIDDEN, np.float16)})),
    "a shortlist out of order": ("ascending", lambda t: t.update(shortlist=np.array([3, 0], np.int32))),
    "an id twice": ("ascending", lambda t: t.update(shortlist=np.array([3, 3], np.int32))),
    "an id beyond the vocabulary": ("ascending", lambda t: t.update(shortlist=np.array([VOCABULARY], np.int32))),
    "a negative id": ("ascending", lambda t: t.update(shortlist=np.array([-1, 4], np.int32))),
    "an empty shortlist": ("shortlist in the shape", lambda t: t.update(shortlist=np.zeros(0, np.int32))),
    "a shortlist of fractions": ("shortlist of float", lambda t: t.update(shortlist=np.array([0.5], np.float32))),
    "drafts without ids": (r"lacks the tensor drafts\.ids", lambda t: t.pop("drafts.ids")),
    "drafts of two lengths": ("drafts.ids in the shape", lambda t: t.update({"drafts.ids": np.zeros(3, np.int32)})),
    "no drafts": ("draft table in the shape", lambda t: t.update({"drafts.keys": np.zeros(0, np.uint32)})),
    "drafts of fractions": ("drafts.shares of float", lambda t: t.update({"drafts.shares": np.zeros(2, np.float32)})),
    "drafts out of order": ("draft table that is none", lambda t: t.update({"drafts.keys": DRAFTS.keys[::-1].copy()})),
    "a context twice": ("draft table that is none", lambda t: t.update({"drafts.keys": np.full(2, 4, np.uint32)})),
    "a draft beyond the vocabulary": (
        "draft table that is none",
        lambda t: t.update({"drafts.ids": np.array([1, VOCABULARY], np.int32)}),
    ),
    "a negative draft": ("draft table that is none", lambda t: t.update({"drafts.ids": np.array([-1, 1], np.int32)})),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_a_pack_whose_tensors_do_not_fit_is_refused(checkpoint: Path, pack: Path, name: str) -> None:
    message, change = WRONG[name]
    rewrite(pack, change)
    with pytest.raises(ModelDamagedError, match=message):
        read(checkpoint, pack)


def test_a_kind_of_head_that_is_not_known_is_named(checkpoint: Path, pack: Path) -> None:
    restate(pack, exit_heads=["block"])
    with pytest.raises(UnsupportedModelError, match="'block' is not supported; none, affine, low-rank, mlp are"):
        read(checkpoint, pack)


def test_a_pack_with_more_heads_than_early_exits_is_refused(checkpoint: Path, pack: Path) -> None:
    restate(pack, exit_heads=["affine", "affine"])
    with pytest.raises(ModelDamagedError, match="states 2 exit heads for exits"):
        read(checkpoint, pack)


def test_a_pack_that_was_changed_is_refused(checkpoint: Path, pack: Path) -> None:
    with (pack / EXITS_FILE).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(ModelDamagedError, match="SHA-256 differs"):
        read(checkpoint, pack)


def test_a_pack_that_lacks_its_heads_is_refused(checkpoint: Path, pack: Path) -> None:
    (pack / EXITS_FILE).unlink()
    with pytest.raises(ModelNotFoundError, match=EXITS_FILE):
        read(checkpoint, pack)


def test_a_pack_too_large_is_not_read(checkpoint: Path, pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "MAX_EXITS_BYTES", 100)
    with pytest.raises(GreenCodeError, match="bytes"):
        read(checkpoint, pack)


def test_exits_beyond_the_models_layers_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    wrong = pack_for(checkpoint, tmp_path / "wrong", exits=(1, 3), kinds=("affine",))
    with pytest.raises(ModelDamagedError, match="states exits"):
        load_engine(checkpoint, "cpu", "float32", pack=wrong)


def test_a_public_model_finds_its_pack_by_its_weights(checkpoint: Path, home: Path) -> None:
    pack_for(checkpoint, home / "packs" / "mine", exits=(1, 2), kinds=("affine",), shortlist=SHORTLIST)
    engine = load_engine(checkpoint, "cpu", "float32")
    assert (engine.exits, engine.manifest.name) == ((1, 2), checkpoint.stem)


def test_a_public_model_whose_pack_is_for_others_runs_at_full_depth_and_says_so(
    checkpoint: Path, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tiny_models.write_folder(tmp_path / "other", tiny_models.LLAMA | {"rope_theta": 500.0})
    pack_for(other, home / "packs" / "theirs", exits=(1, 2), kinds=("affine",))
    with caplog.at_level(logging.INFO):
        engine = load_engine(checkpoint, "cpu", "float32")
    assert engine.exits == (2,)
    assert "has no exit pack: every token runs at full depth" in caplog.text


def test_the_command_line_says_what_a_files_pack_is_for(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = gguf_files.write(tmp_path / "tiny.gguf", gguf_files.model("llama"))
    assert cli.main(["models", "info", str(file)]) == 0
    assert "exits after  none: full depth" in capsys.readouterr().out
    layers = gguf_files.SHAPE["num_hidden_layers"]
    where = home / "packs" / "mine"
    pack_for(file, where, exits=(layers,), kinds=(), shortlist=SHORTLIST, exit_policy="shortlist")
    assert cli.main(["models", "info", str(file)]) == 0
    out = capsys.readouterr().out
    assert "exits after  none: a shortlist" in out and "exit policy  shortlist" in out


def test_a_damaged_pack_of_other_weights_stands_in_nobodys_way(checkpoint: Path, home: Path) -> None:
    broken = home / "packs" / "broken"
    broken.mkdir(parents=True)
    (broken / MANIFEST_NAME).write_text("{")
    assert load_engine(checkpoint, "cpu", "float32").exits == (2,)


def test_the_weights_are_hashed_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(checkpoint)
    known = packs.digest_of(source)
    monkeypatch.setattr(checks.CheckedWeights, "digest", lambda self: pytest.fail("hashed again"))
    assert packs.digest_of(source) == known

"""Shards: what is unpacked is what was packed, and nothing incomplete counts."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from greencode_lsp.errors import CorpusError
from training.__main__ import main
from training.data import shards as sharding
from training.data.shards import MANIFEST, pack_shards, unpack


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A complete work folder of random rows."""
    folder = tmp_path / "work"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("stage0", (50, 17)), ("stage1", (20, 33)), ("validation", (8, 33))):
        np.save(folder / f"{name}.npy", rng.integers(0, 16_384, shape).astype(np.uint16))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "corpus.json").write_text(json.dumps({"train_tokens_unique": 1440, "packages": [{"package": "p"}]}))
    return folder


def test_what_is_unpacked_is_what_was_packed(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "TOKENS_PER_SHARD", 300)  # several shards per array
    pack_shards(work, tmp_path / "shards")
    unpack(tmp_path / "shards", tmp_path / "there")
    for path in work.iterdir():
        there = tmp_path / "there" / path.name
        if path.suffix == ".npy":
            assert np.array_equal(np.load(path), np.load(there)) and np.load(there).dtype == np.uint16
        else:
            assert json.loads(path.read_text()) == json.loads(there.read_text())


def test_the_manifest_counts_tokens_and_bytes(work: Path, tmp_path: Path) -> None:
    manifest = pack_shards(work, tmp_path / "shards")
    assert manifest["tokens"] == 50 * 17 + 20 * 33 + 8 * 33
    assert manifest["bytes"] == sum(path.stat().st_size for path in (tmp_path / "shards").glob("*.xz"))


def test_shards_above_45_mb_are_refused_before_the_manifest(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "MAX_PACKED_BYTES", 1000)
    with pytest.raises(CorpusError, match="lower the preset's tokens per stage or bytes per package"):
        pack_shards(work, tmp_path / "shards")
    assert not (tmp_path / "shards" / MANIFEST).exists()


def test_an_incomplete_corpus_is_not_packed(work: Path, tmp_path: Path) -> None:
    (work / "corpus.json").unlink()
    with pytest.raises(CorpusError, match="holds no complete corpus; run `python -m training corpus` first"):
        pack_shards(work, tmp_path / "shards")


def test_a_folder_without_the_manifest_is_not_unpacked(work: Path, tmp_path: Path) -> None:
    pack_shards(work, tmp_path / "shards")
    (tmp_path / "shards" / MANIFEST).unlink()
    with pytest.raises(CorpusError, match="move its whole folder"):
        unpack(tmp_path / "shards", tmp_path / "there")


def test_a_shard_that_was_changed_is_named_and_the_folder_is_incomplete(work: Path, tmp_path: Path) -> None:
    pack_shards(work, tmp_path / "shards")
    shard = tmp_path / "shards" / "stage1-000.xz"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorpusError, match=r"stage1-000.xz is not what shards.json says"):
        unpack(tmp_path / "shards", tmp_path / "there")
    assert not (tmp_path / "there" / "corpus.json").exists()


def test_a_shard_that_is_missing_is_named(work: Path, tmp_path: Path) -> None:
    pack_shards(work, tmp_path / "shards")
    (tmp_path / "shards" / "validation-000.xz").unlink()
    with pytest.raises(CorpusError, match=r"validation-000\.xz is missing"):
        unpack(tmp_path / "shards", tmp_path / "there")


def test_a_full_disk_leaves_a_folder_that_does_not_count(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pack_shards(work, tmp_path / "shards")
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(CorpusError, match="there could not be written: the disk is full"):
        unpack(tmp_path / "shards", tmp_path / "there")
    assert not (tmp_path / "there" / "corpus.json").exists()


def test_the_command_packs_and_unpacks(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "--preset", "nano", "--work", str(work), "--pack"]) == 0
    there = tmp_path / "there"
    assert main(["corpus", "--preset", "nano", "--work", str(there), "--shards", str(work / "shards")]) == 0
    assert "1,774 tokens" in capsys.readouterr().out
    assert (there / "corpus.json").exists()

"""A draft table is counted: what follows a few tokens in the packages trained on, and nothing of others."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from greencode_lsp.engine.load import load_engine
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.draft_table import DraftTable
from greencode_lsp.models.manifest import Manifest, read_manifest, write_manifest
from greencode_lsp.models.packs import EXITS_FILE
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from tests import tiny_models
from tests.exit_packs import tensors_of
from training import steps
from training.data.packages import Package
from training.exits import draft_counts, pack, shortlist
from training.exits.draft_counts import ACCEPTED, BETWEEN, build, followers
from training.preset import DraftOptions, load_preset

TEXT = "def function(argument):\n    return argument + 1\n\n\n" * 40


def counted(ids: Sequence[int], least_times: int = 1, most_contexts: int = 100) -> DraftTable:
    table = build(np.array(ids, np.int64), least_times, most_contexts)
    assert table is not None
    return table


def test_what_follows_most_often_is_counted_by_context() -> None:
    of = followers(np.array([1, 2, 1, 3, 1, 2, BETWEEN]), 1)
    by_times = sorted(zip(of.ids.tolist(), of.times.tolist(), of.of.tolist(), strict=True))
    assert by_times == [(1, 1, 1), (1, 1, 1), (2, 2, 3)]  # behind 2, behind 3, and behind 1


def test_nothing_follows_across_two_files() -> None:
    of = followers(np.array([1, 2, BETWEEN, 3, 4]), 2)
    assert len(of.ids) == 0


def test_the_longest_context_that_was_counted_speaks() -> None:
    table = counted([7, 1, 2, 8, 1, 3, 8, 1, 3] * 10)
    for latest, expected in (([7, 1], 2), ([8, 1], 3), ([9, 1], 3)):
        found = table.after(latest)
        assert found is not None and found[0] == expected


def test_a_context_that_stood_seldom_is_left_out() -> None:
    assert build(np.array([1, 2, 1, 2]), 3, 100) is None


def test_the_most_useful_contexts_are_kept() -> None:
    table = counted([1, 2] * 50 + [5, 6] * 3, most_contexts=2)
    assert set(table.ids.tolist()) <= {1, 2}


def test_what_follows_always_is_a_little_less_than_sure() -> None:
    found = counted([1, 2] * 1000).after([1])
    assert found is not None and found[1] == pytest.approx(dict(ACCEPTED)[1.0], abs=0.01)


def test_keys_ascend_each_once() -> None:
    rng = np.random.default_rng(0)
    table = counted(rng.integers(0, 50, 5000).tolist(), most_contexts=1000)
    assert (np.diff(table.keys.astype(np.int64)) > 0).all()


@pytest.fixture
def packages(tmp_path: Path) -> list[Package]:
    made = []
    for name, split, text in (("learnt", "train", TEXT), ("judged", "validation", TEXT.replace("+", "*"))):
        root = tmp_path / name
        root.mkdir()
        (root / "a.py").write_text(text)
        made.append(Package(name, "1", "MIT", root, ("a.py",), "python", split))  # type: ignore[arg-type]
    return made


def test_only_what_is_trained_on_is_counted(packages: list[Package], tmp_path: Path) -> None:
    tokenizer = CodeTokenizer.of(tiny_models.write_folder(tmp_path / "tiny", tiny_models.LLAMA))
    (times,), (plus,) = tokenizer.encode("*"), tokenizer.encode("+")
    table = draft_counts.count(packages, tokenizer, DraftOptions(100_000, least_times=5))
    assert table is not None and times not in table.ids
    assert plus in table.ids
    assert times in counted(draft_counts.read(packages[1:], tokenizer, 100_000).tolist(), 5).ids  # would have been


def test_a_language_without_text_is_named_before_anything_is_counted(tmp_path: Path) -> None:
    tokenizer = CodeTokenizer.of(tiny_models.write_folder(tmp_path / "tiny", tiny_models.LLAMA))
    empty = Package("p", "1", "MIT", tmp_path, (), "java", "train")
    with pytest.raises(CorpusError, match="no text to count"):
        draft_counts.count([empty], tokenizer, DraftOptions(1000))


def test_nothing_to_count_is_one_sentence(packages: list[Package], tmp_path: Path) -> None:
    tokenizer = CodeTokenizer.of(tiny_models.write_folder(tmp_path / "tiny", tiny_models.LLAMA))
    with pytest.raises(CorpusError, match="No package is there to count drafts in"):
        draft_counts.count(packages[1:], tokenizer, DraftOptions(1000))


def test_a_vocabulary_too_large_to_count_is_one_sentence(
    packages: list[Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = CodeTokenizer.of(tiny_models.write_folder(tmp_path / "tiny", tiny_models.LLAMA))
    monkeypatch.setattr(draft_counts, "TOKEN_BITS", 4)
    with pytest.raises(CorpusError, match="at most 16 tokens"):
        draft_counts.count(packages, tokenizer, DraftOptions(1000))


def test_licence_notices_are_not_counted(tmp_path: Path) -> None:
    notice = '# Licensed under the Apache License, Version 2.0 (the "License");\n# you may not use this file.\n\n'
    (tmp_path / "a.py").write_text(notice + TEXT)
    (text,) = shortlist.texts([Package("p", "1", "MIT", tmp_path, ("a.py",))])
    assert "Apache" not in text and "def function" in text


def test_the_step_writes_the_table_beside_the_heads(
    packages: list[Package], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tiny_models.write_folder(tmp_path / "out", tiny_models.LLAMA)
    kinds = pack.save_heads(out, [tensors_of("affine", tiny_models.LLAMA["hidden_size"])])
    write_manifest(out, Manifest("tiny", "llama", (1, 2), exit_heads=kinds))
    monkeypatch.setattr(steps, "discover", lambda sources: packages)
    preset = dataclasses.replace(load_preset("small-1"), drafts=DraftOptions(1000, least_times=5))
    steps.run_drafts(steps.Job(preset=preset, work=tmp_path, out=out))
    engine = load_engine(out, "cpu", "float32")
    assert engine.drafter.table is not None and len(engine.drafter.table.keys) > 10
    assert engine.manifest.exit_heads == ("affine",)


def test_a_table_taken_out_leaves_the_heads(tmp_path: Path) -> None:
    heads = [tensors_of("affine", 8)]
    table = counted([1, 2] * 10)
    pack.save_heads(tmp_path, heads)
    before = (tmp_path / EXITS_FILE).read_bytes()
    pack.save_drafts(tmp_path, table)
    assert (tmp_path / EXITS_FILE).read_bytes() != before
    pack.save_heads(tmp_path, heads)
    assert "drafts.keys" in load_file(tmp_path / EXITS_FILE)  # heads fitted anew leave it
    pack.save_drafts(tmp_path, None)
    assert (tmp_path / EXITS_FILE).read_bytes() == before


def test_a_model_without_heads_has_a_table_alone(tmp_path: Path) -> None:
    out = tiny_models.write_folder(tmp_path, tiny_models.LLAMA)
    pack.save_drafts(out, counted([1, 2] * 10))
    write_manifest(out, Manifest("tiny", "llama", (1, 2)))
    assert load_engine(out, "cpu", "float32").drafter.table is not None
    manifest = read_manifest(out)
    assert manifest is not None and json.loads((out / "greencode.json").read_text())["files"][EXITS_FILE]

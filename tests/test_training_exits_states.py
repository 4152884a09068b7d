"""Cached states and counted ids: made once, gone on with, of nothing else than they say."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greencode_lsp.errors import CorpusError
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from tests import tiny_models
from tests.test_prompt_fim import qwen
from training import whole_files
from training.data.cursors import SourcePosition
from training.data.packages import Package
from training.exits import pack, shortlist, states
from training.exits.states import Note, StateCache, StateRecorder, likeliest, parts_of, record, unit

TEXT = "def function(argument):\n    return argument + 1\n\n\n" * 60
NOTE = Note("w" * 64, "float32", (1, 2), "c" * 64, 0)


@pytest.fixture
def packages(tmp_path: Path) -> list[Package]:
    made = []
    for index, split in enumerate(("train", "validation", "validation")):
        root = tmp_path / f"package{index}"
        root.mkdir()
        (root / "a.py").write_text(f"# {index}\n" + TEXT)
        made.append(Package(f"package{index}", "1", "MIT", root, ("a.py",), "python", split))  # type: ignore[arg-type]
    return made


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(states, "PROMPT_TOKENS", 40)
    monkeypatch.setattr(states, "CONTINUED_TOKENS", 16)
    monkeypatch.setattr(states, "SHARD_WINDOWS", 2)
    return tiny_models.write_folder(tmp_path / "public", tiny_models.LLAMA)


def test_no_package_is_in_two_parts(packages: list[Package]) -> None:
    parts = parts_of(packages)
    names = [package.name for members in parts.values() for package in members]
    assert sorted(names) == sorted(package.name for package in packages)


def test_a_stopped_run_goes_on_with_the_same_windows(checkpoint: Path, packages: list[Package], tmp_path: Path) -> None:
    recorder, tokenizer = StateRecorder(checkpoint, (1, 2), "float32"), CodeTokenizer.of(checkpoint)
    whole, stopped = StateCache(tmp_path / "whole"), StateCache(tmp_path / "stopped")
    parts = parts_of(packages)
    record(whole, recorder, tokenizer, parts, 500, NOTE)
    record(stopped, recorder, tokenizer, parts, 100, NOTE)
    stopped.path("train", 0).unlink()
    record(stopped, recorder, tokenizer, parts, 500, NOTE)
    for part in ("train", "validation", "judged"):
        ours, theirs = whole.read(part), stopped.read(part)
        np.testing.assert_array_equal(ours.hidden, theirs.hidden)
        np.testing.assert_array_equal(ours.top_ids, theirs.top_ids)


def test_what_is_cached_is_what_the_model_says(checkpoint: Path, packages: list[Package], tmp_path: Path) -> None:
    recorder, tokenizer = StateRecorder(checkpoint, (1, 2), "float32"), CodeTokenizer.of(checkpoint)
    at = SourcePosition(TEXT, TEXT.index("return", 200))
    window = states.window_at(at, tokenizer, tokenizer.fim({}))
    found = recorder.record(window, 0)
    logits = recorder.model.head(found.final.astype(np.float32))
    assert (found.top_ids[:, 0] == logits.argmax(-1)).mean() > 0.95  # float16 may turn a near-tie
    np.testing.assert_allclose(np.mean(found.hidden.astype(np.float32) ** 2, axis=-1), 1, atol=0.01)
    assert 1 < int(found.served.sum()) <= states.CONTINUED_TOKENS


def test_a_prompt_does_not_hold_the_rest_of_its_line() -> None:
    at = SourcePosition("a = 1\nsecret = hidden_value\nb = 2\n", 6 + len("secret = "))
    window = states.window_at(at, qwen(), qwen().fim({}))
    prompt, continued = window.ids[: window.prompt_tokens], window.ids[window.prompt_tokens :]
    assert "hidden" not in qwen().decode(prompt)
    assert qwen().decode(continued) == "hidden_value\n"


@pytest.mark.parametrize("change", [{"weights": "x"}, {"corpus": "x"}, {"exits": (2,)}, {"precision": "int8"}])
def test_states_of_something_else_are_not_gone_on_with(tmp_path: Path, change: dict[str, Any]) -> None:
    cache = StateCache(tmp_path)
    cache.note(NOTE)
    cache.note(NOTE)
    with pytest.raises(CorpusError, match=f"states of other {next(iter(change))}"):
        cache.note(replace(NOTE, **change))


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_and_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_files, "atomic_write", full)
    with pytest.raises(CorpusError, match="the disk is full"):
        StateCache(tmp_path).note(NOTE)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_pack_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from greencode_lsp.models.manifest import Manifest

    manifest = Manifest("m", "llama", (2,), weights="0" * 64)
    pack.write_pack(tmp_path / "pack", manifest, shortlist=np.array([1, 2]))
    before = {path.name: path.read_bytes() for path in (tmp_path / "pack").iterdir()}
    monkeypatch.setattr(pack, "atomic_write", full)
    with pytest.raises(CorpusError, match="the disk is full"):
        pack.write_pack(tmp_path / "pack", manifest, shortlist=np.array([1, 2, 3]))
    assert {path.name: path.read_bytes() for path in (tmp_path / "pack").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_a_head_that_is_not_finite_in_float16_is_not_written(tmp_path: Path) -> None:
    from greencode_lsp.models.manifest import Manifest

    heads = [{"map.weight": np.full((2, 2), 1e9), "map.bias": np.zeros(2)}]
    with pytest.raises(CorpusError, match="not finite in float16"):
        pack.write_pack(tmp_path / "pack", Manifest("m", "llama", (1, 2)), heads)


def test_the_likeliest_come_first_and_their_sum_is_of_all() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (4, 50)).astype(np.float32)
    ids, found, log_sum = likeliest(logits)
    assert (ids[:, 0] == logits.argmax(-1)).all()
    assert (np.diff(found) <= 0).all()
    np.testing.assert_allclose(log_sum, np.log(np.exp(logits).sum(-1)), rtol=1e-5)


def test_states_are_scaled_to_a_mean_square_of_one() -> None:
    scaled = unit(np.array([[3.0, -3.0], [0.5, 0.5]], np.float32))
    np.testing.assert_allclose(scaled, [[1, -1], [1, 1]], rtol=1e-3)


def test_a_shortlist_is_the_forced_ids_then_the_most_frequent_of_each_count_alike() -> None:
    counts = {"python": np.array([0, 90, 10, 0, 0, 0]), "java": np.array([0, 0, 1, 8, 1, 0])}
    assert shortlist.choose(counts, {5}, 3).tolist() == [1, 3, 5]
    assert shortlist.choose(counts, {5}, 6).tolist() == [1, 2, 3, 4, 5]  # nothing ever counted 0


def test_coverage_is_the_share_of_what_was_counted() -> None:
    assert shortlist.coverage(np.array([1, 3]), np.array([1, 6, 1, 2])) == 0.8


def test_every_shortlist_spells_every_byte_and_can_end(checkpoint: Path) -> None:
    tokenizer = CodeTokenizer.of(checkpoint)
    assert len(shortlist.forced_ids(tokenizer)) >= 256


def test_ids_are_counted_up_to_so_many(checkpoint: Path, packages: list[Package]) -> None:
    tokenizer = CodeTokenizer.of(checkpoint)
    counts = shortlist.count(packages, tokenizer, tiny_models.LLAMA["vocab_size"], 10)
    assert counts.sum() >= 10
    (e,) = tokenizer.encode("e")
    assert counts[e] == sum(text.count("e") for text in shortlist.texts(packages))

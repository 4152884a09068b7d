"""The corpus: what is kept, what is left out and counted, and what happens with bad input and full disks."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greencode_lsp.errors import CorpusError
from tests.training_corpora import code, preset_of, two_packages, write_manifest, write_package
from training.__main__ import main
from training.data import prepare as preparation
from training.data.corpus import MAX_FILE_BYTES, read_source
from training.data.prepare import parts_of, prepare
from training.data.screen import Screen, SecretScanner, has_copyleft_header, is_minified, shingles
from training.preset import Stage

# assembled here, so that scanners of this repository stay quiet
FAKE_KEY = "AKIA" + "IOSFODNN7" + "EXAMPLF"
FAKE_TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture(autouse=True)
def no_held_out_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed where the tests run has no say."""
    monkeypatch.setattr(preparation, "held_out_texts", lambda sources, language: iter(()))


def files(count: int, start: int = 0) -> dict[str, str]:
    return {f"m{i}.py": code(i) for i in range(start, start + count)}


def characters(manifest: dict[str, Any]) -> dict[str, int]:
    return {row["package"]: row["characters"] for row in manifest["packages"]}


def test_the_manifest_names_package_version_licence_language_and_split(tmp_path: Path) -> None:
    manifest = prepare(preset_of(two_packages(tmp_path, files(8), files(3, 100))), tmp_path / "work")
    judged, learnt = sorted(manifest["packages"], key=lambda row: str(row["package"]))
    assert (learnt["version"], learnt["licence"], learnt["language"], learnt["split"]) == (
        "1.0",
        "MIT",
        "python",
        "train",
    )
    assert (judged["licence"], judged["split"]) == ("BSD-3-Clause", "validation")


def test_the_validation_files_keep_package_language_path_and_text(tmp_path: Path) -> None:
    prepare(preset_of(two_packages(tmp_path, files(8), files(3, 100))), tmp_path / "work")
    rows = [json.loads(line) for line in (tmp_path / "work/validation.jsonl").read_text().splitlines()]
    assert {(r["package"], r["language"], r["path"], r["text"]) for r in rows} == {
        ("judged", "python", name, text) for name, text in files(3, 100).items()
    }


def test_rows_are_as_wide_as_their_stage_and_counted(tmp_path: Path) -> None:
    manifest = prepare(preset_of(two_packages(tmp_path, files(8), files(3, 100))), tmp_path / "work")
    short, long = (np.load(tmp_path / f"work/stage{i}.npy") for i in range(2))
    assert (short.shape[1], long.shape[1]) == (17, 33)
    assert manifest["train_tokens_unique"] == short.shape[0] * 16 + long.shape[0] * 32


def test_a_second_call_takes_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = preset_of(two_packages(tmp_path, files(8), files(3, 100)))
    first = prepare(preset, tmp_path / "work")
    monkeypatch.setattr(preparation, "find", lambda sources: pytest.fail("looked for again"))
    assert prepare(preset, tmp_path / "work") == first


def test_a_corpus_of_other_options_is_not_taken(tmp_path: Path) -> None:
    prepare(preset_of(two_packages(tmp_path, files(8), files(3, 100))), tmp_path / "work")
    with pytest.raises(CorpusError, match="other options"):
        prepare(preset_of("/nowhere/*"), tmp_path / "work")


def test_copies_and_near_copies_of_a_judged_file_are_not_trained_on(tmp_path: Path) -> None:
    judged = code(100, functions=40)
    train = files(8) | {
        "copy.py": judged,
        "near.py": judged.replace("99", "98"),
        "spaced.py": judged.replace(" ", "  "),
    }
    manifest = prepare(preset_of(two_packages(tmp_path, train, {"a.py": judged})), tmp_path / "work")
    assert manifest["files_left_out"] == {"duplicate": 2, "near duplicate": 1}
    assert characters(manifest)["learnt"] == sum(len(text) for text in files(8).values())


def test_nothing_like_a_held_out_file_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = code(200, functions=40)

    def texts(sources: list[str], language: str) -> Iterator[str]:
        return iter([held])

    monkeypatch.setattr(preparation, "held_out_texts", texts)
    train = files(8) | {"near.py": held.replace("alpha_", "omega_", 1)}
    manifest = prepare(preset_of(two_packages(tmp_path, train, files(3, 100))), tmp_path / "work")
    assert manifest["files_left_out"] == {"near duplicate": 1}


def test_held_out_packages_are_not_used_whatever_the_manifest_says(tmp_path: Path) -> None:
    word = two_packages(tmp_path, files(8), files(3, 100))
    write_package(tmp_path, "flask", files(4, 200))
    table = (
        f'[[sources]]\nkind = "folder"\npath = "{tmp_path}/flask"\npackages = [{{ name = "flask", licence = "BSD" }}]'
    )
    with Path(word).open("a") as file:
        file.write(table)
    assert characters(prepare(preset_of(word), tmp_path / "work")).keys() == {"learnt", "judged"}


def test_a_file_that_looks_like_it_holds_a_secret_is_left_out_whole(tmp_path: Path) -> None:
    train = files(8) | {
        "settings.py": code(50) + f'KEY = "{FAKE_KEY}"\n',
        "ci.py": code(51) + f'TOKEN = "{FAKE_TOKEN}"\n',
    }
    manifest = prepare(preset_of(two_packages(tmp_path, train, files(3, 100))), tmp_path / "work")
    assert manifest["files_left_out"] == {"looks like a secret": 2}


def test_an_empty_corpus_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no training or no validation files; name more sources"):
        prepare(preset_of(two_packages(tmp_path, {"a.py": ""}, {"b.py": ""})), tmp_path / "work")


def test_a_file_of_one_ten_megabyte_line_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "line.py"
    path.write_text("x = " + "1" * 10_000_000)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("was read"))
    assert read_source(path) is None


@pytest.mark.parametrize(
    "content",
    [
        code(1).encode() + b"\xff\xfe",
        code(1).encode("utf16"),
        code(1).encode() + b"\0",
        b"x = '" + b"long " * 200 + b"'\n",
        b"# This file is automatically generated; do not edit.\n" + code(1).encode(),
        b"x = 1\n",
    ],
    ids=["invalid UTF-8", "UTF-16", "NUL", "a long line", "generated", "too short"],
)
def test_unfit_files_are_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.py").write_bytes(content)
    assert read_source(tmp_path / "a.py") is None


def test_the_same_file_without_the_flaw_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(code(1))
    assert read_source(tmp_path / "a.py") == code(1)
    assert len(code(1)) < MAX_FILE_BYTES


def test_a_package_gives_no_more_than_its_budget(tmp_path: Path) -> None:
    preset = preset_of(two_packages(tmp_path, files(8), files(3, 100)))
    corpus = dataclasses.replace(preset.corpus, max_package_bytes=6_000)
    manifest = prepare(dataclasses.replace(preset, corpus=corpus), tmp_path / "work")
    assert 0 < characters(manifest)["learnt"] <= 6_000


def test_an_interrupted_write_does_not_count_and_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = preset_of(two_packages(tmp_path, files(8), files(3, 100)))

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "save", killed)
        prepare(preset, tmp_path / "work")
    assert not (tmp_path / "work/corpus.json").exists()
    prepare(preset, tmp_path / "work")
    assert (tmp_path / "work/corpus.json").exists()


def test_a_full_disk_is_one_sentence_and_nothing_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(CorpusError, match=r"work could not be written: the disk is full; nothing of it counts"):
        prepare(preset_of(two_packages(tmp_path, files(8), files(3, 100))), tmp_path / "work")
    assert not (tmp_path / "work/corpus.json").exists()


def test_a_source_that_is_missing_stops_the_command_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.__main__.load_preset", lambda name: preset_of(str(tmp_path / "gone/*")))
    assert main(["corpus", "--work", str(tmp_path / "work")]) == 1
    assert capsys.readouterr().err.strip().endswith("does not exist; fetch it or take it out of the manifest.")


def test_two_languages_are_counted_apart(tmp_path: Path) -> None:
    word = two_packages(tmp_path, files(8), files(3, 100))
    write_package(tmp_path, "beans", {f"A{i}.java": code(300 + i) for i in range(4)})
    table = f'[[sources]]\nkind = "folder"\nlanguage = "java"\nsplit = "train"\npath = "{tmp_path}/beans"\n'
    with Path(word).open("a") as file:
        file.write(table + 'packages = [{ name = "beans", licence = "MIT" }]\n')
    counts = prepare(preset_of(word), tmp_path / "work")["train_tokens_by_language"]
    assert counts.keys() == {"java", "python"}
    assert counts["java"] > 0


def test_copyleft_in_use_is_named_in_the_manifest(tmp_path: Path) -> None:
    word = two_packages(tmp_path, files(8), files(3, 100))
    body = "allow_copyleft = true\n" + Path(word).read_text().replace("MIT", "GPL-2.0 WITH Classpath-exception-2.0")
    manifest = prepare(preset_of(write_manifest(tmp_path, body)), tmp_path / "work")
    assert manifest["copyleft"] == ["learnt"]


def test_stages_share_the_files_in_proportion_and_none_twice() -> None:
    numbers: Any = list(range(100))
    first, second = parts_of(numbers, [Stage(16, 4, 300), Stage(32, 2, 100)])
    assert (list(first), list(second)) == (numbers[:75], numbers[75:])


def test_minified_code_is_told_from_code() -> None:
    assert is_minified("function(a,b){return a+b;}" * 20)
    assert not is_minified(code(1))


@pytest.mark.parametrize("name", ["GNU General Public License", "Mozilla Public License", "GPLv3", "CDDL"])
def test_a_copyleft_header_is_seen(name: str) -> None:
    assert has_copyleft_header(f"# Licensed under the {name}\n" + code(1))
    assert not has_copyleft_header(code(1) * 20 + name)


@pytest.mark.parametrize(
    "secret", [FAKE_KEY, FAKE_TOKEN, "-----BEGIN RSA " + "PRIVATE KEY-----", "xoxb-" + "123456789012-abcdefghijkl"]
)
def test_known_forms_of_keys_are_found(secret: str) -> None:
    assert SecretScanner().finds_any(f'value = "{secret}"\n')


@pytest.mark.parametrize("text", ['password = "hunter2"', "digest = 'd41d8cd98f00b204e9800998ecf8427e'", code(1)])
def test_guesses_are_not_made(text: str) -> None:
    assert not SecretScanner().finds_any(text)


def test_shingles_do_not_see_white_space_or_punctuation() -> None:
    assert shingles("a b\n  c ( d ) e f").tolist() == shingles("a,b,c,d,e,f").tolist()
    assert len(shingles("a b c d e f")) == 2


def test_a_text_shorter_than_a_shingle_has_one() -> None:
    assert len(shingles("a b")) == 1


def test_the_screen_lets_different_texts_through_and_repeats_itself() -> None:
    texts = [code(i) for i in range(30)]
    for screen in (Screen(), Screen()):
        assert [screen.refuses(text) for text in texts] == [None] * 30
        assert [screen.refuses(text) for text in texts] == ["duplicate"] * 30

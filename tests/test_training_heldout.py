"""Held-out lines: frozen, never trained on, left out and counted where a file differs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from greencode_lsp.errors import CorpusError
from tests.training_corpora import code, write_package
from training.data import archives, heldout
from training.data.packages import Package
from training.data.sources import manifest_of


def frozen(language: str) -> list[heldout.Pointer]:
    return [heldout.Pointer(**row) for row in json.loads((heldout.FOLDER / f"{language}.json").read_text())]


@pytest.mark.parametrize("language", heldout.LANGUAGES)
def test_a_thousand_lines_of_eight_packages_or_more_are_frozen(language: str) -> None:
    pointers = frozen(language)
    assert (len(pointers), len(set(pointers))) == (1_000, 1_000)
    assert len({pointer.package for pointer in pointers}) >= 8


@pytest.mark.parametrize("language", heldout.LANGUAGES)
def test_the_frozen_packages_are_those_that_are_kept_out_of_training(language: str) -> None:
    assert {pointer.package for pointer in frozen(language)} <= heldout.eval_packages()


def test_no_shipped_source_names_a_held_out_package() -> None:
    named = {entry.name for source in manifest_of(["permissive.toml"]).sources for entry in source.packages}
    assert not named & heldout.eval_packages()


def test_the_java_manifest_gives_the_frozen_versions() -> None:
    (source,) = manifest_of([str(heldout.FOLDER / "java.toml")]).sources
    assert {(e.name, e.version, e.licence) for e in source.packages} == {
        (p.package, p.version, p.licence) for p in frozen("java")
    }


def test_freezing_twice_is_refused() -> None:
    with pytest.raises(CorpusError, match="is frozen; held-out lines are drawn once"):
        heldout.freeze(["installed"], "java")


@pytest.fixture
def package(tmp_path: Path) -> Package:
    root = write_package(tmp_path, "p", {"a.py": code(1), "b.py": "\n\n".join(code(2).split("\n"))})
    return Package("p", "1.0", "MIT", root, ("a.py", "b.py"))


def test_the_same_draw_comes_twice(package: Package) -> None:
    assert heldout.draw([package], 20) == heldout.draw([package], 20)


def test_a_line_is_completed_from_inside_its_code(package: Package) -> None:
    for line in heldout._resolve(heldout.draw([package], 40), {"p": package.root}, "python"):
        at = line.position
        before = at.text[: at.offset].rpartition("\n")[2]
        whole = before + at.rest_of_line
        assert at.rest_of_line.strip()
        assert len(before) >= len(whole) - len(whole.lstrip())


def test_a_file_that_differs_is_left_out(package: Package) -> None:
    pointers = heldout.draw([package], 40)
    (package.root / "a.py").write_text(code(3))
    lines = list(heldout._resolve(pointers, {"p": package.root}, "python"))
    counts = Counter(pointer.file for pointer in pointers)
    assert len(lines) == counts["b.py"] > 0
    assert counts["a.py"] > 0


def test_lines_whose_package_is_not_there_are_counted(tmp_path: Path) -> None:
    for language in heldout.LANGUAGES:
        assert heldout.read_lines([str(tmp_path / "nowhere")], language) == ([], 1_000)


def test_java_archives_are_found_in_a_folder_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tarfile

    monkeypatch.setattr(archives, "CACHE", tmp_path / "cache")
    tree = write_package(tmp_path, "jsoup-1.15.3", {"src/A.java": code(1)})
    (tmp_path / "java/jsoup").mkdir(parents=True)
    with tarfile.open(tmp_path / "java/jsoup/jsoup_1.15.3.orig.tar.xz", "w:xz") as archive:
        archive.add(tree, "jsoup-1.15.3")
    (found,) = heldout.held_out([str(tmp_path / "java")], "java")
    assert (found.name, found.files) == ("jsoup", ("src/A.java",))
    assert list(heldout.held_out_texts([str(tmp_path / "java")], "java")) == [code(1)]


def test_nothing_is_learnt_from_a_held_out_package(tmp_path: Path) -> None:
    held = min(heldout.eval_packages())
    packages = [Package(name, "1", "MIT", tmp_path, ()) for name in (held, "another")]
    assert [package.name for package in heldout.trainable(packages)] == ["another"]

"""Where source files come from: every kind of source, and what each says when it is not there."""

from __future__ import annotations

import errno
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from greencode_lsp.errors import CorpusError
from tests.training_corpora import code, write_manifest, write_package
from training.data import archives
from training.data.corpus import find, split_of
from training.data.packages import Package, is_permissive
from training.data.sources import manifest_of, packages_of, read_manifest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Archives are laid out in the test's own folder."""
    monkeypatch.setattr(archives, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def archive_manifest(folder: Path, pattern: str, licence: str = "MIT") -> str:
    table = f'[[sources]]\nkind = "archive"\nlanguage = "java"\npath = "{folder}/{pattern}"\n'
    return write_manifest(folder, table + f'packages = [{{ name = "ant", version = "1.10", licence = "{licence}" }}]\n')


def write_tar(path: Path, members: dict[str, str]) -> None:
    with tarfile.open(path, "w:xz") as archive:
        for name, text in members.items():
            content = text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_zip(path: Path, members: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


def only(word: str) -> Package:
    (package,) = find([word]).packages
    return package


def test_a_tar_archive_is_read_without_its_top_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "ant.tar.xz", {"ant-1.10/src/A.java": "class A {}", "ant-1.10/README": "no source"})
    package = only(archive_manifest(tmp_path, "{name}.tar.xz"))
    assert (package.files, package.language, package.version) == (("src/A.java",), "java", "1.10")
    assert (package.root / "src/A.java").read_text() == "class A {}"


def test_a_zip_archive_keeps_folders_that_differ(tmp_path: Path) -> None:
    write_zip(tmp_path / "src.zip", {"java.base/A.java": "class A {}", "java.sql/B.java": "class B {}"})
    assert only(archive_manifest(tmp_path, "src.zip")).files == ("java.base/A.java", "java.sql/B.java")


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    write_zip(tmp_path / "src.zip", {"a/../../../B.java": "class B {}", "c/C.java": "class C {}"})
    assert only(archive_manifest(tmp_path, "src.zip")).files == ("c/C.java",)
    assert not list(tmp_path.rglob("B.java"))


def test_an_archive_is_laid_out_once(tmp_path: Path) -> None:
    write_zip(tmp_path / "src.zip", {"a/A.java": "class A {}", "b/B.java": ""})
    word = archive_manifest(tmp_path, "src.zip")
    marker = only(word).root / "kept"
    marker.touch()
    only(word)
    assert marker.exists()


@pytest.mark.parametrize("name", ["src.zip", "src.tar.xz"])
def test_a_damaged_archive_is_named(tmp_path: Path, name: str) -> None:
    text = "".join(map(str, range(20_000)))
    (write_zip if name.endswith("zip") else write_tar)(tmp_path / name, {"a/A.java": text})
    content = bytearray((tmp_path / name).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=rf"{name} is damaged or no archive .*; fetch it again"):
        only(archive_manifest(tmp_path, name))


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "src.tar.xz", {"a/A.java": "".join(map(str, range(20_000)))})
    content = (tmp_path / "src.tar.xz").read_bytes()
    (tmp_path / "src.tar.xz").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorpusError, match="is damaged or no archive"):
        only(archive_manifest(tmp_path, "src.tar.xz"))
    assert not any(path.is_dir() for path in (tmp_path / "cache").iterdir())


def test_packages_without_an_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"No archive .*\{name\}.zip for ant; fetch it or take it out"):
        only(archive_manifest(tmp_path, "{name}.zip"))


def test_a_folder_of_distributions_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere.* does not exist"):
        find([str(tmp_path / "nowhere")])


def test_a_full_disk_leaves_no_folder_that_counts_as_complete(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_zip(tmp_path / "src.zip", {"a/A.java": "class A {}"})
    word = archive_manifest(tmp_path, "src.zip")
    with monkeypatch.context() as patch, pytest.raises(CorpusError, match="the disk is full"):
        patch.setattr(Path, "write_bytes", full)
        only(word)
    assert not any(path.is_dir() for path in cache.iterdir())
    assert only(word).files == ("A.java",)


def test_json_lines_are_packages_by_row(tmp_path: Path) -> None:
    rows = [{"package": "one", "path": "a.py", "text": "a = 1"}, {"repo": "owner/two", "code": "b = 2"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = f'[[sources]]\nkind = "jsonl"\npath = "{tmp_path}/rows.jsonl"\nlicence = "MIT"\n'
    packages = find([write_manifest(tmp_path, table)]).packages
    assert {p.name: p.files for p in packages} == {"one": ("a.py",), "owner--two": ("0000002.py",)}


@pytest.mark.parametrize("line", ["no json", "[1]", '{"path": "a.py"}', '{"text": 3}'])
def test_a_row_that_is_no_file_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a = 1"}\n' + line)
    table = f'[[sources]]\nkind = "jsonl"\npath = "{tmp_path}/rows.jsonl"\n'
    with pytest.raises(CorpusError, match=r"rows\.jsonl, line 2: no JSON object with a string `text`"):
        find([write_manifest(tmp_path, table)])


def test_vendored_copies_are_no_part_of_a_package(tmp_path: Path) -> None:
    write_package(tmp_path, "p", {"a.py": "", "_vendor/b.py": "", "third_party/c.py": "", "invendor.py": ""})
    table = f'[[sources]]\nkind = "folder"\npath = "{tmp_path}/p"\npackages = [{{ name = "p", licence = "MIT" }}]\n'
    assert only(write_manifest(tmp_path, table)).files == ("a.py", "invendor.py")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[[sources]]\nkind = 'stdlib'\ncolour = 1", "colour"),
        ("allow_copyright = true", "allow_copyright"),
        ("[[sources]]\nkind = 'cvs'", "kind = 'cvs' is none of"),
        ("[[sources]]\nkind = 'stdlib'\nlanguage = 'cobol'", "language = 'cobol' is none of python, java"),
        ("[[sources]]\nkind = 'stdlib'\nsplit = 'test'", "split = 'test' is none of train, validation"),
        ("[[sources]]\nkind = 'archive'\npath = 'x'", "needs `packages`"),
        ("[[sources]]\nkind = 'jsonl'", "needs a `path`"),
        ("[[sources]]\nkind = 'folder'\npath='x'\npackages=[{name='a'}, {name='b'}]", "need a `path` with {name}"),
        ("[[sources]]\nkind = 'folder'\npath='x'\npackages=[{title='a'}]", "title"),
        ("sources = 3", "is not a source manifest"),
        ("[[sources", "is not TOML"),
    ],
)
def test_a_mistake_in_a_manifest_is_named(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read_manifest(Path(write_manifest(tmp_path, body)))
    assert message in str(caught.value)


def test_a_manifest_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(CorpusError, match=r"There is no source manifest .*permissive.toml"):
        manifest_of(["permisive.toml"])


def test_the_shipped_manifest_names_every_package_once_with_licence_and_version() -> None:
    entries = [entry for source in manifest_of(["permissive.toml"]).sources for entry in source.packages]
    assert len({entry.name for entry in entries}) == len(entries) > 150
    assert all(is_permissive(entry.licence) and entry.version for entry in entries)


def test_thirty_packages_of_each_language_are_for_calibration_only() -> None:
    sources = manifest_of(["permissive.toml"]).sources
    java = [e for s in sources if s.language == "java" and s.split == "validation" for e in s.packages]
    assert len(java) >= 30


def copyleft_manifest(folder: Path, allow: str) -> str:
    write_package(folder, "free", {"a.py": code(1)})
    table = f'{allow}\n[[sources]]\nkind = "folder"\npath = "{folder}/free"\n'
    return write_manifest(folder, table + 'packages = [{ name = "free", licence = "GPL-3.0-only" }]\n')


def test_copyleft_is_left_out_and_named(tmp_path: Path) -> None:
    word = copyleft_manifest(tmp_path, "")
    with pytest.raises(CorpusError, match="No package that may be used"):
        find([word])
    write_package(tmp_path, "mit", {"b.py": code(2)})
    with Path(word).open("a") as file:
        file.write(
            f'[[sources]]\nkind = "folder"\npath = "{tmp_path}/mit"\npackages = [{{ name = "mit", licence = "MIT" }}]'
        )
    found = find([word])
    assert ([p.name for p in found.packages], [p.name for p in found.left_out]) == (["mit"], ["free"])


def test_copyleft_is_let_in_where_the_manifest_says_so(tmp_path: Path) -> None:
    assert [p.name for p in find([copyleft_manifest(tmp_path, "allow_copyleft = true")]).packages] == ["free"]


@pytest.mark.parametrize("licence", ["MIT", "BSD License", "Apache-2.0", "ISC", "PSF-2.0", "MIT OR Apache-2.0"])
def test_permissive_licences_pass(licence: str) -> None:
    assert is_permissive(licence)


@pytest.mark.parametrize("licence", ["", "GPL-2.0", "LGPL-3.0", "MPL-2.0", "EPL-1", "MIT AND GPL-3.0", "Proprietary"])
def test_other_licences_do_not(licence: str) -> None:
    assert not is_permissive(licence)


def test_the_manifests_list_beats_the_hash() -> None:
    names = [f"package{i}" for i in range(200)]
    hashed = {split_of(Package(n, "1", "MIT", Path(), ())) for n in names}
    assert hashed == {"train", "validation"}
    assert {split_of(Package(n, "1", "MIT", Path(), (), split="train")) for n in names} == {"train"}


def test_the_installed_packages_are_listed_without_a_look_at_each_file() -> None:
    (source,) = manifest_of(["installed"]).sources
    (numpy,) = packages_of(source, frozenset({"numpy"}))
    assert "numpy/__init__.py" in numpy.files
    assert (numpy.root / "numpy/__init__.py").exists()


def test_without_a_network_codexglue_says_so_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def offline(*args: object, **options: object) -> None:
        raise ConnectionError("no route to the hub\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    table = '[[sources]]\nkind = "codexglue"\npackages = [{ name = "py150", licence = "C-UDA" }]\n'
    with pytest.raises(CorpusError, match=r"ConnectionError: no route to the hub\); connect to a network"):
        find([write_manifest(tmp_path, table)])

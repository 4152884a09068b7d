"""Where source files come from: a TOML manifest's `[[sources]]` tables, read into packages.

    allow_copyleft = false         # true lets in what is not permissive; the corpus manifest then names it

    [[sources]]
    kind = "distributions"         # Python: unpacked by `pip install --no-deps --target FOLDER/NAME NAME==VERSION`
    path = "~/folder/*"
    validation = ["alembic"]       # the others train; without this list a hash of the name decides

    [[sources]]
    kind = "archive"               # zip or tar; {name} stands for each package's name
    path = "~/java/{name}/*.orig*.tar.*"
    language = "java"
    split = "train"
    packages = [{ name = "ant", version = "1.10.13", licence = "Apache-2.0" }]

Other kinds: `stdlib` and `installed` (Python), `folder` (source files of one package), `jsonl` (a row per file) and
`codexglue` (py150 or javaCorpus through `datasets`).
"""

from __future__ import annotations

import csv
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Literal, get_args

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from greencode_lsp.errors import CorpusError
from training.data.archives import SUFFIXES, archive_members, identity, json_members, lay_out
from training.data.packages import VENDORED, Package, Split, licence_of, normalised_name

FOLDER = Path(__file__).parents[1] / "presets" / "sources"

Kind = Literal["stdlib", "installed", "distributions", "folder", "archive", "jsonl", "codexglue"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One package of a source, where its own metadata cannot say."""

    name: str
    version: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One `[[sources]]` table."""

    kind: Kind
    language: str = "python"
    path: str = ""
    """A path or glob; `{name}` stands for the name of each of `packages`."""
    split: Split | None = None
    """Of all its packages."""
    validation: list[str] = field(default_factory=list)
    """The packages that are for validation; where it is not empty, the others train."""
    licence: str = ""
    """Overrides what metadata says or cannot know."""
    packages: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SourceManifest:
    """All sources of a corpus."""

    sources: list[Source]
    allow_copyleft: bool = False


def read_manifest(path: Path) -> SourceManifest:
    """Read a TOML manifest. Raises CorpusError naming the key or value that is wrong."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.name for p in FOLDER.glob("*.toml")))
        raise CorpusError(f"There is no source manifest {path}; the shipped ones are {known}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise CorpusError(f"{path} is not TOML: {error}.") from error
    try:
        tables = data.pop("sources", [])
        entries = [[Entry(**entry) for entry in table.pop("packages", [])] for table in tables]
        sources = [Source(**table, packages=e) for table, e in zip(tables, entries, strict=True)]
        manifest = SourceManifest(sources, **data)
    except (TypeError, AttributeError) as error:
        raise CorpusError(f"{path} is not a source manifest: {error}.") from error
    for source in manifest.sources:
        _check(source, path)
    return manifest


def _check(source: Source, path: Path) -> None:
    for key, value, known in (
        ("kind", source.kind, get_args(Kind)),
        ("language", source.language, tuple(SUFFIXES)),
        ("split", source.split, (None, *get_args(Split))),
    ):
        if value not in known:
            raise CorpusError(f"{path}: {key} = {value!r} is none of {', '.join(str(k) for k in known if k)}.")
    if source.kind in ("folder", "archive", "codexglue") and not source.packages:
        raise CorpusError(f"{path}: a source of kind {source.kind!r} needs `packages` with name and licence.")
    if source.kind in ("distributions", "folder", "archive", "jsonl") and not source.path:
        raise CorpusError(f"{path}: a source of kind {source.kind!r} needs a `path`.")
    if len(source.packages) > 1 and source.kind in ("folder", "archive") and "{name}" not in source.path:
        raise CorpusError(f"{path}: {len(source.packages)} packages need a `path` with {{name}} in it.")


def manifest_of(words: list[str]) -> SourceManifest:
    """Return the sources a preset lists: `stdlib`, `installed`, manifests (`*.toml`), or folders of distributions."""
    sources: list[Source] = []
    copyleft = False
    for word in words:
        if word.endswith(".toml"):
            path = Path(word).expanduser()
            manifest = read_manifest(path if path.is_absolute() else FOLDER / path)
            sources += manifest.sources
            copyleft |= manifest.allow_copyleft
        elif word == "stdlib":
            sources.append(Source("stdlib"))
        elif word == "installed":
            sources.append(Source("installed"))
        else:
            sources.append(Source("distributions", path=word))
    return SourceManifest(sources, copyleft)


def packages_of(source: Source, names: frozenset[str] | None = None) -> Iterator[Package]:
    """Yield the packages of a source, whatever their licence; only those called `names` where given.

    Raises CorpusError where a file or folder that the source names is missing or damaged.
    """
    for package in _READERS[source.kind](source, names):
        licence = source.licence or package.licence
        split = source.split or (_listed(source, package.name) if source.validation else package.split)
        yield replace(package, licence=licence, language=source.language, split=split)


def _listed(source: Source, name: str) -> Split:
    return "validation" if name in source.validation else "train"


def _paths(pattern: str) -> list[Path]:
    """Return what a path or glob names, sorted."""
    path = Path(pattern).expanduser()
    return (
        sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if path.is_absolute()
        else sorted(Path().glob(str(path)))
    )


def _existing(pattern: str) -> list[Path]:
    paths = _paths(pattern)
    if not paths:
        raise CorpusError(f"The source {pattern} does not exist; fetch it or take it out of the manifest.")
    return paths


def _kept(files: Iterator[str]) -> tuple[str, ...]:
    return tuple(sorted(f for f in files if not VENDORED.search(f)))


def _standard_library(source: Source, names: frozenset[str] | None) -> Iterator[Package]:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = (p.relative_to(root).as_posix() for p in root.rglob("*.py"))
    kept = _kept(f for f in files if not f.startswith(("lib2to3/tests", "idlelib")))
    if names is None or "python-stdlib" in names:
        yield Package("python-stdlib", ".".join(map(str, sys.version_info[:3])), "PSF-2.0", root, kept)


def python_files(distribution: Distribution) -> list[str]:
    """Return the installed Python files as RECORD lists them.

    `Distribution.files` builds an object for every file and looks each up on disk: 40 s for a hundred distributions.
    """
    record = distribution.read_text("RECORD")
    if record is None:
        return [str(f) for f in distribution.files or () if f.suffix == ".py"]
    names = [row[0] for row in csv.reader(record.splitlines()) if row]
    return [name for name in names if name.endswith(".py") and not name.startswith(("..", "/"))]


def _from_distributions(search: list[str], names: frozenset[str] | None) -> Iterator[Package]:
    for distribution in distributions(path=search):
        name = normalised_name(distribution.metadata["Name"] or "")
        if names is not None and name not in names:
            continue
        kept = _kept(iter(python_files(distribution)))
        if kept:
            root = Path(str(distribution.locate_file("")))
            yield Package(name, distribution.version, licence_of(distribution), root, kept)


def _installed(source: Source, names: frozenset[str] | None) -> Iterator[Package]:
    return _from_distributions(sys.path, names)


def _distributions(source: Source, names: frozenset[str] | None) -> Iterator[Package]:
    return _from_distributions([str(path) for path in _existing(source.path)], names)


def _wanted(source: Source, names: frozenset[str] | None) -> Iterator[Entry]:
    return (entry for entry in source.packages if names is None or entry.name in names)


def _tree(entry: Entry, root: Path, language: str) -> Package:
    files = (p.relative_to(root).as_posix() for p in root.rglob("*" + SUFFIXES[language]))
    return Package(entry.name, entry.version, entry.licence, root, _kept(files))


def _folders(source: Source, names: frozenset[str] | None) -> Iterator[Package]:
    for entry in _wanted(source, names):
        for root in _existing(source.path.replace("{name}", entry.name)):
            yield _tree(entry, root, source.language)


def _archives(source: Source, names: frozenset[str] | None) -> Iterator[Package]:
    missing = []
    for entry in _wanted(source, names):
        paths = [at for at in _paths(source.path.replace("{name}", entry.name)) if at.suffix != ".asc"]  # signatures
        if not paths:
            missing.append(entry.name)
            continue

        def members(paths: list[Path] = paths) -> Iterator[tuple[str, bytes]]:
            for path in paths:
                yield from archive_members(path, source.language).items()

        root = lay_out("\n".join(map(identity, paths)), members)
        yield _tree(entry, root, source.language)
    if missing:
        raise CorpusError(
            f"No archive {source.path} for {', '.join(missing)}; fetch it or take it out of the manifest."
        )


def _json_lines(source: Source, names: frozenset[str] | None) -> Iterator[Package]:
    for path in _existing(source.path):

        def members(path: Path = path) -> Iterator[tuple[str, bytes]]:
            return json_members(path, source.language)

        yield from _by_folder(lay_out(identity(path), members), source, names)


def _codexglue(source: Source, names: frozenset[str] | None) -> Iterator[Package]:
    from training.data.codexglue import SPLITS, members

    splits = SPLITS[source.language]
    for entry, split in ((entry, split) for entry in source.packages for split in splits):
        key = f"codexglue:{source.language}:{entry.version}:{split}"
        root = lay_out(key, lambda split=split: members(source.language, split))  # type: ignore[misc]
        for package in _by_folder(root, source, names):
            own = split if len(splits) > 1 else None
            yield replace(package, licence=entry.licence, version=entry.version, split=own)


def _by_folder(root: Path, source: Source, names: frozenset[str] | None) -> Iterator[Package]:
    """Yield a package per first-level folder."""
    entries = {entry.name: entry for entry in source.packages}
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        if names is None or folder.name in names:
            yield _tree(entries.get(folder.name, Entry(folder.name)), folder, source.language)


_READERS = {
    "stdlib": _standard_library,
    "installed": _installed,
    "distributions": _distributions,
    "folder": _folders,
    "archive": _archives,
    "jsonl": _json_lines,
    "codexglue": _codexglue,
}

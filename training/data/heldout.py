"""Held-out test lines: frozen pointers (package, version, file, SHA-256, line, column), never text, never trained on.

Drawn once, uniformly over the non-blank lines of the packages pinned in the extra `eval` (Python) and in `java.toml`,
before any training; the column is uniform over the line's code. Never filtered after results are seen. A file whose
hash differs is left out and counted. They are drawn by `python -m training heldout
--languages LANGUAGE`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import sha256
from training.data.corpus import discover, read_source, texts_of
from training.data.cursors import SourcePosition
from training.data.packages import Package, normalised_name
from training.data.sources import manifest_of, packages_of

FOLDER = Path(__file__).parents[1] / "heldout"
LINES = 1_000
LANGUAGES = ("python", "java")


@dataclass(frozen=True, slots=True)
class Pointer:
    """One cursor position in a published file. Line and column are 1-based, columns in code points."""

    package: str
    version: str
    licence: str
    file: str
    sha256: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class HeldOutLine:
    """A pointer and what it points to."""

    pointer: Pointer
    position: SourcePosition


def draw(packages: list[Package], count: int = LINES, seed: int = 0) -> list[Pointer]:
    """Draw `count` cursor positions uniformly over all non-blank lines of `packages`."""
    candidates = []
    for package in packages:
        for name in package.files:
            text = read_source(package.root / name)
            lines = (text or "").split("\n")
            candidates += [(package, name, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    rng = random.Random(seed)
    pointers = []
    for package, name, number, line in rng.sample(candidates, count):
        column = rng.randrange(len(line) - len(line.lstrip()), len(line.rstrip())) + 1
        digest = sha256(package.root / name)
        pointers.append(Pointer(package.name, package.version, package.licence, name, digest, number, column))
    return pointers


def freeze(sources: list[str], language: str = "python") -> Path:
    """Draw and write `<language>.json`; refuses to overwrite a frozen draw."""
    path = FOLDER / f"{language}.json"
    if path.exists():
        raise CorpusError(f"{path} is frozen; held-out lines are drawn once.")
    packages = held_out(sources, language)
    missing = _names(language) - {p.name for p in packages}
    if missing:
        raise CorpusError(f"Held-out packages are not installed: {', '.join(sorted(missing))}; {HOW_TO[language]}.")
    rows = [asdict(pointer) for pointer in draw(packages)]
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf8")
    return path


HOW_TO = {"python": "pip install '.[eval]'", "java": f"see {FOLDER.name}/java.toml"}


def _names(language: str) -> frozenset[str]:
    if language == "java":
        (source,) = manifest_of([str(FOLDER / "java.toml")]).sources
        return frozenset(entry.name for entry in source.packages)
    text = (FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf8")
    block = text.split("eval = [", 1)[1].split("]", 1)[0]
    return frozenset(normalised_name(line.split('"')[1].split("==")[0]) for line in block.splitlines() if '"' in line)


def eval_packages() -> frozenset[str]:
    """Return the names held out in all languages: never trained on, never used to calibrate."""
    return frozenset().union(*map(_names, LANGUAGES))


def trainable(packages: Iterable[Package]) -> list[Package]:
    """Return the packages that may be learnt from in any way: those that are not held out."""
    held = eval_packages()
    return [package for package in packages if package.name not in held]


def held_out(sources: list[str], language: str = "python") -> list[Package]:
    """Return those held-out packages that are there.

    `sources` are `installed` or folders: of unpacked distributions for Python; for Java, of folders of archives, where
    `installed` is the folder that `java.toml` names.
    """
    if language == "python":
        try:
            return discover(sources, _names("python"))
        except CorpusError:  # none is there
            return []
    (source,) = manifest_of([str(FOLDER / "java.toml")]).sources
    tail = source.path.partition("{name}")[2]
    paths = [source.path if word == "installed" else f"{word}/{{name}}{tail}" for word in sources if word != "stdlib"]
    packages: dict[str, Package] = {}
    for path in paths:
        for name in sorted(_names("java") - packages.keys()):
            try:
                packages.update({p.name: p for p in packages_of(replace(source, path=path), frozenset({name}))})
            except CorpusError:  # this one is not there, and is counted
                continue
    return list(packages.values())


def held_out_texts(sources: list[str], language: str) -> Iterator[str]:
    """Yield all texts of the held-out packages that are there, so that nothing like them is trained on."""
    return (text for package in held_out(sources, language) for text in texts_of(package))


def read_lines(sources: list[str], language: str = "python") -> tuple[list[HeldOutLine], int]:
    """Return the frozen lines whose files are there unchanged, and how many are missing or differ."""
    pointers = [Pointer(**row) for row in json.loads((FOLDER / f"{language}.json").read_text(encoding="utf8"))]
    roots = {p.name: p.root for p in held_out(sources, language)}
    lines = list(_resolve(pointers, roots, language))
    return lines, len(pointers) - len(lines)


def _resolve(pointers: list[Pointer], roots: dict[str, Path], language: str) -> Iterator[HeldOutLine]:
    for pointer in pointers:
        path = roots.get(pointer.package, Path("/nonexistent")) / pointer.file
        if not path.exists() or sha256(path) != pointer.sha256:
            continue
        text = read_source(path)
        if text is not None:
            start = sum(len(line) + 1 for line in text.split("\n")[: pointer.line - 1])
            position = SourcePosition(text, start + pointer.column - 1, pointer.package, language, pointer.file)
            yield HeldOutLine(pointer, position)

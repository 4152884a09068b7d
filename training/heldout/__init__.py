"""Held-out test lines: frozen pointers (package, version, file, SHA-256, line, column), never text, never trained on.

Drawn once, uniformly over the non-blank lines of the packages pinned in the extra `eval`, before any training; the
column is uniform over the line's code. Never filtered after results are seen. A file whose hash differs is left out
and counted. Command that drew them: `python -m training heldout`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import sha256
from training.corpus import Package, discover, normalised_name, read_source

FOLDER = Path(__file__).parent
LINES = 1_000


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
    """A pointer with its text: complete `text[offset:]` up to the line's end."""

    pointer: Pointer
    text: str
    offset: int

    @property
    def rest_of_line(self) -> str:
        """What the author wrote from the cursor to the end of the line."""
        return self.text[self.offset :].split("\n", 1)[0]


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
    wanted = eval_packages()
    packages = [p for p in discover(sources) if p.name in wanted]
    missing = wanted - {p.name for p in packages}
    if missing:
        raise CorpusError(f"Held-out packages are not installed: {', '.join(sorted(missing))}; pip install '.[eval]'.")
    rows = [asdict(pointer) for pointer in draw(packages)]
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf8")
    return path


def eval_packages() -> frozenset[str]:
    """Return the names pinned in the extra `eval`: never trained on, never used to calibrate."""
    text = (FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf8")
    block = text.split("eval = [", 1)[1].split("]", 1)[0]
    return frozenset(normalised_name(line.split('"')[1].split("==")[0]) for line in block.splitlines() if '"' in line)


def read_lines(sources: list[str], language: str = "python") -> tuple[list[HeldOutLine], int]:
    """Return the frozen lines whose files are installed unchanged, and how many are missing or differ."""
    pointers = [Pointer(**row) for row in json.loads((FOLDER / f"{language}.json").read_text(encoding="utf8"))]
    roots = {p.name: p.root for p in discover(sources)}
    lines = list(_resolve(pointers, roots))
    return lines, len(pointers) - len(lines)


def _resolve(pointers: list[Pointer], roots: dict[str, Path]) -> Iterator[HeldOutLine]:
    for pointer in pointers:
        path = roots.get(pointer.package, Path("/nonexistent")) / pointer.file
        if not path.exists() or sha256(path) != pointer.sha256:
            continue
        text = read_source(path)
        if text is not None:
            start = sum(len(line) + 1 for line in text.split("\n")[: pointer.line - 1])
            yield HeldOutLine(pointer, text, start + pointer.column - 1)

"""SourcePosition positions in validation files: half of the packages for the agent, the other half for calibration.

Drawn as the held-out lines are: uniform over non-blank lines, the column uniform over the line's code. Validation
packages are never trained on, and the held-out lines are in other packages still.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from greencode_lsp.errors import CorpusError

Half = Literal["agent", "calibration"]
HALVES: tuple[Half, ...] = ("calibration", "agent")


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """A cursor in a source text, offset in code points: the rest of the line is what is asked for, and hidden."""

    text: str
    offset: int
    package: str = ""
    language: str = "python"
    path: str = ""
    """Of the file in its package, for models that are told its name."""
    hidden: str | None = None
    """What is asked for, where that is not the rest of the line."""

    @property
    def document(self) -> str:
        """The text as an editor shows it at that moment, without what is asked for."""
        return self.text[: self.offset] + self.text[self.offset + len(self.asked) :]

    @property
    def asked(self) -> str:
        """The reference text."""
        return self.rest_of_line if self.hidden is None else self.hidden

    @property
    def rest_of_line(self) -> str:
        """From the cursor to the end of the line."""
        return self.text[self.offset :].split("\n", 1)[0]


def half_of(rows: Sequence[dict[str, str]], half: Half) -> list[dict[str, str]]:
    """Return the files of one half: the packages of each language in turn, in an order of their names' hashes.

    So no package is in both; where a language has one package only, no file is.
    """
    kept: list[dict[str, str]] = []
    for language in sorted({row.get("language", "python") for row in rows}):
        files = [row for row in rows if row.get("language", "python") == language]
        key = "package" if len({row["package"] for row in files}) > 1 else "path"
        order = sorted({row[key] for row in files}, key=lambda name: hashlib.sha256(name.encode()).digest())
        chosen = set(order[HALVES.index(half) :: len(HALVES)])
        kept += [row for row in files if row[key] in chosen]
    return kept


def draw(work: Path, half: Half, count: int, seed: int = 0, language: str | None = None) -> list[SourcePosition]:
    """Draw cursors in `work/validation.jsonl`, in files of one language where it is given.

    Raises CorpusError where that half has fewer lines than asked for.
    """
    path = work / "validation.jsonl"
    if not path.exists():
        raise CorpusError(f"There is no {path}; `python -m training corpus` makes it, where the sources are.")
    with path.open(encoding="utf8") as file:
        rows = [json.loads(line) for line in file]
    files = [row for row in half_of(rows, half) if language in (None, row.get("language", "python"))]
    lines = [(row, number) for row in files for number, line in enumerate(row["text"].split("\n")) if line.strip()]
    if len(lines) < count:
        raise CorpusError(f"The {half} half of {path} has {len(lines)} lines of {count}; name more sources.")
    rng = random.Random(f"{half}:{seed}")
    cursors = []
    for row, number in rng.sample(lines, count):
        text = row["text"]
        before = text.split("\n")[: number + 1]
        line = before[-1]
        start = len("\n".join(before)) - len(line)
        column = rng.randrange(len(line) - len(line.lstrip()), len(line.rstrip()))
        cursors.append(
            SourcePosition(text, start + column, row["package"], row.get("language", "python"), row.get("path", ""))
        )
    return cursors

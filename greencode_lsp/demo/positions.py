"""The demo's cursor positions.

A sample is a whole module in which ⟦...⟧ marks what its writer has yet to write. At one position that piece is absent
and every other piece is written, so that the cursor stands in a file as it would in an editor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SAMPLES = Path(__file__).parent / "samples"
PIECE = re.compile("⟦(.*?)⟧", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CursorPosition:
    """A cursor in a text; `offset` in code points."""

    file: str
    text: str
    offset: int
    language: str = "python"

    @property
    def line(self) -> int:
        """The cursor's line, from 1."""
        return self.text.count("\n", 0, self.offset) + 1

    @property
    def shown_before(self) -> str:
        """The cursor's line up to it, with the line before where it is blank so far."""
        lines = self.text[: self.offset].split("\n")
        return lines[-1] if lines[-1].strip() else "\n".join(lines[-2:])


def cut(file: str, marked: str) -> list[CursorPosition]:
    """Return one position for each ⟦piece⟧ of a marked text, in order."""
    positions = []
    for piece in PIECE.finditer(marked):
        before = PIECE.sub(r"\1", marked[: piece.start()])
        after = PIECE.sub(r"\1", marked[piece.end() :])
        positions.append(CursorPosition(file, before + after, len(before)))
    return positions


def positions() -> list[CursorPosition]:
    """Return the demo's ten positions, by file name."""
    files = sorted(SAMPLES.glob("*.py.txt"))
    return [
        position for file in files for position in cut(file.name.removesuffix(".txt"), file.read_text(encoding="utf8"))
    ]

r"""Client positions and code points; the only module that reads `.character`.

A line ends at `\n`, `\r\n` or `\r` and nowhere else, as the protocol has it; Python's own `splitlines` also ends
lines at form feeds, which real source files contain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lsprotocol import types

from greencode_lsp.errors import PositionError
from greencode_lsp.limits import LINE_CHARACTERS

LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)?")

UNITS: dict[str, Callable[[str], int]] = {
    types.PositionEncodingKind.Utf8.value: lambda text: len(text.encode("utf-8", "surrogatepass")),
    types.PositionEncodingKind.Utf16.value: lambda text: len(text.encode("utf-16-le", "surrogatepass")) // 2,
    types.PositionEncodingKind.Utf32.value: len,
}
"""Encoding -> code units of a text."""


def split_lines(text: str) -> list[str]:
    """Return the lines with their ends; the last one has none and may be empty."""
    if text.count("\r") == text.count("\r\n"):
        *lines, last = text.split("\n")
        return [line + "\n" for line in lines] + [last]
    lines = LINE.findall(text)
    return lines[:-1] if len(lines) > 1 and not lines[-2].endswith(("\r", "\n")) else lines


def place_in(lines: Sequence[str], position: types.Position, encoding: str) -> tuple[int, int]:
    """Return a position's line and code points in it; beyond a line's end means its end.

    Raises PositionError where there is no such line.
    """
    if position.line >= len(lines):
        raise PositionError(
            f"Line {position.line + 1} is outside the document, which has {len(lines)} lines; "
            "close and open the file again to bring the editor and greencode-lsp in step."
        )
    return position.line, code_points(lines[position.line].rstrip("\r\n"), position.character, encoding)


def clamp(lines: Sequence[str], position: types.Position, encoding: str) -> tuple[int, int]:
    """Return the same; beyond the last line means the end of the document."""
    if position.line >= len(lines):
        return len(lines) - 1, len(lines[-1])
    return place_in(lines, position, encoding)


def offset_at(text: str, position: types.Position, encoding: str) -> int:
    """Return the code-point offset of a client's position. Raises PositionError where there is no such line."""
    lines = split_lines(text)
    line, column = place_in(lines, position, encoding)
    return sum(map(len, lines[:line])) + column


def code_points(text: str, code_units: int, encoding: str) -> int:
    """Return how many characters of `text` so many of the client's code units are; of a character none or all."""
    if text.isascii() or encoding == types.PositionEncodingKind.Utf32.value:
        return min(code_units, len(text))
    units, used, low, high = UNITS[encoding], 0, 0, min(code_units, len(text))
    while low < high:  # by halves, each looked at once: a character may have several units
        middle = (low + high + 1) // 2
        width = units(text[low:middle])
        if used + width <= code_units:
            low, used = middle, used + width
        else:
            high = middle - 1
    return low


def position_at(text: str, offset: int, line: int, encoding: str) -> types.Position:
    """Return the client's position of a code-point offset in a line whose number is known."""
    start = max(text.rfind("\n", 0, offset), text.rfind("\r", max(0, offset - LINE_CHARACTERS - 2), offset)) + 1
    return types.Position(line=line, character=UNITS[encoding](text[start:offset]))

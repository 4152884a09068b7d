r"""Client positions and code-point offsets; the only module that reads `.character`.

A line ends at `\n`, `\r\n` or `\r` and nowhere else, as the protocol has it; Python's own `splitlines` also ends
lines at form feeds, which real source files contain.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lsprotocol import types
from pygls.workspace import TextDocument

from greencode_lsp.completion.pipeline import Request
from greencode_lsp.errors import PositionError

LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)?")

UNITS: dict[str, Callable[[str], int]] = {
    types.PositionEncodingKind.Utf8.value: lambda text: len(text.encode("utf-8", "surrogatepass")),
    types.PositionEncodingKind.Utf16.value: lambda text: len(text) + sum(c > "\uffff" for c in text),
    types.PositionEncodingKind.Utf32.value: len,
}
"""Encoding -> code units of a text."""


def split_lines(text: str) -> list[str]:
    """Return the lines with their ends; the last one has none and may be empty."""
    lines = LINE.findall(text)
    return lines[:-1] if len(lines) > 1 and not lines[-2].endswith(("\r", "\n")) else lines


def offset_at(text: str, position: types.Position, encoding: str) -> int:
    """Return the code-point offset of a client's position; beyond a line's end means its end.

    Raises PositionError where the document has no such line.
    """
    lines = _lines_to(text, position.line)
    if position.line >= len(lines):
        raise PositionError(
            f"Line {position.line + 1} is outside the document, which has {len(lines)} lines; "
            "close and open the file again to bring the editor and greencode-lsp in step."
        )
    line = lines[position.line].rstrip("\r\n")
    return sum(map(len, lines[: position.line])) + code_points(line, position.character, encoding)


def _lines_to(text: str, line: int) -> list[str]:
    """Return the lines up to one, with their ends, and perhaps more; of large files without looking at every line."""
    if text.count("\r") != text.count("\r\n"):
        return split_lines(text)
    *lines, rest = text.split("\n", line + 1)
    found = [each + "\n" for each in lines]
    return found if len(found) > line else [*found, rest]


def code_points(text: str, code_units: int, encoding: str) -> int:
    """Return how many characters of `text` so many of the client's code units are."""
    units, used = UNITS[encoding], 0
    for index, character in enumerate(text):
        used += units(character)
        if used > code_units:
            return index
    return len(text)


def position_at(text: str, offset: int, encoding: str) -> types.Position:
    """Return the client's position of a code-point offset."""
    if text.count("\r", 0, offset) != text.count("\r\n", 0, offset):
        lines = split_lines(text[:offset])
        return types.Position(line=len(lines) - 1, character=UNITS[encoding](lines[-1]))
    start = text.rfind("\n", 0, offset) + 1
    return types.Position(line=text.count("\n", 0, offset), character=UNITS[encoding](text[start:offset]))


def locate(document: TextDocument, position: types.Position, encoding: str) -> Request:
    """Return the request for a position; raises PositionError where it, or the document's text, cannot be had."""
    try:
        text = document.source  # of a document that was not opened: read from disk
    except (OSError, ValueError) as error:  # no such file, no UTF-8, or no file's name at all
        raise PositionError(
            f"{document.filename} cannot be read as UTF-8 text ({type(error).__name__}); open it in the editor first, "
            "or save it as UTF-8."
        ) from error
    return Request(text, offset_at(text, position, encoding), document.language_id or "")


class Document(TextDocument):
    """A document whose incremental changes are applied by the protocol's lines."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines with their ends."""
        return tuple(split_lines(self.source))

    def apply_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        """Take a change; beyond a line's end means its end, beyond the last line the document's, as the LSP has it."""
        if not isinstance(change, types.TextDocumentContentChangePartial):
            super().apply_change(change)
            return
        text = self.source
        start, end = sorted(self._clamped(text, place) for place in (change.range.start, change.range.end))
        self._source = text[:start] + change.text + text[end:]

    def _clamped(self, text: str, position: types.Position) -> int:
        try:
            return offset_at(text, position, types.PositionEncodingKind(self._position_codec.encoding).value)
        except PositionError:
            return len(text)

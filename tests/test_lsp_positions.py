"""Client positions and code-point offsets, in every unit a client may count in."""

from __future__ import annotations

import ast
import random
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

import greencode_lsp
from greencode_lsp.errors import PositionError
from greencode_lsp.lsp.documents import Document
from greencode_lsp.lsp.positions import offset_at, position_at, split_lines

TEXT = "a = 'é😀'\t# x\r\n\x0cb = 1\u2028 2\n\n"
UNITS = {"utf-8": lambda c: len(c.encode()), "utf-16": lambda c: 2 if c > "\uffff" else 1, "utf-32": len}


def opened(text: str) -> Document:
    return Document(types.TextDocumentItem("file:///a.py", "python", 1, text), "utf-16")


@pytest.mark.parametrize("encoding", UNITS)
def test_every_offset_comes_back_from_its_position(encoding: str) -> None:
    for offset in range(len(TEXT) + 1):
        line = len(split_lines(TEXT[:offset])) - 1
        if TEXT[offset - 1 : offset + 1] != "\r\n":
            assert offset_at(TEXT, position_at(TEXT, offset, line, encoding), encoding) == offset


@pytest.mark.parametrize(("encoding", "character"), [("utf-8", 11), ("utf-16", 8), ("utf-32", 7)])
def test_an_emoji_counts_in_the_units_of_the_client(encoding: str, character: int) -> None:
    assert position_at(TEXT, TEXT.index("😀") + 1, 0, encoding) == types.Position(0, character)


def test_a_position_inside_a_surrogate_pair_is_before_the_character() -> None:
    assert offset_at("😀", types.Position(0, 1), "utf-16") == 0


def test_lines_end_at_line_feeds_and_carriage_returns_only() -> None:
    assert split_lines(TEXT) == ["a = 'é😀'\t# x\r\n", "\x0cb = 1\u2028 2\n", "\n", ""]
    assert split_lines("") == [""]
    assert split_lines("a\rb") == ["a\r", "b"]


def test_beyond_the_end_of_a_line_is_its_end() -> None:
    assert offset_at("ab\ncd", types.Position(0, 99), "utf-16") == 2


def test_a_line_outside_the_document_is_reported() -> None:
    with pytest.raises(PositionError, match=r"Line 3 is outside the document, which has 2 lines;.*\."):
        offset_at("ab\ncd", types.Position(2, 0), "utf-16")


def test_changes_below_a_form_feed_land_on_the_protocols_line() -> None:
    document = opened("\x0ca\nb\n")
    where = types.Range(types.Position(1, 0), types.Position(1, 1))
    document.apply_change(types.TextDocumentContentChangePartial(range=where, text="c"))
    assert document.source == "\x0ca\nc\n"


def test_no_other_module_reads_character() -> None:
    package = Path(greencode_lsp.__file__).parent
    readers = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8")))
        if isinstance(node, ast.Attribute) and node.attr == "character"
    }
    assert readers == {"positions.py"}


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        ("self.x", ((0, 6), (0, 7), ""), "self.x"),
        ("old = 1", ((0, 0), (0, 99999), "x"), "x"),
        ("hello\nworld", ((0, 0), (0, 6), ""), "\nworld"),
        ("a\r\nb", ((0, 1), (0, 9), "!"), "a!\r\nb"),
        ("a\n", ((7, 3), (9, 0), "b"), "a\nb"),
        ("ab", ((0, 2), (0, 1), "x"), "ax"),
    ],
)
def test_an_edit_past_a_lines_end_means_its_end(text: str, change: tuple[Any, Any, str], expected: str) -> None:
    start, end, new = change
    document = opened(text)
    span = types.Range(types.Position(*start), types.Position(*end))
    document.apply_change(types.TextDocumentContentChangePartial(range=span, text=new))
    assert document.source == expected


def _before(lines: list[str], at: tuple[int, int]) -> str:
    """Return the text before a place, in UTF-16 units, by the protocol's words."""
    line, units = at
    if line >= len(lines):
        return "\n".join(lines)
    kept, used = "", 0
    for character in lines[line]:
        used += 2 if character > "\uffff" else 1
        if used > units:
            break
        kept += character
    return "\n".join([*lines[:line], kept])


def test_random_edits_past_line_ends_equal_the_protocols_by_hand() -> None:
    rng = random.Random(0)
    document, lines = opened(""), [""]

    def place() -> tuple[int, int]:
        return rng.randrange(len(lines) + 2), rng.randrange(12)

    for _ in range(2000):
        first, last = sorted((place(), place()))
        new = rng.choice(["", "x", "def f():\n", "\n\n", "é😀"])
        document.apply_change(
            types.TextDocumentContentChangePartial(
                range=types.Range(types.Position(*first), types.Position(*last)), text=new
            )
        )
        text = "\n".join(lines)
        lines = (_before(lines, first) + new + text[len(_before(lines, last)) :]).split("\n")[:40]
        if "\n".join(lines) != document.source:
            assert document.source.split("\n")[:40] == lines
            document = opened("\n".join(lines))

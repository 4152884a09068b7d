"""Client positions and code-point offsets, in every unit a client may count in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from lsprotocol import types
from pygls.workspace import PositionCodec

import greencode_lsp
from greencode_lsp.errors import PositionError
from greencode_lsp.lsp.positions import Document, offset_at, position_at, split_lines

TEXT = "a = 'é😀'\t# x\r\n\x0cb = 1\u2028 2\n\n"
UNITS = {"utf-8": lambda c: len(c.encode()), "utf-16": lambda c: 2 if c > "\uffff" else 1, "utf-32": len}


@pytest.mark.parametrize("encoding", UNITS)
def test_every_offset_comes_back_from_its_position(encoding: str) -> None:
    for offset in range(len(TEXT) + 1):
        if TEXT[offset - 1 : offset + 1] != "\r\n":
            assert offset_at(TEXT, position_at(TEXT, offset, encoding), encoding) == offset


@pytest.mark.parametrize(("encoding", "character"), [("utf-8", 11), ("utf-16", 8), ("utf-32", 7)])
def test_an_emoji_counts_in_the_units_of_the_client(encoding: str, character: int) -> None:
    assert position_at(TEXT, TEXT.index("😀") + 1, encoding) == types.Position(0, character)


def test_a_position_inside_a_surrogate_pair_is_before_the_character() -> None:
    assert offset_at("😀", types.Position(0, 1), "utf-16") == 0


def test_lines_end_at_line_feeds_and_carriage_returns_only() -> None:
    assert split_lines(TEXT) == ["a = 'é😀'\t# x\r\n", "\x0cb = 1\u2028 2\n", "\n", ""]
    assert split_lines("") == [""]
    assert split_lines("a\rb") == ["a\r", "b"]


def test_beyond_the_end_of_a_line_is_its_end() -> None:
    assert offset_at("ab\ncd", types.Position(0, 99), "utf-16") == 2


def test_a_line_outside_the_document_is_told() -> None:
    with pytest.raises(PositionError, match=r"Line 3 is outside the document, which has 2 lines;.*\."):
        offset_at("ab\ncd", types.Position(2, 0), "utf-16")


def test_changes_below_a_form_feed_land_on_the_protocols_line() -> None:
    document = Document("file:///a.py", "\x0ca\nb\n", 1, "python", position_codec=PositionCodec())
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

"""Notebooks on the wire: what stands above a cell as code is read, and the answer stays in the cell.

The model says `first_cell` after the first cell, `both_cells` after two, and `alone` after none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from greencode_lsp.lsp.notebooks import code_of
from tests.soak.wire import Wire, connect

FAKE = ("-m", "tests.fake_server")
NOTEBOOK = "file:///home/me/book.ipynb"
FIRST, SECOND, WHICH = "first_cell = 1", "second_cell = 2", "which_cell = "
CODE, MARKDOWN = 2, 1


def uri(name: str) -> str:
    return f"vscode-notebook-cell:/home/me/book.ipynb#{name}"


def item(name: str, text: str, language: str = "python") -> dict[str, Any]:
    return {"uri": uri(name), "languageId": language, "version": 1, "text": text}


def cell(name: str, kind: int = CODE) -> dict[str, Any]:
    return {"kind": kind, "document": uri(name)}


class Book:
    """A notebook in an editor."""

    def __init__(self, wire: Wire, uri: str = NOTEBOOK) -> None:
        self.wire, self.uri, self.version = wire, uri, 1

    def open(self, cells: Sequence[dict[str, Any]], items: Sequence[dict[str, Any]], **changes: Any) -> None:
        notebook = {"uri": self.uri, "notebookType": "jupyter-notebook", "version": 1, "cells": [*cells]} | changes
        self.wire.notify("notebookDocument/didOpen", {"notebookDocument": notebook, "cellTextDocuments": [*items]})

    def change(self, **cells: Any) -> None:
        self.version += 1
        identifier = {"uri": self.uri, "version": self.version}
        params = {"notebookDocument": identifier, "change": {"cells": cells}}
        self.wire.notify("notebookDocument/didChange", params)

    def splice(self, start: int, count: int, cells: Sequence[dict[str, Any]], **others: Any) -> None:
        self.change(structure={"array": {"start": start, "deleteCount": count, "cells": [*cells]}, **others})

    def close(self, *names: str) -> None:
        cells = [{"uri": uri(name)} for name in names]
        self.wire.notify(
            "notebookDocument/didClose", {"notebookDocument": {"uri": self.uri}, "cellTextDocuments": cells}
        )

    async def said(self, name: str = "c", line: int = 0, text: str = WHICH) -> Any:
        position = {"line": line, "character": len(text)}
        params = {"textDocument": {"uri": uri(name)}, "position": position, "context": {"triggerKind": 1}}
        call = await self.wire.ask("textDocument/inlineCompletion", params)
        assert call.error_code is None
        return call.text


@pytest_asyncio.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    async with connect(tmp_path, FAKE, {"debounceMs": 0}) as wire:
        book = Book(wire)
        names = {"a": FIRST, "m": "# Title", "b": SECOND, "c": WHICH}
        items = [item(name, text, "markdown" if name == "m" else "python") for name, text in names.items()]
        book.open([cell(name, MARKDOWN if name == "m" else CODE) for name in names], items)
        yield book
        assert wire.notices == []
        assert await wire.end() == 0


async def test_code_cells_above_are_read_and_markdown_is_not(book: Book) -> None:
    assert await book.said() == "both_cells"


async def test_the_answers_range_is_in_the_cell(book: Book) -> None:
    params = {"textDocument": {"uri": uri("c")}, "position": {"line": 0, "character": len(WHICH)}}
    call = await book.wire.ask("textDocument/inlineCompletion", params | {"context": {"triggerKind": 1}})
    place = {"line": 0, "character": len(WHICH)}
    assert call.answers[0]["result"]["items"][0]["range"] == {"start": place, "end": place}


async def test_a_cell_that_vanishes_is_read_no_more(book: Book) -> None:
    book.splice(1, 2, [], didClose=[{"uri": uri("b")}, {"uri": uri("m")}])
    assert await book.said() == "first_cell"
    book.splice(0, 1, [])
    assert await book.said() == "alone"


async def test_a_cell_that_moves_below_is_read_no_more_and_read_again_above(book: Book) -> None:
    book.splice(1, 3, [cell("m", MARKDOWN), cell("c"), cell("b")])
    assert await book.said() == "first_cell"
    moved = {"didOpen": [item("b", SECOND)], "didClose": [{"uri": uri("b")}]}
    book.splice(1, 3, [cell("b"), cell("c")], **moved)
    assert await book.said() == "both_cells"


async def test_what_is_typed_into_a_cell_above_counts(book: Book) -> None:
    identifier = {"uri": uri("b"), "version": 2}
    book.change(textContent=[{"document": identifier, "changes": [{"text": ""}]}])
    assert await book.said() == "first_cell"
    where = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}}
    book.change(textContent=[{"document": identifier, "changes": [{"range": where, "text": SECOND}]}])
    assert await book.said() == "both_cells"


async def test_a_cell_that_becomes_text_is_read_no_more(book: Book) -> None:
    book.change(data=[cell("b", MARKDOWN)])
    assert await book.said() == "first_cell"


async def test_cells_of_another_language_are_not_read(book: Book) -> None:
    book.splice(2, 1, [cell("j")], didOpen=[item("j", "int j;", "java")])
    assert await book.said() == "first_cell"


async def test_in_a_markdown_cell_and_in_the_first_one_nothing_stands_above(book: Book) -> None:
    book.splice(0, 0, [cell("d")], didOpen=[item("d", WHICH)])
    assert await book.said("d") == "alone"


async def test_a_notebook_that_is_closed_has_no_cells_any_more(book: Book) -> None:
    book.close("a", "b")
    assert await book.said() == ""
    assert any("not open" in line for line in book.wire.logged)


@pytest.mark.parametrize(
    "structure",
    [
        {"array": {"start": 99, "deleteCount": 99, "cells": []}},
        {"array": {"start": 0, "deleteCount": 0}, "didClose": [{"uri": "file:///none"}]},
        {"array": {"start": 4, "deleteCount": 0, "cells": [{"kind": 2, "document": "vscode-notebook-cell:/none#x"}]}},
        {"array": {"start": "0", "deleteCount": None}},
        {"array": {}},
        [],
    ],
)
async def test_changes_that_make_no_sense_do_no_harm(book: Book, structure: Any) -> None:
    book.change(structure=structure)
    assert await book.said() in ("both_cells", "")  # what could not be read is known no more
    book.close("a", "m", "b", "c")
    book.open([cell("c")], [item("c", WHICH)])
    assert await book.said() == "alone"


async def test_messages_of_an_unknown_notebook_are_noted_and_passed_over(book: Book) -> None:
    unknown = Book(book.wire, "untitled:other.ipynb")
    unknown.splice(0, 1, [cell("c")])
    unknown.change(textContent=[{"document": {"uri": uri("none"), "version": 2}, "changes": [{"text": "x"}]}])
    unknown.close("none")
    assert await book.said() == "both_cells"
    assert any("notebook that is not open" in line for line in book.wire.logged)


async def test_a_notebook_without_a_version_is_read(book: Book) -> None:
    book.close("a", "m", "b", "c")
    book.open([cell("a"), cell("c")], [item("a", FIRST), item("c", WHICH)], version=None)
    assert await book.said() == "first_cell"


async def test_an_ignored_notebook_is_not_completed(book: Book, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    name = f"vscode-notebook-cell:{tmp_path}/.env#c"
    book.wire.notify("textDocument/didOpen", {"textDocument": item("c", WHICH) | {"uri": name}})
    params = {"textDocument": {"uri": name}, "position": {"line": 0, "character": len(WHICH)}}
    assert (await book.wire.ask("textDocument/inlineCompletion", params | {"context": {"triggerKind": 1}})).text == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1", "a = 1\n\n"),
        ("a = 1\r\nb\r\n", "a = 1\nb\n\n"),
        ("%%time\na = 1", "a = 1\n\n"),
        ("%%bash\nls", ""),
        ("%%time", ""),
        ("%matplotlib inline\n", "%matplotlib inline\n\n"),
        (" \n", ""),
    ],
)
def test_a_cell_stands_above_others_as_code_with_a_blank_line_behind(text: str, expected: str) -> None:
    assert code_of(text) == expected

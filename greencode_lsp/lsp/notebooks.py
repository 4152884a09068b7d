"""The open notebooks: their cells in order, and what stands above a cell as code.

What a cell is completed after is the code cells above it that are in its language, each with a blank line behind.
Markdown cells are left out: as comments they cost as many tokens as code, and let the model go on in prose. A cell
with a magic of its own (`%%bash`) is in another language; of `%%time` and its like the first line is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lsprotocol import types

from greencode_lsp.errors import DocumentError
from greencode_lsp.lsp.identity import identity

EVERY_NOTEBOOK = types.NotebookDocumentSyncOptions(
    notebook_selector=[
        types.NotebookDocumentFilterWithNotebook(notebook="*", cells=[types.NotebookCellLanguage(language="*")])
    ]
)
"""What the server wants to follow."""
MAGIC = re.compile(r"\s*%%(\w+)[^\n]*(?:\n|\Z)")
AROUND_CODE = ("time", "timeit", "capture", "prun")
"""Cell magics behind which stands code in the notebook's language."""
UNKNOWN = "A change came of a notebook that is not open; it was passed over."


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell by its document's identity."""

    document: str
    is_code: bool

    @classmethod
    def of(cls, cell: types.NotebookCell) -> Cell:
        """Return what is kept of a client's cell."""
        return cls(identity(cell.document), cell.kind == types.NotebookCellKind.Code)


class Notebooks:
    """The cells of each open notebook, in order. Their texts are documents like any others."""

    def __init__(self) -> None:
        self._cells: dict[str, list[Cell]] = {}
        self._notebook_of: dict[str, str] = {}

    def open(self, uri: str, cells: Sequence[types.NotebookCell]) -> None:
        """Take a notebook that was opened."""
        self._set(identity(uri), [Cell.of(cell) for cell in cells])

    def close(self, uri: str) -> list[str]:
        """Forget a notebook; return its cells."""
        notebook = identity(uri)
        cells = [cell.document for cell in self._cells.get(notebook, ())]
        self._set(notebook, [])
        self._cells.pop(notebook, None)
        return cells

    def splice(self, uri: str, change: types.NotebookCellArrayChange) -> None:
        """Replace some cells by others; a place beyond the end is the end. Raises DocumentError for one not open."""
        notebook = identity(uri)
        if notebook not in self._cells:
            raise DocumentError(UNKNOWN)
        cells = self._cells[notebook]
        start = max(0, change.start)
        new = [Cell.of(cell) for cell in change.cells or ()]
        self._set(notebook, [*cells[:start], *new, *cells[start + max(0, change.delete_count) :]])

    def describe(self, uri: str, cells: Sequence[types.NotebookCell]) -> None:
        """Take what cells are now: code, or text. Raises DocumentError for a notebook that is not open."""
        notebook = identity(uri)
        if notebook not in self._cells:
            raise DocumentError(UNKNOWN)
        kinds = {cell.document: cell.is_code for cell in map(Cell.of, cells)}
        self._cells[notebook] = [
            replace(cell, is_code=kinds.get(cell.document, cell.is_code)) for cell in self._cells[notebook]
        ]

    def above(self, document: str) -> Iterator[str]:
        """Yield the code cells above a cell, the nearest first; none of a document that is no cell."""
        cells = self._cells.get(self._notebook_of.get(document, ""), [])
        at = next((index for index, cell in enumerate(cells) if cell.document == document), 0)
        yield from (cell.document for cell in reversed(cells[:at]) if cell.is_code)

    def cells_of(self, uri: str) -> list[str]:
        """Return the cells of a notebook."""
        return [cell.document for cell in self._cells.get(identity(uri), ())]

    def _set(self, notebook: str, cells: list[Cell]) -> None:
        for cell in self._cells.get(notebook, ()):
            self._notebook_of.pop(cell.document, None)
        self._cells[notebook] = cells
        self._notebook_of.update({cell.document: notebook for cell in cells})


def code_of(text: str) -> str:
    """Return a cell's code as it stands above another cell: with a blank line behind, or nothing."""
    magic = MAGIC.match(text)
    if magic is not None:
        text = text[magic.end() :] if magic[1] in AROUND_CODE else ""
    code = text.replace("\r\n", "\n").strip("\n")
    return f"{code}\n\n" if code.strip() else ""

"""The open documents: kept in lines, so that an edit costs what it changes, and one per file however it is spelt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lsprotocol import types
from pygls.workspace import TextDocument, Workspace

from greencode_lsp.errors import DocumentError
from greencode_lsp.limits import (
    ALL_CHARACTERS,
    DOCUMENT_CHARACTERS,
    DOCUMENTS,
    LINE_CHARACTERS,
    NOTEBOOK_CHARACTERS,
    URI_CHARACTERS,
)
from greencode_lsp.lsp.identity import identity, path_of
from greencode_lsp.lsp.notebooks import Notebooks, code_of
from greencode_lsp.lsp.positions import clamp, place_in, split_lines

TOO_LONG = (
    f"The file is longer than {DOCUMENT_CHARACTERS / 1e6:.0f} million characters; it is not completed. "
    "Close it and open it again once it is shorter."
)
TOO_MANY = "Too much text is open for this file to be completed as well; close other files and open it again."
OUT_OF_STEP = (
    "A change of the file could not be read, so that its text is not known any more; close it and open it again."
)
LONG_LINE = f"The line is longer than {LINE_CHARACTERS:,} characters; it is not completed."


class Document(TextDocument):
    """One open document in the client's lines. Its text is joined only when it is asked for.

    A document that is refused keeps no text, and says why.
    """

    def __init__(self, item: types.TextDocumentItem, encoding: str) -> None:
        super().__init__("untitled:", "", item.version, item.language_id)
        self.uri, self.path = item.uri, path_of(item.uri)
        self.revision = 0
        """Counts the changes: versions come from the client, which may leave them out."""
        self.refusal: str | None = None
        self.length = 0
        """In code points."""
        self._encoding = encoding
        self._lines: list[str] = [""]
        self.replace_all(item.text)

    @property
    def lines(self) -> list[str]:
        """The lines with their ends; not to be changed."""
        return self._lines

    @property
    def source(self) -> str:
        """The whole text. Raises DocumentError where it is not kept."""
        if self.refusal is not None:
            raise DocumentError(self.refusal)
        if self._source is None:
            self._source = "".join(self._lines)
        return self._source

    @property
    def known_source(self) -> str:
        """The whole text; nothing where it is not kept."""
        return "" if self.refusal is not None else self.source

    def refuse(self, why: str) -> None:
        """Keep the text no longer; a new full text is taken again."""
        self.refusal, self.length, self._lines, self._source = why, 0, [""], None

    def apply_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        """Take one change: of a range, or the full text."""
        self.revision += 1
        if isinstance(change, types.TextDocumentContentChangePartial):
            if self.refusal is None:
                self._edit(change.range, change.text)
        else:
            self.replace_all(change.text)

    def replace_all(self, text: str) -> None:
        """Take a full text."""
        if len(text) > DOCUMENT_CHARACTERS:
            self.refuse(TOO_LONG)
        else:
            self.refusal, self.length, self._lines, self._source = None, len(text), split_lines(text), text

    def _edit(self, span: types.Range, text: str) -> None:
        """Replace a range, which is clamped to the document as the protocol has it."""
        lines = self._lines
        (first, start), (last, end) = sorted(clamp(lines, p, self._encoding) for p in (span.start, span.end))
        new = lines[first][:start] + text + lines[last][end:]
        removed = sum(map(len, lines[first : last + 1]))
        self.length += len(new) - removed
        if self.length > DOCUMENT_CHARACTERS:
            self.refuse(TOO_LONG)
            return
        if first and new.startswith("\n") and lines[first - 1].endswith("\r"):  # they are one line end now
            first -= 1
            new = lines[first] + new
        parts = split_lines(new)
        if last + 1 < len(lines) and not parts[-1]:
            parts.pop()  # the next line stands where the rest after a line end would
        lines[first : last + 1] = parts
        self._source = None

    def offset_at_position(self, client_position: types.Position) -> int:
        """Return the code-point offset of a position in the text; beyond a line's end means its end.

        Raises PositionError where the document has no such line, DocumentError where text or line is too long.
        """
        if self.refusal is not None:
            raise DocumentError(self.refusal)
        line, column = place_in(self._lines, client_position, self._encoding)
        if len(self._lines[line]) > LINE_CHARACTERS:
            raise DocumentError(LONG_LINE)
        return sum(map(len, self._lines[:line])) + column


class Documents(Workspace):
    """The workspace whose documents are found by identity. Only open documents are known: none is read from disk."""

    @classmethod
    def of(cls, workspace: Workspace, folders: list[types.WorkspaceFolder]) -> Documents:
        """Return one in place of pygls' own."""
        encoding = workspace.position_encoding
        return cls(workspace.root_uri, folders, encoding)

    def __init__(
        self,
        root_uri: str | None,
        folders: Sequence[types.WorkspaceFolder] = (),
        encoding: types.PositionEncodingKind | str | None = types.PositionEncodingKind.Utf16,
    ) -> None:
        super().__init__(root_uri, workspace_folders=folders, position_encoding=encoding)
        self.notebooks = Notebooks()

    def find(self, uri: str) -> Document | None:
        """Return an open document, or None."""
        document = self._text_documents.get(identity(uri))
        return document if isinstance(document, Document) else None

    def get_text_document(self, doc_uri: str) -> TextDocument:
        """Return an open document. Raises DocumentError for any other."""
        document = self.find(doc_uri)
        if document is None:
            raise DocumentError("The document is not open; nothing is suggested in it.")
        return document

    def put_text_document(self, text_document: types.TextDocumentItem, notebook_uri: str | None = None) -> None:
        """Take a document that was opened; beyond the limits on count and length none, or without its text."""
        key = identity(text_document.uri)
        if len(text_document.uri) > URI_CHARACTERS:
            raise DocumentError("A document was not taken: its name is too long.")
        if key not in self._text_documents and len(self._text_documents) >= DOCUMENTS:
            raise DocumentError(f"A document was not taken: {DOCUMENTS} are open.")
        self._text_documents[key] = document = Document(text_document, self.position_encoding or "")
        self._keep_within(document)

    def update_text_document(self, text_doc: Any, change: types.TextDocumentContentChangeEvent) -> None:  # noqa: ANN401 - its version may be missing
        """Apply a change. Raises DocumentError where the document is not open."""
        document = self.get_text_document(text_doc.uri)
        document.apply_change(change)
        document.version = text_doc.version
        if len(getattr(change, "text", "")) > LINE_CHARACTERS:  # what is typed adds up too slowly to look every time
            self._keep_within(document)  # type: ignore[arg-type]  # all are Documents

    def remove_text_document(self, doc_uri: str) -> None:
        """Forget a document that was closed."""
        self._text_documents.pop(identity(doc_uri), None)

    def lose(self, uri: str) -> None:
        """Note that a change of a document, or of a notebook's cells, could not be read."""
        for each in (uri, *self.notebooks.cells_of(uri)):
            document = self.find(each)
            if document is not None:
                document.revision += 1
                document.refuse(OUT_OF_STEP)

    def above(self, document: Document) -> str:
        """Return the code above a notebook's cell; nothing of any other document."""
        parts: list[str] = []
        length = 0
        for key in self.notebooks.above(identity(document.uri)):
            cell = self._text_documents.get(key)
            if isinstance(cell, Document) and cell.refusal is None and cell.language_id == document.language_id:
                parts.append(code_of(cell.source))
                length += len(parts[-1])
                if length > NOTEBOOK_CHARACTERS:
                    break
        return "".join(reversed(parts))

    def put_notebook_document(self, params: types.DidOpenNotebookDocumentParams) -> None:
        """Take a notebook that was opened. Raises DocumentError where a cell was not taken; the others are."""
        self.notebooks.open(params.notebook_document.uri, params.notebook_document.cells)
        self._put_cells(params.cell_text_documents)

    def update_notebook_document(self, params: types.DidChangeNotebookDocumentParams) -> None:
        """Take changes of a notebook's cells. Raises DocumentError where it or a cell is not known; the rest is taken.

        What is closed goes first: a cell that moves is closed and opened.
        """
        uri, cells = params.notebook_document.uri, params.change.cells
        if cells is None:
            return
        if cells.structure is not None:
            self.notebooks.splice(uri, cells.structure.array)
            for closed in cells.structure.did_close or ():
                self.remove_text_document(closed.uri)
            self._put_cells(cells.structure.did_open or ())
        if cells.data:
            self.notebooks.describe(uri, cells.data)
        for content in cells.text_content or ():
            for change in content.changes:
                self.update_text_document(content.document, change)

    def remove_notebook_document(self, params: types.DidCloseNotebookDocumentParams) -> None:
        """Forget a notebook that was closed, and its cells."""
        cells = self.notebooks.close(params.notebook_document.uri)
        for uri in (*cells, *(cell.uri for cell in params.cell_text_documents)):
            self.remove_text_document(uri)

    def _put_cells(self, cells: Sequence[types.TextDocumentItem]) -> None:
        trouble: DocumentError | None = None
        for cell in cells:
            try:
                self.put_text_document(cell)
            except DocumentError as error:
                trouble = error
        if trouble is not None:
            raise trouble

    def _keep_within(self, document: Document) -> None:
        if sum(getattr(each, "length", 0) for each in self._text_documents.values()) > ALL_CHARACTERS:
            document.refuse(TOO_MANY)

"""What is asked for: a place in a document, and what the text rules see of it."""

from __future__ import annotations

from dataclasses import dataclass

from greencode_lsp.completion import filters
from greencode_lsp.completion.scan import LONGEST_LOOK
from greencode_lsp.limits import REQUEST_CHUNK_CHARACTERS, REQUEST_CHUNKS, URI_CHARACTERS
from greencode_lsp.prompt.other_files import Chunk
from greencode_lsp.records import NO_BRANCH, Branch

LOOKED_AT = LONGEST_LOOK
"""Characters on either side of the cursor that the filters look at."""


@dataclass(frozen=True, slots=True)
class Request:
    """Where to complete."""

    text: str
    """The whole document."""
    offset: int
    """The cursor, in code points from the start of `text`."""
    language: str
    """The editor's language id, e.g. `python`."""
    path: str = ""
    """Of the document's file; empty where it has none."""
    invoked: bool = False
    """Whether the user asked, and not the editor by itself."""
    tab_size: int = 0
    """Columns of a tab as the editor has it; 0 where it does not say."""
    insert_spaces: bool = True
    """Whether the editor indents by spaces."""
    previewed: bool = False
    """Whether `text` holds an item that is selected in the editor's popup, and not yet in the document."""
    others: tuple[Chunk, ...] = ()
    """Of other files, chosen by `greencode.context`."""
    repository: str = ""
    """The name of the folder that they are in."""
    branch: Branch = NO_BRANCH
    """Where the user has asked for another suggestion than one that was made."""
    unasked: bool = False
    """Whether nobody waits for it: the prompt is read, and no more than a token said, while all else may go before."""

    def __post_init__(self) -> None:
        """Raise ValueError for more of other files than a request may carry: it is made from messages, too."""
        names = (self.repository, *(chunk.name for chunk in self.others))
        texts = [chunk.text for chunk in self.others]
        if (
            len(texts) > REQUEST_CHUNKS
            or any(len(text) > REQUEST_CHUNK_CHARACTERS for text in texts)
            or any(len(name) > URI_CHARACTERS for name in names)
        ):
            raise ValueError("the other files")

    @property
    def line(self) -> int:
        """The cursor's line, from 0."""
        return self.text.count("\n", 0, self.offset)


def cursor_of(request: Request, looked_at: int = LOOKED_AT) -> filters.Cursor:
    """Return what the filters look at; of a long document the surroundings, from a line's start on."""
    start = max(0, request.offset - looked_at)
    if start:
        start = request.text.find("\n", start, request.offset) + 1 or start
    before, after = request.text[start : request.offset], request.text[request.offset : request.offset + looked_at]
    style = filters.Style.of_client(request.tab_size, insert_spaces=request.insert_spaces)
    return filters.Cursor.at(before, after, request.language, is_whole=start == 0, style=style)

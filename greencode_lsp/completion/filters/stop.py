"""How much is wanted, and where a text that is being generated ends: rules by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from greencode_lsp.completion.filters.cursor import Cursor
from greencode_lsp.completion.open_frames import State
from greencode_lsp.completion.scan import columns, in_code, scan
from greencode_lsp.settings import Multiline

Shape = Literal["line", "block"]
STATEMENT_LINES = 30
"""So many lines a statement may have that opens a block."""
TEXT_OPENERS = re.compile(r"(?:/\*\*?|[rRbBuU]{0,2}(?:\"\"\"|'''))[ \t]*\Z")
LAMBDA = re.compile(r"\blambda\b[^:]*:\s*\Z")
CLOSING_RUN = re.compile(r"[ \t]*[)\]}]+[;,]?")


def shape(cursor: Cursor, multiline: Multiline = "auto") -> Shape:
    """Return `block` where several lines are wanted, else `line`.

    With `auto` that is where the line is blank or opens a block; never with text right of the cursor.
    """
    if cursor.rest.strip() or multiline == "never":
        return "line"
    if not cursor.left.strip() or multiline == "always":
        return "block"
    return "block" if opens_block(cursor) else "line"


def opens_block(cursor: Cursor) -> bool:
    """Return whether by the language's grammar the lines below the cursor's one belong to it."""
    left, state = cursor.left.rstrip(), cursor.state
    inner = state[len(cursor.line_state) :]
    if inner and inner[-1].role in ("string", "comment"):
        return bool(TEXT_OPENERS.search(left)) and inner[-1].closes != "\n"
    if not in_code(state) or any(frame.role == "string" for frame in state):
        return False
    if left.endswith("{") and state and state[-1].closes == "}":
        return True
    if not cursor.language.statement:
        return bool(re.search(rf"(?:{cursor.language.opener})\s*\Z", left))
    if state or not left.endswith(cursor.language.opener):
        return False
    lines = cursor.before.split("\n")
    for count in range(1, min(STATEMENT_LINES, len(lines)) + 1):
        text = "\n".join(lines[-count:]).strip()
        if re.fullmatch(cursor.language.statement, text, re.DOTALL):
            scanned = scan(text, cursor.language)
            if not scanned.state and not scanned.errors:
                return not LAMBDA.search(text)
    return False


def end_of_line(text: str, cursor: Cursor) -> int | None:
    """End a line at its newline."""
    index = text.find("\n")
    return index if index >= 0 else None


def end_of_text(text: str, cursor: Cursor) -> int | None:
    """End with the comment or string of several lines that is open at the cursor."""
    depth = text_depth(cursor.state)
    if depth is None:
        return None
    ended = next(
        (e for e in cursor.scan(text).events if e.position >= 0 and e.what == "close" and e.depth == depth), None
    )
    return None if ended is None else ended.position + len(ended.text)


def end_of_block(text: str, cursor: Cursor) -> int | None:
    """End a block at a blank line, or before the first line that is indented less than its first one.

    One that follows its opener must be indented more than that. Inside of a bracket or string that the block opened
    it does not end. What closes the bracket around it, or its keyword, belongs to it unless the document has that.
    """
    left = cursor.left
    is_opener = bool(left.strip())
    outside = columns(left) if is_opener else -1
    first: int | None = None
    pieces = text.split("\n")
    start = 0
    depth = text_depth(cursor.state)
    for index, piece in enumerate(pieces):
        line = piece if index else left + piece
        if line.strip() and not (is_opener and index == 0):
            indent = columns(line)
            if (indent <= outside or (first is not None and indent < first)) and not _inside(text[:start], cursor):
                return _with_closing(text, start, cursor, outside)
            first = indent if first is None else first
        elif first is not None and index < len(pieces) - 1 and depth is None and not _inside(text[:start], cursor):
            return start - 1
        start += len(piece) + 1
    return None


def _inside(text: str, cursor: Cursor) -> bool:
    """Return whether a text ends inside of a bracket or string that it opened."""
    scanned = cursor.scan(text)
    return any(frame.role != "weak" and frame.closes != "\n" for frame in scanned.state[len(cursor.state) :])


def _with_closing(text: str, start: int, cursor: Cursor, outside: int) -> int | None:
    """Return where a block ends whose next line, at `start`, is indented less: behind what closes it, if that lacks."""
    line, newline, _ = text[start:].partition("\n")
    if not newline and _may_close(line.strip(), cursor):
        return None
    state: State = cursor.scan(text[:start]).state
    before = max(0, start - 1)
    word = line.strip()
    if outside >= 0 and word in cursor.language.ends:
        is_there = cursor.below.startswith(word)
        return (
            (start + len(line.rstrip()) if newline else None) if not is_there and columns(line) == outside else before
        )
    if not state or len(state) <= cursor.closed_below or not word.startswith(state[-1].closes):
        return before
    if state[-1].role not in ("bracket", "element") or state[-1].indent != columns(line):
        return before
    run = CLOSING_RUN.match(line)
    end = run.end() if run else len(line) - len(line.lstrip()) + len(state[-1].closes)
    return start + end if newline or end < len(line) else None


def _may_close(begun: str, cursor: Cursor) -> bool:
    """Return whether a line that is only begun may go on as the word or tag that closes a block."""
    ends = (*cursor.language.ends, *(frame.closes for frame in cursor.state if frame.role == "element"))
    return any(end != begun and end.startswith(begun) for end in ends)


def text_depth(state: State) -> int | None:
    """Return the depth of the comment or string of several lines that is open, if one is."""
    if not state or state[-1].closes == "\n":
        return None
    top = state[-1]
    is_text = top.role == "comment" or (top.role == "string" and (top.quote is None or top.quote.spans_lines))
    return len(state) - 1 if is_text else None


StopRule = Callable[[str, Cursor], "int | None"]
STOP_RULES: dict[Shape, tuple[StopRule, ...]] = {
    "line": (end_of_line,),
    "block": (end_of_text, end_of_block),
}
"""Where a text of each shape ends; the first end counts."""


def stop_index(text: str, cursor: Cursor, wanted: Shape) -> int | None:
    """Return where `text` ends by its shape, or None while it may go on."""
    return min((end for rule in STOP_RULES[wanted] if (end := rule(text, cursor)) is not None), default=None)

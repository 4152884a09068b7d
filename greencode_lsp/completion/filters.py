"""Pure text functions: where a completion ends, and what of it is worth showing.

`before` and `after` are the document's text on either side of the cursor; `text` is what the model wrote between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Shape = Literal["line", "block"]

BLOCK_OPENERS = (":", "{")
LINE_COMMENTS = ("#", "//")
REPEATED_LINES = 3
"""A line that comes this often in a row is a loop of the model, not code."""
REPEATED_PIECE = re.compile(r"(\w.{1,23}?|\W{1,12}?\w.{0,12}?)\1{4,}")
"""The same within a line: a piece with a word character in it, five times in a row."""
SHORTEST_WORD_OVERLAP = 4
"""An overlap with the text after the cursor that is shorter, and not the whole rest of the line, is chance."""
OPENING, CLOSING = "([{", ")]}"


def shape(before: str, after: str) -> Shape:
    """Return `block` where the line is blank or opens a block, and `line` elsewhere: one line only."""
    left, right = before.rpartition("\n")[2], after.partition("\n")[0]
    if right.strip():
        return "line"
    if not left.strip():
        return "block"
    is_comment = left.lstrip().startswith(LINE_COMMENTS)
    return "block" if left.rstrip().endswith(BLOCK_OPENERS) and not is_comment else "line"


def stop_index(text: str, before: str, wanted: Shape) -> int | None:
    """Return where `text` ends by its shape, or None while it may go on.

    A line ends at its newline. A block ends at a blank line, or before the first line that is indented less than the
    block's first one; a block that follows its opener must be indented more than that.
    """
    return (text.find("\n") if "\n" in text else None) if wanted == "line" else _block_end(text, before)


def _block_end(text: str, before: str) -> int | None:
    left = before.rpartition("\n")[2]
    is_opener = bool(left.strip())
    outside = _indent(left) if is_opener else -1
    block_indent: int | None = None
    pieces = text.split("\n")
    start = 0
    for index, piece in enumerate(pieces):
        line = piece if index else left + piece
        if line.strip() and not (is_opener and index == 0):
            indent = _indent(line)
            if indent <= outside or (block_indent is not None and indent < block_indent):
                return max(0, start - 1)
            block_indent = indent if block_indent is None else block_indent
        elif block_indent is not None and index < len(pieces) - 1:
            return start - 1
        start += len(piece) + 1
    return None


def clean(text: str, after: str, special_tokens: Iterable[str]) -> str:
    """Return what of a finished completion is worth showing; empty for nothing."""
    text = cut_special_tokens(text, special_tokens)
    text = cut_repetition(text)
    text = cut_overlap(text, after)
    return text.rstrip()


def cut_special_tokens(text: str, special_tokens: Iterable[str]) -> str:
    """Cut at the first special token that the model spelled out in ordinary tokens, and at bytes that are no text."""
    found = [text.find(token) for token in (*special_tokens, "\ufffd")]
    return text[: min((index for index in found if index >= 0), default=len(text))]


def cut_repetition(text: str) -> str:
    """Cut a run of one line, or of one piece of a line, after its first occurrence."""
    match = REPEATED_PIECE.search(text)
    if match:
        text = text[: match.end(1)]
    lines = text.split("\n")
    for index in range(len(lines) - REPEATED_LINES + 1):
        run = {line.strip() for line in lines[index : index + REPEATED_LINES]}
        if len(run) == 1 and run != {""}:
            return "\n".join(lines[: index + 1])
    return text


def cut_overlap(text: str, after: str) -> str:
    """Cut from the end of `text` what the document already has after the cursor.

    On the cursor's line that is the longest beginning of its rest; below it, a last line equal to the next one.
    """
    rest, _, below = after.partition("\n")
    rest = rest.rstrip()
    for length in range(min(len(rest), len(text)), 0, -1):
        if text.endswith(rest[:length]) and _is_telling(text, rest, length):
            return text[:-length]
    following = next((line.strip() for line in below.split("\n") if line.strip()), "")
    head, newline, last = text.rpartition("\n")
    return head if newline and following and last.strip() == following else text


def _is_telling(text: str, rest: str, length: int) -> bool:
    """Tell whether an overlap is a repetition: not chance, and not the closing of a bracket that `text` opened."""
    overlap = rest[:length]
    if re.match(r"\w", overlap) and re.search(r"\w\Z", text[:-length]):
        return False  # the overlap begins in the middle of a word of `text`
    if _open_brackets(text[:-length]) > _open_brackets(text) >= 0:
        return False
    return length == len(rest) or length >= SHORTEST_WORD_OVERLAP or not re.search(r"[\w\s]", overlap)


def _open_brackets(text: str) -> int:
    """Return opening minus closing brackets; negative where `text` closes more than it opens."""
    return sum(text.count(c) for c in OPENING) - sum(text.count(c) for c in CLOSING)


def _indent(line: str) -> int:
    line = line.expandtabs(8)
    return len(line) - len(line.lstrip())

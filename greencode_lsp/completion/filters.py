"""Pure text functions: where a completion ends, and what of it is worth showing.

`before` and `after` are the document's text on either side of the cursor; `text` is what the model wrote between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from greencode_lsp.prompt.context import skip_closers
from greencode_lsp.settings import Multiline

Shape = Literal["line", "block"]

BLOCK_OPENERS = (":", "{")
LINE_COMMENTS = ("#", "//")
REPEATED_LINES = 3
"""A line that comes this often in a row is a loop of the model, not code."""
REPEATED_PIECE = re.compile(r"(\w.{1,23}?|\W{1,12}?\w.{0,12}?)\1{4,}")
"""The same within a line: a piece with a word character in it, five times in a row."""
SHORTEST_WORD_OVERLAP = 4
"""An overlap with the text after the cursor that is shorter, and not the whole rest of the line, is chance."""
SHORTEST_SHOWN = 2
"""Characters, blanks left out; a single bracket or colon is typed sooner than read."""
SHORTEST_LINE = 4
"""A line equal to a neighbour of the document is a repetition if it is as long; `else:` and brackets recur."""
STATEMENT_LINES = 50
"""Lines before the cursor in which a bracket that is closed after it may have been opened."""
OPENING, CLOSING = "([{", ")]}"
PAIRS = {")": "(", "]": "[", "}": "{"}
IN_STATEMENT = {")": "(", "]": "["}
"""Brackets that are balanced here; braces may open any distance above."""


def shape(before: str, after: str, multiline: Multiline = "auto") -> Shape:
    """Return `block` where several lines are wanted, else `line`.

    With `auto` that is where the line is blank or opens a block; never with text right of the cursor.
    """
    left, right = before.rpartition("\n")[2], after.partition("\n")[0]
    if right.strip() or multiline == "never":
        return "line"
    if not left.strip() or multiline == "always":
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


def clean(text: str, before: str, after: str, special_tokens: Iterable[str]) -> str:
    """Return what of a finished completion is worth showing; empty for nothing."""
    text = cut_special_tokens(text, special_tokens)
    text = cut_repetition(text)
    text = cut_neighbour(text, before, after)
    text = cut_closed(text, before, after)
    text = cut_overlap(text, after)
    return cut_unopened(text, before).rstrip()


def is_telling(text: str) -> bool:
    """Tell whether a suggestion is long enough to be read."""
    return len("".join(text.split())) >= SHORTEST_SHOWN


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


def cut_neighbour(text: str, before: str, after: str) -> str:
    """Cut before a line that repeats the document's line above the cursor or its next one below."""
    left = before.rpartition("\n")[2]
    above = next((line.strip() for line in reversed(before.split("\n")[:-1]) if line.strip()), "")
    below = next((line.strip() for line in after.split("\n")[1:] if line.strip()), "")
    lines = text.split("\n")
    for index, line in enumerate(lines):
        whole = (line if index else left + line).strip()
        repeated = (above, below) if index == 0 else (below,)
        if len(whole) >= SHORTEST_LINE and re.search(r"\w", whole) and line.strip() and whole in repeated:
            return "\n".join(lines[:index])
    return text


def cut_closed(text: str, before: str, after: str) -> str:
    """Cut before what closes a bracket or string that the document closes already, right of the cursor.

    Editors put such closers there, and the prompt leaves them out, so that the model writes them too. What closes one
    but leaves another open for the document's closer (`a).strip(` before `)`) is right as it is.
    """
    closers = after[: skip_closers(after, 0)]
    first = closers[:1]
    if first and first in "\"'":
        left = before.rpartition("\n")[2]
        is_odd = left.count(first) % 2 == text.count(first) % 2 == 1
        return text[: text.index(first)] if is_odd else text
    opened: list[str] = []
    unopened: list[int] = []
    for bracket, index in _brackets(text, "".join(PAIRS) + "".join(PAIRS.values())):
        if not _pair(opened, bracket, PAIRS):
            unopened.append(index)
    if len(unopened) > len(opened) and text[unopened[0]] == first:
        return text[: unopened[0]]
    return text


def cut_unopened(text: str, before: str) -> str:
    """Cut before a round or square bracket that closes nothing: neither in `text` nor in the statement before it."""
    if all(text.count(closer) <= text.count(opener) for closer, opener in IN_STATEMENT.items()):
        return text
    statement = "\n".join(before.split("\n")[-STATEMENT_LINES:])
    kinds = "".join(IN_STATEMENT) + "".join(IN_STATEMENT.values())
    opened: list[str] = []
    for bracket, _ in _brackets(statement, kinds):
        _pair(opened, bracket, IN_STATEMENT)
    for bracket, index in _brackets(text, kinds):
        if not _pair(opened, bracket, IN_STATEMENT):
            return text[:index]
    return text


def _brackets(text: str, kinds: str) -> Iterable[tuple[str, int]]:
    """Yield brackets of these kinds outside of strings that end on their line, and where they stand."""
    quote = ""
    for index, character in enumerate(text):
        if quote:
            quote = "" if character in (quote, "\n") else quote
        elif character in "\"'":
            quote = character
        elif character in kinds:
            yield character, index


def _pair(opened: list[str], bracket: str, pairs: Mapping[str, str]) -> bool:
    """Push an opener or pop the opener of a closer; return False where there is none."""
    if bracket not in pairs:
        opened.append(bracket)
        return True
    if opened and opened[-1] == pairs[bracket]:
        opened.pop()
        return True
    return False


def reindent(text: str, tab_size: int, *, insert_spaces: bool) -> str:
    """Return the lines below the first with the editor's own indentation."""
    first, *others = text.split("\n")
    lines = [first]
    for line in others:
        code = line.lstrip(" \t")
        columns = len(line[: len(line) - len(code)].expandtabs(tab_size))
        tabs = 0 if insert_spaces else columns // tab_size
        lines.append("\t" * tabs + " " * (columns - tabs * tab_size) + code)
    return "\n".join(lines)


def cut_overlap(text: str, after: str) -> str:
    """Cut from the end of `text` what the document already has after the cursor.

    On the cursor's line that is the longest beginning of its rest; below it, a last line equal to the next one.
    """
    rest, _, below = after.partition("\n")
    rest = rest.rstrip()
    for length in range(min(len(rest), len(text)), 0, -1):
        if text.endswith(rest[:length]) and _is_repetition(text, rest, length):
            return text[:-length]
    following = next((line.strip() for line in below.split("\n") if line.strip()), "")
    head, newline, last = text.rpartition("\n")
    return head if newline and following and last.strip() == following else text


def _is_repetition(text: str, rest: str, length: int) -> bool:
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

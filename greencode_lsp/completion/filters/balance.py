"""Brackets, strings and tags: closed once, by the text or by the document."""

from __future__ import annotations

import re

from greencode_lsp.completion.filters.cursor import Cursor
from greencode_lsp.completion.filters.stop import text_depth

SHORTEST_WORD_OVERLAP = 4
"""An overlap with the text after the cursor that is shorter, and not the whole rest of the line, is chance."""


def is_balanced(text: str, cursor: Cursor) -> bool:
    """Return whether the rest of the cursor's line means with `text` before it what it means without.

    It closes what it closed and leaves open what it left open; what nothing in the document closes the text may.
    """
    at_cursor, said = cursor.scan(""), cursor.scan(text)
    without, with_text = cursor.scan(cursor.rest), cursor.scan(text + cursor.rest)
    errors = with_text.errors - said.errors
    if errors > without.errors or _strict_errors(text, cursor):
        return False
    if with_text.kinds != without.kinds[: len(with_text.kinds)]:
        return False
    kept = len(said.kinds)
    is_open_still = said.kinds == at_cursor.kinds[:kept] and kept >= min(cursor.closed_below, len(at_cursor.kinds))
    return is_open_still or errors < without.errors


def _strict_errors(text: str, cursor: Cursor) -> int:
    return sum(e.what == "extra" and e.is_strict and e.position >= 0 for e in cursor.scan(text).events)


def cut_unbalanced(text: str, cursor: Cursor) -> str:
    """Cut before a bracket, quote or tag that the document has already, or that closes nothing.

    With code right of the cursor the longest beginning is kept with which that stays balanced. What closes a bracket
    but leaves another open for the document's closer (`a).strip(` before `)`) is right as it is.
    """
    if cursor.rest.strip():
        if is_balanced(text, cursor):
            return text
        ends = sorted({e.position for e in cursor.scan(text).events if 0 <= e.position < len(text)}, reverse=True)
        return next((text[:end] for end in ends if is_balanced(text[:end], cursor)), "")
    for event in cursor.scan(text).events:
        if event.position < 0:
            continue
        if event.what == "close" and event.depth < cursor.closed_below:
            return text[: event.position]
        if event.what == "extra" and event.is_strict and (cursor.is_whole or event.text in ")]"):
            return text[: event.position]
    return text


def cut_overlap(text: str, cursor: Cursor) -> str:
    """Cut from the end of `text` what the document already has after the cursor.

    On the cursor's line that is the longest beginning of its rest; below it, a last line equal to the next one.
    """
    rest = cursor.rest.rstrip()
    for length in range(min(len(rest), len(text)), 0, -1):
        if text.endswith(rest[:length]) and _is_repetition(text, rest, length):
            kept = text[:-length]
            if is_balanced(kept, cursor):
                return kept
    head, newline, last = text.rpartition("\n")
    is_below = last.strip() == cursor.below and bool(re.search(r"\w", last))  # brackets are balanced, not compared
    return head if newline and is_below else text


def _is_repetition(text: str, rest: str, length: int) -> bool:
    """Return whether an overlap is a repetition, and not chance."""
    overlap = rest[:length]
    if re.match(r"\w", overlap) and re.search(r"\w\Z", text[:-length]):
        return False  # the overlap begins in the middle of a word of `text`
    return length == len(rest) or length >= SHORTEST_WORD_OVERLAP or not re.search(r"[\w\s]", overlap)


def cut_at_rest(text: str, cursor: Cursor) -> str:
    """Cut where the model goes over into what closes right of the cursor, to say it again or to say something else."""
    rest = cursor.rest
    if not set(rest[:1]) & set(")]};"):
        return text
    head = rest[:2]
    start = text.find(head) if len(head) == 2 else -1  # a single closer may well be meant: `a).strip(`
    while start >= 0:
        if is_balanced(text[:start], cursor):
            return text[:start]
        start = text.find(head, start + 1)
    return text


def join_word(text: str, cursor: Cursor) -> str:
    """Inside of a word keep the middle alone, and only where it surely is one.

    That is what comes before a repetition of the rest of the line, or a piece of a word with which the model has
    ended.
    """
    if not cursor.is_inside_word:
        return text
    line, rest = text.partition("\n")[0], cursor.rest.rstrip()
    word = re.search(r"\w+\Z", cursor.before)
    if word is None or word.group()[0].isdigit():
        return ""  # a number is another with every digit
    following = re.match(r"\w+", rest)
    at = line.find(rest)
    if at < 0 and following is not None and line.endswith(following.group()):
        at = len(line) - len(following.group())
    if at >= 0:
        middle = line[:at]
    else:
        middle = line if cursor.is_finished and line == text and re.fullmatch(r"\w+", line) else ""
    return middle if middle and is_balanced(middle, cursor) else ""


def cut_after_text(text: str, cursor: Cursor) -> str:
    """Cut behind the end of a comment or string of several lines that is open at the cursor."""
    depth = text_depth(cursor.state)
    if depth is None or cursor.rest.strip():
        return text
    for event in cursor.scan(text).events:
        if event.position >= 0 and event.what == "close" and event.depth == depth:
            return text[: event.position + len(event.text)]
    return text


def cut_open_text(text: str, cursor: Cursor) -> str:
    """Cut before the line on which the text opens a string of several lines that it does not close, if more is left."""
    scanned = cursor.scan(text)
    opened = [e for e in scanned.events if e.what == "open" and e.position >= 0 and e.depth >= len(cursor.state)]
    frames = scanned.state[len(cursor.state) :]
    if not frames or text_depth(frames[-1:]) is None or not opened or "\n" not in text:
        return text
    start = next((e.position for e in reversed(opened) if e.depth == len(scanned.state) - 1), 0)
    head = text[: max(0, text.rfind("\n", 0, start))]
    return head if head.strip() else text

"""What of a finished completion is worth showing: rules by name, in the order in which they are applied."""

from __future__ import annotations

import re
from collections.abc import Callable

from greencode_lsp.completion.filters.balance import (
    cut_after_text,
    cut_at_rest,
    cut_open_text,
    cut_overlap,
    cut_unbalanced,
    join_word,
)
from greencode_lsp.completion.filters.cursor import Cursor
from greencode_lsp.completion.filters.indent import reindent
from greencode_lsp.completion.scan import in_code

REPEATED_LINES = 3
"""A line that comes this often in a row is a loop of the model, not code."""
REPEATED_PIECE = re.compile(r"(\w.{1,23}?|\W{1,12}?\w.{0,12}?)\1{4,}")
"""The same within a line: a piece with a word character in it, five times in a row."""
SHORTEST_SHOWN = 2
"""Characters, blanks left out; a single bracket or colon is typed sooner than read."""
SHORTEST_LINE = 4
"""A line equal to a neighbour of the document is a repetition if it is as long; `else:` and brackets recur."""
LICENCE = re.compile(
    r"copyright\s*(?:\(c\)|©|\d{4})|(?:\(c\)|©)\s*\d{4}|\bcopyright\b.*\d{4}|all rights reserved"
    r"|spdx-license-identifier|licen[cs]ed (?:under|to) the"
    r"|apache (?:license|software foundation)|\bas is\b.*(?:basis|without|warrant)"
    r"|without (?:any )?warrant|permission is hereby granted|redistributions? (?:and use|in|of)"
    r"|(?:gnu|mit|bsd|mozilla).{0,20}licen[cs]e",
    re.IGNORECASE,
)
"""What licence texts say."""
NOTICE = re.compile(r"[\"']AS IS\b|\blicen[cs]e|@author\b", re.IGNORECASE)
"""What only they say at the top of a file, or that no code says."""


def cut_special_tokens(text: str, cursor: Cursor) -> str:
    """Cut at the first special token that the model spelled out in ordinary tokens, and at bytes that are no text."""
    indices = [text.find(token) for token in (*cursor.special_tokens, "\ufffd")]
    return text[: min((index for index in indices if index >= 0), default=len(text))]


def cut_licence(text: str, cursor: Cursor) -> str:
    """Cut before a line of a licence or copyright notice, unless the document has one where the cursor is."""
    if LICENCE.search(cursor.before[-1000:]):
        return text
    is_top = _is_top(cursor)
    lines = text.split("\n")
    for index, line in enumerate(lines):
        whole = line if index else cursor.left + line
        if LICENCE.search(whole) or "'AS IS" in line or '"AS IS' in line or (is_top and NOTICE.search(line)):
            return "\n".join(lines[:index])
    return text


def _is_top(cursor: Cursor) -> bool:
    """Return whether nothing but comments stands before the cursor."""
    if not cursor.is_whole:
        return False
    lines = (line.strip() for line in cursor.before.split("\n"))
    return all(not line or re.match(r"#|//|/\*|\*|--|<!|<\?|%|;|\"\"\"|'''", line) for line in lines)


def cut_foreign(text: str, cursor: Cursor) -> str:
    """Cut before a line that ends as no line of the language does, but those of most others do."""
    if cursor.language.ends_in_semicolon or not in_code(cursor.state) or ";\n" in cursor.before:
        return text
    lines = text.split("\n")
    for index, line in enumerate(lines):
        if line.rstrip().endswith(";"):
            return "\n".join(lines[:index])
    return text


def cut_repetition(text: str, cursor: Cursor) -> str:
    """Cut a run of one line, or of one piece of a line, after its first occurrence."""
    match = REPEATED_PIECE.search(text)
    if match:
        text = text[: match.end(1)]
    lines = text.split("\n")
    begun = cursor.left if re.search(r"\w", cursor.left) else ""  # brackets close one another, line by line
    whole = [line.strip() for line in (begun + lines[0], *lines[1:])]
    for index in range(len(lines) - REPEATED_LINES + 1):
        run = set(whole[index : index + REPEATED_LINES])
        if len(run) == 1 and run != {""}:
            return "\n".join(lines[: index + 1])
    return text


def cut_neighbour(text: str, cursor: Cursor) -> str:
    """Cut before a line that repeats the document's line above the cursor or its next one below."""
    above = next((line.strip() for line in reversed(cursor.before.split("\n")[:-1]) if line.strip()), "")
    lines = text.split("\n")
    for index, line in enumerate(lines):
        whole = (line if index else cursor.left + line).strip()
        repeated = (above, cursor.below) if index == 0 else (cursor.below,)
        if len(whole) >= SHORTEST_LINE and re.search(r"\w", whole) and line.strip() and whole in repeated:
            return "\n".join(lines[:index])
    return text


def cut_lines(text: str, cursor: Cursor) -> str:
    """Keep one line where there is text right of the cursor."""
    return text.partition("\n")[0] if cursor.rest.strip() else text


def cut_blanks(text: str, cursor: Cursor) -> str:
    """Cut the blanks at the end, unless a word follows them."""
    return text if re.match(r"\w", cursor.rest) and text.strip() else text.rstrip()


def indent(text: str, cursor: Cursor) -> str:
    """Indent the lines below the first as the file does."""
    return reindent(text, cursor.before, cursor.style)


CleanRule = Callable[[str, Cursor], str]
CLEAN_RULES: tuple[CleanRule, ...] = (
    cut_special_tokens,
    cut_licence,
    cut_foreign,
    cut_repetition,
    cut_neighbour,
    join_word,
    cut_lines,
    cut_at_rest,
    cut_overlap,
    cut_unbalanced,
    cut_after_text,
    cut_open_text,
    cut_blanks,
    indent,
)
"""Each takes a text and where it goes, and returns what is left of it."""


def clean(text: str, cursor: Cursor) -> str:
    """Return what of a finished completion is worth showing; empty for nothing."""
    for rule in CLEAN_RULES:
        text = rule(text, cursor)
    return text


def repeats(text: str, cursor: Cursor) -> bool:
    """Return whether a text has begun to repeat itself or what stands around the cursor."""
    return cut_neighbour(cut_repetition(text, cursor), cursor) != text


def is_readable(text: str) -> bool:
    """Return whether a suggestion is long enough to be read."""
    return len("".join(text.split())) >= SHORTEST_SHOWN

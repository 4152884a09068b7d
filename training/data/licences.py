"""Licence notices at the head of a file are no training text: a model learns thousands of copies by heart."""

from __future__ import annotations

import re

_COMMENT = re.compile(
    r"\s*(?:/\*.*?\*/|(?://[^\n]*(?:\n[ \t]*|\Z))+|(?:#[^\n]*(?:\n|\Z))+|\"\"\".*?\"\"\"|'''.*?''')", re.DOTALL
)
_NOTICE = re.compile(r"licen[cs]e|copyright|SPDX-", re.IGNORECASE)


def without_notice(text: str) -> str:
    """Return the text from the end of its last leading comment or docstring that speaks of a licence or copyright."""
    at = end = 0
    while comment := _COMMENT.match(text, at):
        at = comment.end()
        if _NOTICE.search(comment.group()):
            end = at
    return text[end:].lstrip("\n") if end else text

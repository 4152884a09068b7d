r"""Patterns of .gitignore whose matching takes no longer than the path is long, whatever the pattern.

The library translates a pattern to a regular expression in which every `*` and `**` may try all lengths: seven stars
against 200 characters take for ever. The first place where what follows a star fits is as good as any later one, so
each star but the last of its kind takes that and never tries again: a group that is matched as a whole (`(?=(..))\1`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from greencode_lsp.limits import IGNORE_LINE_CHARACTERS

STAR, NOT_SLASH, FOLDERS, LEADING = r"[^/]*", r"[^/]", r"(?:/.+)?/", r"(?:.+/)?"


class Globs:
    """One ignore file's patterns, the last of which that matches decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._patterns: list[tuple[bool, re.Pattern[str]]] = list(_compiled(lines))

    def decide(self, path: str) -> bool | None:
        """Return whether a path is ignored, None where nothing names it; a folder's ends with a slash."""
        for include, pattern in reversed(self._patterns):
            if _names(pattern, path):
                return include
        return None


def _names(pattern: re.Pattern[str], path: str) -> bool:
    """Return whether a pattern names just this file or folder; the library's also match all that lies in a folder."""
    if "ps_d" in pattern.groupindex:
        return pattern.fullmatch(path) is not None
    match = pattern.match(path)  # `*`, and `folder/**`: what lies in a folder, but not itself
    return match is not None and (pattern.pattern == "." or match.end() < len(path))


def _compiled(lines: Iterable[str]) -> Iterator[tuple[bool, re.Pattern[str]]]:
    for line in lines:
        if len(line) > IGNORE_LINE_CHARACTERS:
            continue  # no path is so long
        try:
            pattern = GitIgnoreSpecPattern(line)
            if pattern.include is not None and pattern.regex is not None:
                yield pattern.include, re.compile(_linear(pattern.regex.pattern))
        except (ValueError, re.error, RecursionError, OverflowError):
            continue  # it is no pattern


def _linear(pattern: str) -> str:
    """Return an expression for the same paths that backtracks nowhere."""
    pattern = re.sub(rf"(?:{re.escape(STAR)})+", lambda _: STAR, pattern)
    if pattern.count(STAR) + pattern.count(FOLDERS) + pattern.count(LEADING) < 2:
        return pattern
    count = iter(range(1_000_000))
    anchor = "^" if pattern.startswith("^") else ""
    first, *others = pattern.removeprefix("^").split(FOLDERS)
    is_anywhere = first.startswith(LEADING)
    heads = [LEADING if is_anywhere else "", *(FOLDERS for _ in others)]
    bodies = [_linear_stars(each, count) for each in (first.removeprefix(LEADING), *others)]
    parts = [head + body for head, body in zip(heads[:-1], bodies[:-1], strict=True)]
    return anchor + "".join(map(partial(_up_to_name_end, count=count), parts)) + heads[-1] + bodies[-1]


def _up_to_name_end(part: str, count: Iterator[int]) -> str:
    for greedy, lazy in ((LEADING, r"(?:.+?/)??"), (FOLDERS, r"(?:/.+?)??/")):
        if part.startswith(greedy):
            return _whole(lazy + part.removeprefix(greedy) + "(?=/)", count)
    return part


def _linear_stars(body: str, count: Iterator[int]) -> str:
    """Do it for the stars within the names of a path."""
    before, *pieces = body.split(STAR)
    return before + "".join(_star(piece, pieces[index + 1 :], count) for index, piece in enumerate(pieces))


def _star(piece: str, later: Sequence[str], count: Iterator[int]) -> str:
    ends_name = "/" in piece.replace(NOT_SLASH, "") or not later
    return STAR + piece if ends_name else _whole(r"[^/]*?" + piece, count)


def _whole(expression: str, count: Iterator[int]) -> str:
    name = f"w{next(count)}"
    return f"(?=(?P<{name}>{expression}))(?P={name})"

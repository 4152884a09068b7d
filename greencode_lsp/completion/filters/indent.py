"""How a file is indented, and lines indented like it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

INDENTED = re.compile(r"^([ \t]+)(?=\S)", re.MULTILINE)
STEPS = (2, 3, 4, 8)


@dataclass(frozen=True, slots=True)
class Style:
    """How lines are indented."""

    unit: str
    """One step: a tab, or spaces."""
    tab_size: int = 4
    """Columns of a tab."""

    @classmethod
    def of_client(cls, tab_size: int, *, insert_spaces: bool) -> Style | None:
        """Return what the client says; None where it says nothing."""
        if not 0 < tab_size <= 16:
            return None
        return cls(" " * tab_size if insert_spaces else "\t", tab_size)

    def columns(self, blanks: str) -> int:
        """Return the width of a line's indentation."""
        return len(blanks.expandtabs(self.tab_size))


def style_of(before: str, after: str, fallback: Style) -> Style:
    """Return how the text around a cursor is indented; `fallback` where no line is."""
    indents = [match.group(1) for match in INDENTED.finditer(before + after) if match.group(1) != " "]
    if not indents:
        return fallback
    tabbed = sum(indent.startswith("\t") for indent in indents)
    if tabbed * 2 > len(indents):
        return Style("\t", fallback.tab_size)
    lines = [line for line in (before + after).split("\n") if line.strip()]
    widths = [len(line) - len(line.lstrip(" ")) for line in lines if not line.startswith("\t")]
    steps = Counter(deeper - width for width, deeper in pairwise(widths) if deeper - width in STEPS)
    if not steps:
        smallest = min((len(indent) for indent in indents if " " in indent), default=0)
        return Style(" " * smallest, fallback.tab_size) if smallest in STEPS else fallback
    most = max(steps.values())
    return Style(" " * min(step for step, count in steps.items() if count == most), fallback.tab_size)


def reindent(text: str, before: str, style: Style) -> str:
    """Return the lines below the first as deep as they are meant to be, in steps of the style.

    A line that is deeper than the one before it is one step deeper, unless it is aligned with a bracket; one that is
    less deep goes back to where an outer one is, in the document or in the text.
    """
    first, *others = text.split("\n")
    if not others:
        return text
    left = before.rpartition("\n")[2] + first
    base = left[: len(left) - len(left.lstrip(" \t"))]
    levels = _levels(before, base, style)
    is_odd = _is_odd([left, *others], style)
    lines, previous = [first], left
    for line in others:
        code = line.lstrip(" \t")
        blanks = line[: len(line) - len(code)]
        if not code:
            lines.append("")
            continue
        width = style.columns(blanks)
        while len(levels) > 1 and levels[-1][0] > width:
            levels.pop()
        outer, kept = levels[-1]
        if width > outer:
            extra = width - outer
            if is_odd and not _is_aligned(code, previous):
                kept += style.unit
            elif style.unit == "\t":
                kept += "\t" * (extra // style.tab_size) + " " * (extra % style.tab_size)
            else:
                kept += " " * extra
            levels.append((width, kept))
        lines.append(kept + code)
        previous = line
    return "\n".join(lines)


def _levels(before: str, base: str, style: Style) -> list[tuple[int, str]]:
    """Return the columns and blanks of the blocks around the cursor's line, from outside."""
    levels = [(style.columns(base), base)]
    for line in reversed(before.split("\n")[:-1]):
        if levels[0][0] == 0:
            break
        blanks = line[: len(line) - len(line.lstrip(" \t"))]
        if line.strip() and style.columns(blanks) < levels[0][0]:
            levels.insert(0, (style.columns(blanks), blanks))
    return levels if levels[0][0] == 0 else [(0, ""), *levels]


def _is_aligned(code: str, previous: str) -> bool:
    """Return whether a line is aligned with a bracket of the one before it, or goes on with a comment or expression."""
    if re.match(r"\*|\.\w|\?|&&|\|\||[+:] ", code):
        return True
    opened = sum(previous.count(b) for b in "([{") - sum(previous.count(b) for b in ")]}")
    return opened > 0 and previous.rstrip()[-1:] not in ("(", "[", "{")


def _is_odd(lines: list[str], style: Style) -> bool:
    """Return whether the text goes deeper in other steps than the style's."""
    unit = style.columns(style.unit)
    shown = [line for line in lines if line.strip()]
    for line, deeper in pairwise(shown):
        blanks, more = (each[: len(each) - len(each.lstrip(" \t"))] for each in (line, deeper))
        step = style.columns(more) - style.columns(blanks)
        if _is_aligned(deeper.lstrip(), line):
            continue
        if step > 0 and step != unit:
            return True
        if step > 0 and style.unit == "\t" and " " in more:
            return True
    return False

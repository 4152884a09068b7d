"""`python -m training readme`: fill the marked blocks of README.md and other pages from what was measured or declared.

A block stands between two HTML comments, each on a line of its own, and is replaced as a whole:

    <!-- begin: NAME -->
    <!-- end: NAME -->

A block whose artefact is not there is left empty, so that no figure outlives what it was read from. Figures stand in
blocks alone; `tests/test_readme.py` fails where a block differs from its artefact, and where a figure stands elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from greencode_lsp.errors import SettingError
from training.evaluation.artefacts import Artefacts
from training.evaluation.readme_blocks import BLOCKS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "editors" / "PROTOCOL.md")
COMMAND = "python -m training readme"
_MARK = re.compile(r"^<!-- (begin|end): ([\w-]+) -->$")
Render = Callable[[Artefacts], str]


def fill(text: str, artefacts: Artefacts, blocks: Mapping[str, Render] = BLOCKS) -> str:
    """Return the text with every marked block made anew.

    Raises SettingError where a mark has no counterpart or names a block that there is not.
    """
    lines: list[str] = []
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = _MARK.match(line)
        if mark is None:
            lines += [] if name else [line]
            continue
        is_begin = mark[1] == "begin"
        if (is_begin and name) or (not is_begin and mark[2] != name):
            raise SettingError(f"Line {number}, `{line}`, has no counterpart; each block needs both.")
        if is_begin:
            name = mark[2]
            lines += [line, *_rendered(name, artefacts, blocks)]
        else:
            name = ""
            lines.append(line)
    if name:
        raise SettingError(f"The block {name} has no end; write `<!-- end: {name} -->` behind it.")
    return "\n".join(lines) + "\n"


def _rendered(name: str, artefacts: Artefacts, blocks: Mapping[str, Render]) -> list[str]:
    if name not in blocks:
        raise SettingError(f"There is no block {name!r} to fill in; there are {', '.join(blocks)}.")
    block = blocks[name](artefacts).strip("\n")
    return ["", *block.split("\n"), ""] if block else []


def outside(text: str) -> str:
    """Return the text without its blocks: what a person has written. Line numbers are kept."""
    lines, is_inside = [], False
    for line in text.splitlines():
        mark = _MARK.match(line)
        is_inside = mark[1] == "begin" if mark else is_inside
        lines.append("" if is_inside or mark else line)
    return "\n".join(lines)


def main(pages: Sequence[Path] = PAGES, artefacts: Artefacts | None = None) -> list[Path]:
    """Fill the pages; return those that it changed. Raises SettingError, see `fill`, with the page's name."""
    changed = []
    for path in pages:
        old = path.read_text(encoding="utf8")
        try:
            new = fill(old, artefacts or Artefacts())
        except SettingError as error:
            raise SettingError(f"{path}: {error}") from error
        if new != old:
            path.write_text(new, encoding="utf8")
            changed.append(path)
    return changed

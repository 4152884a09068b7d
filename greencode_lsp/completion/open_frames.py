"""What may be open at a place in a text: brackets, strings, comments and tags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from greencode_lsp.completion.languages import Quote

Role = Literal["bracket", "weak", "string", "comment", "tag", "element"]


@dataclass(frozen=True, slots=True)
class Frame:
    """Something open."""

    closes: str
    """Its end."""
    role: Role
    indent: int
    """Columns before the first character of the line on which it opened; a tab counts as four."""
    quote: Quote | None = None
    tag: re.Pattern[str] | None = None
    """The end of a text that begins on the next line."""
    language: str = ""
    """Of the code inside of an element, where that is another."""


State = tuple[Frame, ...]
"""What is open, the innermost last."""

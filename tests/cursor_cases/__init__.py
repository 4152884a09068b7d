"""Cursors in real situations: what the model says there, and what must be shown. `|` is the cursor.

Each row is language, text, what the model says, what is shown where the user has asked.
"""

from __future__ import annotations

from tests.cursor_cases import blocks, brackets, ends, indentation, texts, words

Row = tuple[str, str, str, str]
ROWS: list[Row] = [row for module in (brackets, blocks, ends, indentation, texts, words) for row in module.ROWS]

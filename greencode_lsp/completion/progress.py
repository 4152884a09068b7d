"""A text that is being generated, and when it ends: stop rules by name."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from greencode_lsp.completion import filters, gate


@dataclass(slots=True)
class Progress:
    """What was generated so far, and the token that is offered next."""

    cursor: filters.Cursor
    shape: filters.Shape
    dropped: int = 0
    """Bytes at the beginning that token healing took off the prompt: they are not part of the text."""
    text: str = ""
    offered: bytes = b""
    """The token that is not yet part of the text."""
    is_stop: bool = False
    """The engine ends the text before the token offered."""
    generated: bytes = b""

    def offer(self, token: bytes, *, is_stop: bool) -> None:
        """Take note of the next token."""
        self.offered, self.is_stop = token, is_stop

    def take(self) -> None:
        """Make the token that is offered part of the text."""
        self.generated += self.offered
        self.text = whole_characters(self.generated[self.dropped :])

    def whole_lines(self) -> str:
        """Return the text without the line of a block that a limit on tokens has cut."""
        return self.text[: self.text.rindex("\n")] if self.text.strip().count("\n") else self.text


StopRule = Callable[[Progress], "str | None"]
"""Returns the text that ends here, or None where it continues."""


def in_doubt(progress: Progress) -> str | None:
    """End before a token that the engine would not show: a block after its last whole line."""
    if not progress.is_stop:
        return None
    head, newline, line = progress.text.rpartition("\n")
    good = gate.good_prefix(line, progress.offered.decode("utf-8", "replace"))
    return head if newline and head.strip() else head + newline + good


def at_its_end(progress: Progress) -> str | None:
    """End where a line, a block, a comment or a string ends."""
    end = filters.stop_index(progress.text, progress.cursor, progress.shape)
    return None if end is None else progress.text[:end]


def in_repetition(progress: Progress) -> str | None:
    """End a text that has begun to repeat itself or the document; the filters cut the repetition."""
    return progress.text if filters.repeats(progress.text, progress.cursor) else None


BEFORE_TOKEN: tuple[StopRule, ...] = (in_doubt,)
"""Asked before a token is taken."""
AFTER_TOKEN: tuple[StopRule, ...] = (at_its_end, in_repetition)
"""Asked after."""


def first_end(rules: Sequence[StopRule], progress: Progress) -> str | None:
    """Return the text by the first rule that ends it; None where it continues."""
    return next((text for rule in rules if (text := rule(progress)) is not None), None)


def whole_characters(data: bytes) -> str:
    """Return the text of `data`, leaving out a character that is not complete yet."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)

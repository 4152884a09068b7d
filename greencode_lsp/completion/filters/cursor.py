"""Where a completion goes: the text around it, and what is open there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from greencode_lsp.completion.filters.indent import Style, style_of
from greencode_lsp.completion.languages import Language, language_of
from greencode_lsp.completion.open_frames import State
from greencode_lsp.completion.scan import Scan, scan


@dataclass(frozen=True, slots=True)
class Cursor:
    """What the rules know besides the text. Line ends are newlines."""

    before: str
    """The document's text before the cursor, or its end."""
    after: str
    """The same after the cursor, or its beginning."""
    language: Language
    line_state: State
    """What is open at the start of the cursor's line."""
    state: State
    """What is open at the cursor."""
    closed_below: int
    """So many of them, counted from outside, the document closes after the cursor: the text is not to close them."""
    style: Style
    """How the lines are indented."""
    is_whole: bool = True
    """Whether the document begins with `before`."""
    special_tokens: tuple[str, ...] = ()
    """What the model may spell out that is no text."""
    is_finished: bool = False
    """Whether the model has ended the text itself."""

    @classmethod
    def at(
        cls, before: str, after: str, language_id: str = "", *, is_whole: bool = True, style: Style | None = None
    ) -> Cursor:
        """Return the place between two texts; `style` is the client's, for a document that shows none."""
        before, after = before.replace("\r\n", "\n"), after.replace("\r\n", "\n")
        language = language_of(language_id)
        start = before.rfind("\n") + 1
        line_state = scan(before[:start], language).state
        state = scan(before, language, line_state, start).state
        below = _closed_below(state, after, language)
        file_style = style_of(before, after, style or Style(language.unit))
        return cls(before, after, language, line_state, state, below, file_style, is_whole)

    @property
    def left(self) -> str:
        """The cursor's line up to the cursor."""
        return self.before.rpartition("\n")[2]

    @property
    def rest(self) -> str:
        """The cursor's line from the cursor on."""
        return self.after.partition("\n")[0]

    @property
    def below(self) -> str:
        """The line that is not blank and follows the cursor's line, without its blanks."""
        return next((line.strip() for line in self.after.split("\n")[1:] if line.strip()), "")

    @property
    def is_inside_word(self) -> bool:
        """Whether there is a word on both sides."""
        return bool(re.search(r"\w\Z", self.before) and re.match(r"\w", self.after))

    def scan(self, text: str) -> Scan:
        """Go over the cursor's line with `text` in place of what follows the cursor; positions count from `text`."""
        start = self.before.rfind("\n") + 1
        line = self.before[start:]
        lines = self.before[max(0, start - 1) : start] + line + text
        scanned = scan(lines, self.language, self.line_state, min(start, 1), is_thorough=True)
        shift = len(line) + min(start, 1)
        scanned.events = [event.moved(-shift) for event in scanned.events]
        return scanned


def _closed_below(state: State, after: str, language: Language) -> int:
    """Return how many of the open frames, counted from outside, are closed by what follows the cursor."""
    if not state:
        return 0
    scanned = scan(after, language, state)
    texts = [i for i, frame in enumerate(state) if frame.quote is not None and frame.quote.spans_lines]
    is_odd = any(frame.quote is not None and frame.quote.spans_lines for frame in scanned.state)
    if texts and is_odd and any(frame is state[texts[0]] for frame in scanned.closed):
        return _closed_below(state[: texts[0]], after, language)  # its end is the next one's beginning
    closed = {id(frame) for frame in scanned.closed}
    return max((index + 1 for index, frame in enumerate(state) if id(frame) in closed), default=0)

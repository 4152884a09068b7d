"""Suggestions made before, and what of them is still to come where the user has typed along or gone back."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass

from greencode_lsp.completion import filters
from greencode_lsp.completion.pipeline import Request
from greencode_lsp.prompt.context import skip_closers

LOOKED_AT = 512
"""Characters before the cursor that must be those the suggestion was made for: an edit further up leaves it valid."""
LOOKED_AHEAD = 128
"""The same after the cursor."""
TAKEN_BACK = 128
"""Characters that may have been deleted since: a typing error corrected, a word begun anew."""
DOCUMENTS, PER_DOCUMENT = 32, 64
LAST_WORD = re.compile(r"\w*\Z")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One answer of the model, and the place it was made for."""

    number: int
    """Of the generation that made it."""
    before: str
    """The text before the cursor, at most `LOOKED_AT` characters of it."""
    is_whole: bool
    """Whether that is all there is."""
    after: str
    """The beginning of the text after the cursor, without the closers that editors put there."""
    text: str
    """Empty where there was nothing to suggest."""
    invoked: bool
    """Whether the user had asked: only then was nothing held back."""

    @classmethod
    def of(cls, number: int, request: Request, text: str) -> Suggestion:
        """Return the suggestion made for a request."""
        before = request.text[max(0, request.offset - LOOKED_AT) : request.offset]
        return cls(number, before, request.offset <= LOOKED_AT, _after(request), text, request.invoked)

    def rest(self, request: Request, after: str) -> str | None:
        """Return what the suggestion still has to say at a request's cursor, or None where it does not fit there."""
        if after != self.after or (request.invoked and not self.invoked):
            return None
        typed = self._typed(request)
        if typed is None:
            return self._taken_back(request)
        rest = self.text.removeprefix(typed) if self.text.startswith(typed) else _auto_indented(self.text, typed)
        if rest is None or (typed and not rest.strip()):
            return None
        before = request.text[max(0, request.offset - LOOKED_AT) : request.offset]
        following = request.text[request.offset : request.offset + LOOKED_AT]
        return filters.cut_overlap(filters.cut_closed(rest, before, following), following)

    def is_on_the_way_to(self, request: Request) -> bool:
        """Tell whether, being only begun, the suggestion may yet fit at a request's cursor."""
        if request.invoked and not self.invoked:
            return False
        typed = self._typed(request) if _after(request) == self.after else None
        return typed is not None and (self.text.startswith(typed) or typed.startswith(self.text))

    def _typed(self, request: Request) -> str | None:
        """Return what was typed since, or None where the text before is another or far more was typed."""
        longest = len(self.before) + len(self.text) + TAKEN_BACK  # an editor's indentation may come on top
        start = max(0, request.offset - longest)
        window = request.text[start : request.offset]
        at = window.rfind(self.before) if not self.is_whole else 0 if start == 0 else -1
        if at < 0 or not window.startswith(self.before, at):
            return None
        return window[at + len(self.before) :].replace("\r\n", "\n")

    def _taken_back(self, request: Request) -> str | None:
        """Return the suggestion with the part of a word before it that was deleted since."""
        word = LAST_WORD.search(self.before)
        longest = len(word.group()) if word else 0
        if not self.text:
            return None
        for count in range(1, min(longest, TAKEN_BACK) + 1):
            kept = self.before[:-count]
            if request.text.endswith(kept, 0, request.offset) and (not self.is_whole or request.offset == len(kept)):
                return self.before[-count:] + self.text
        return None


def _after(request: Request) -> str:
    start = skip_closers(request.text, request.offset)
    return request.text[start : start + LOOKED_AHEAD]


def _auto_indented(text: str, typed: str) -> str | None:
    """Return the rest after a line end and the editor's indentation, where the suggestion's goes at least as far."""
    line_end = typed.rfind("\n") + 1
    head, indent = typed[:line_end], typed[line_end:]
    if not line_end or indent.strip() or not text.startswith(head):
        return None
    rest = text[len(head) :]
    own = rest[: len(rest) - len(rest.lstrip(" \t"))]
    return rest[len(indent) :] if own.startswith(indent) else None


class Suggestions:
    """The latest suggestions of the latest documents; in memory only."""

    def __init__(self) -> None:
        self._documents: OrderedDict[str, deque[Suggestion]] = OrderedDict()

    def add(self, document: str, suggestion: Suggestion) -> None:
        """Remember a suggestion; the oldest of its document, or of the document unused for longest, goes."""
        self._documents.setdefault(document, deque(maxlen=PER_DOCUMENT)).append(suggestion)
        self._documents.move_to_end(document)
        if len(self._documents) > DOCUMENTS:
            self._documents.popitem(last=False)

    def find(self, document: str, request: Request) -> tuple[int, str] | None:
        """Return the number of the newest suggestion that fits and what it still has to say, or None."""
        after = _after(request)
        for suggestion in reversed(self._documents.get(document, ())):
            rest = suggestion.rest(request, after)
            if rest is not None:
                return suggestion.number, rest
        return None

    def forget(self, document: str | None = None) -> None:
        """Forget a document's suggestions, or all: what was made at another preference is not what is asked for."""
        if document is None:
            self._documents.clear()
        else:
            self._documents.pop(document, None)

"""Suggestions made before, and what of them is still to come where the user has typed along or gone back."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass, replace

from greencode_lsp.completion import filters
from greencode_lsp.completion.request import Request, cursor_of
from greencode_lsp.completion.status import Suggested
from greencode_lsp.prompt.context import skip_closers
from greencode_lsp.prompt.other_files import Chunk
from greencode_lsp.records import EnergyReading

ANCHOR = 64
"""Characters before the cursor by which the place is found before the others are compared."""
LOOKED_AT = 2000
"""Characters on either side by which brackets are matched that the editor has closed meanwhile."""
TAKEN_BACK = 128
"""Characters that may have been deleted since: a typing error corrected, a word begun again."""
DOCUMENTS, PER_DOCUMENT = 32, 32
"""A suggestion keeps the text it was made for: two or three kilobytes."""
LAST_WORD = re.compile(r"\w*\Z")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One answer of the model, and the place it was made for."""

    number: int
    """Of the generation that made it."""
    before: str
    """The text before the cursor that the model has seen: with another it would say something else."""
    is_whole: bool
    """Whether that is all there is."""
    after: str
    """The same after the cursor, without the closers that editors put there."""
    is_whole_after: bool
    """Whether that is all there is."""
    closers: str
    """What editors put there."""
    text: str
    """Empty where there was nothing to suggest."""
    invoked: bool
    """Whether the user had asked: only then was nothing held back."""
    indentation: tuple[int, bool]
    """As the client had it."""
    others: tuple[Chunk, ...] = ()
    """Of other files, that the model has seen."""
    alternatives: tuple[Suggested, ...] = ()
    """Other texts for the same place."""
    probability: float = 1.0
    """Of all of it, by the model's own confidence."""
    energy: EnergyReading | None = None
    """What its generation took."""

    @classmethod
    def of(cls, number: int, request: Request, text: str, seen: int) -> Suggestion:
        """Return the suggestion made for a request from at most `seen` characters on either side."""
        first = max(0, request.offset - seen)
        start = skip_closers(request.text, request.offset)
        return cls(
            number=number,
            before=request.text[first : request.offset],
            is_whole=first == 0,
            after=request.text[start : start + seen],
            is_whole_after=start + seen >= len(request.text),
            closers=request.text[request.offset : start],
            text=text,
            invoked=request.invoked,
            indentation=(request.tab_size, request.insert_spaces),
            others=request.others,
        )

    def rest(self, request: Request, after: int) -> str | None:
        """Return what the suggestion still has to say at a request's cursor, or None where it does not fit there.

        `after` is where the text after the cursor begins for us.
        """
        if not self._may_fit(request, after):
            return None
        typed = self._typed(request)
        if typed is None:
            return self._taken_back(request)
        rest = self.text.removeprefix(typed) if self.text.startswith(typed) else _auto_indented(self.text, typed)
        if rest is None or (typed and not rest.strip()):
            return None
        if request.text[request.offset : after] == self.closers:
            return rest
        cursor = cursor_of(request, LOOKED_AT)
        return filters.cut_unbalanced(filters.cut_overlap(rest, cursor), cursor)

    def suggested(self) -> Suggested:
        """Return the answer to the request that it was made for."""
        return Suggested(self.text, self.number, self.alternatives, self.probability, self.energy)

    def other_rests(self, request: Request, after: int) -> tuple[Suggested, ...]:
        """Return what the alternatives still have to say, where the user asks and they fit."""
        if not request.invoked:
            return ()
        rests = ((replace(self, text=one.text).rest(request, after), one.number) for one in self.alternatives)
        return tuple(Suggested(rest, number) for rest, number in rests if rest)

    def _may_fit(self, request: Request, after: int) -> bool:
        """Return whether all but the text before the cursor is as it was."""
        if (request.invoked and not self.invoked) or self.indentation != (request.tab_size, request.insert_spaces):
            return False
        if self.others != request.others:
            return False
        if self.is_whole_after and len(request.text) - after != len(self.after):
            return False
        return request.text.startswith(self.after, after)

    def is_on_the_way_to(self, request: Request) -> bool:
        """Return whether, being only begun, the suggestion may yet fit at a request's cursor."""
        after = skip_closers(request.text, request.offset)
        typed = self._typed(request) if self._may_fit(request, after) else None
        return typed is not None and (self.text.startswith(typed) or typed.startswith(self.text))

    def _typed(self, request: Request) -> str | None:
        """Return what was typed since, or None where the text before is another or far more was typed."""
        longest = len(self.before) + len(self.text) + TAKEN_BACK  # an editor's indentation may come on top
        start = max(0, request.offset - longest)
        if self.is_whole:
            is_same = start == 0 and request.text.startswith(self.before, 0, request.offset)
            return request.text[len(self.before) : request.offset].replace("\r\n", "\n") if is_same else None
        anchor, end = self.before[-ANCHOR:], request.offset
        while (at := request.text.rfind(anchor, start, end)) >= 0:
            if request.text.endswith(self.before, 0, at + len(anchor)):
                return request.text[at + len(anchor) : request.offset].replace("\r\n", "\n")
            end = at + len(anchor) - 1
        return None

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

    def find(self, document: str, request: Request) -> Suggested | None:
        """Return what the newest suggestion that fits still has to say, or None; others only where the user asks."""
        after = skip_closers(request.text, request.offset)
        for suggestion in reversed(self._documents.get(document, ())):
            rest = suggestion.rest(request, after)
            if rest is not None:
                return replace(suggestion.suggested(), text=rest, alternatives=suggestion.other_rests(request, after))
        return None

    def forget(self, document: str | None = None) -> None:
        """Forget a document's suggestions, or all: what was made at another preference is not what is asked for."""
        if document is None:
            self._documents.clear()
        else:
            self._documents.pop(document, None)

"""What became of a suggestion: accepted, in part or whole, or rejected. The client says so, or the changes show it.

No client reports all of it: VS Code runs an item's command only on full acceptance, and none reports a rejection.
Numbers only: the text is kept no longer than the suggestion is on the screen.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import Literal

from greencode_lsp.completion.request import Request

Outcome = Literal["accepted", "partial", "rejected", "superseded", "shown"]

AROUND = 64
"""Characters before a suggestion by which its place is found again when lines above it have changed."""
REMEMBERED = 16
"""Suggestions of a document that were undone and are not to come again by themselves."""
REMEMBERED_NUMBERS = 4096
"""Suggestions of which it is known whether the client was given them: more than are kept to be given again."""
AT_ONCE = 2
"""As many characters of the suggestion in one change are taken, not typed."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a suggestion."""

    number: int
    outcome: Outcome
    accepted_characters: int
    line: int
    """Where it was shown, from 0."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A suggestion that was accepted, until the text has changed otherwise."""

    text: str
    offset: int
    before: str
    after: str
    """The beginning of what stood behind the cursor."""
    stands: bool = False
    """Whether it has been seen in the document."""

    def is_in(self, source: str) -> bool:
        """Return whether it stands in the document."""
        new = source[self.offset : self.offset + 2 * len(self.text)].replace("\r\n", "\n")
        return source.endswith(self.before, 0, self.offset) and new.startswith(self.text)

    def is_undone_in(self, source: str) -> bool:
        """Return whether the document is there as it was before."""
        after = source[self.offset : self.offset + AROUND]
        return source.endswith(self.before, 0, self.offset) and after == self.after


@dataclass(frozen=True, slots=True)
class _Shown:
    number: int
    text: str
    offset: int
    before: str
    after: str
    """All that stood behind the cursor."""
    document_length: int
    line: int
    previewed: bool
    progress: int = 0
    """Characters of it that stand in the document."""
    accepted: int = 0
    """Those of them that were taken, not typed."""

    def taken(self) -> _Accepted:
        return _Accepted(self.text, self.offset, self.before, self.after[:AROUND])

    def settled(self, outcome: Outcome | None = None) -> Settled:
        natural: Outcome = "partial" if self.accepted else "rejected"
        return Settled(self.number, outcome or natural, self.accepted, self.line)


class Outcomes:
    """The suggestion on the screen of each document."""

    def __init__(self) -> None:
        self._shown: dict[str, _Shown] = {}
        self._taken: dict[str, _Accepted] = {}
        """What was accepted last in each document."""
        self._undone: dict[str, deque[tuple[str, str]]] = {}
        """What stood before and behind the cursor where an accepted suggestion was undone."""
        self._given: OrderedDict[int, bool] = OrderedDict()
        """By number: whether the client was given a suggestion, or whether it counts as given to nobody so far."""

    def give(self, number: int) -> Settled | None:
        """Note that the client is given a suggestion; return that it is shown where it counted as given to nobody."""
        is_first = self._given.get(number) is False
        self._note(number, is_given=True)
        return Settled(number, "shown", 0, 0) if is_first else None

    def withhold(self, number: int) -> Settled | None:
        """Return that a suggestion was given to nobody, until it is given; None where it was given before."""
        if self._given.get(number):
            return None
        self._note(number, is_given=False)
        return Settled(number, "superseded", 0, 0)

    def _note(self, number: int, *, is_given: bool) -> None:
        self._given[number] = is_given
        if len(self._given) > REMEMBERED_NUMBERS:
            self._given.popitem(last=False)

    def show(self, document: str, number: int, text: str, request: Request) -> Settled | None:
        """Note that `text` is shown at a request's cursor; the rest of a suggestion goes on with it.

        Returns what became of the one before, where some of it was taken.
        """
        source, offset = request.text, request.offset
        known = self._shown.get(document)
        goes_on = known is not None and known.number == number
        ended = None if goes_on else self.close(document)
        self._shown[document] = _Shown(
            number=number,
            text=text,
            offset=offset,
            before=source[max(0, offset - AROUND) : offset],
            after=source[offset:],
            document_length=len(source),
            line=request.line,
            previewed=request.previewed,
            accepted=known.accepted if known is not None and goes_on else 0,
        )
        return ended

    def accept(self, number: int) -> Settled | None:
        """Note that the client says all of it was accepted; None where that is known already."""
        return self._take(number, None)

    def accept_part(self, number: int, characters: int) -> Settled | None:
        """Note that the client says its first characters were accepted; None for no character of it."""
        return self._take(number, characters) if characters > 0 else None

    def _take(self, number: int, characters: int | None) -> Settled | None:
        for document, shown in self._shown.items():
            if shown.number == number:
                whole = len(shown.text) if characters is None else min(characters, len(shown.text))
                whole = max(whole, shown.progress)  # a client may know less by now than the text shows
                taken = replace(shown, accepted=shown.accepted + whole - shown.progress, progress=whole)
                self._shown[document] = taken
                if whole < len(shown.text):
                    return taken.settled("partial")
                del self._shown[document]
                self._taken[document] = taken.taken()
                return taken.settled("accepted")
        return None

    def is_undone(self, document: str, request: Request) -> bool:
        """Return whether a suggestion was accepted at this very place and undone."""
        source, offset = request.text, request.offset
        place = (source[max(0, offset - AROUND) : offset], source[offset : offset + AROUND])
        return place in self._undone.get(document, ())

    def _look_for_undo(self, document: str, source: str) -> None:
        taken = self._taken.get(document)
        if taken is None:
            return
        if taken.is_in(source):
            self._taken[document] = replace(taken, stands=True)
        elif taken.stands and taken.is_undone_in(source):
            self._undone.setdefault(document, deque(maxlen=REMEMBERED)).append((taken.before, taken.after))
            del self._taken[document]

    def is_followed(self, document: str) -> bool:
        """Return whether a change of the document may settle something."""
        return document in self._shown or document in self._taken

    def changed(self, document: str, source: str) -> Settled | None:
        """Read off the document's new text what became of the suggestion shown in it; None while it is open."""
        self._look_for_undo(document, source)
        shown = self._shown.get(document)
        if shown is None:
            return None
        if not source.endswith(shown.before, 0, shown.offset):  # something above has changed
            offset = shown.offset + len(source) - shown.document_length
            if not source.endswith(shown.before, 0, max(0, offset)):
                return self._gone(document)
            self._shown[document] = replace(shown, offset=offset, document_length=len(source))
            return None
        new = source[shown.offset :]
        if new.endswith(shown.after):
            return self._grown(document, new[: len(new) - len(shown.after)], len(source))
        below = new.removeprefix(shown.text[: shown.progress])
        if new.startswith(shown.text[: shown.progress]) and below[:1] == shown.after[:1]:  # something below has changed
            self._shown[document] = replace(shown, after=below, document_length=len(source))
            return None
        return self._gone(document)

    def _grown(self, document: str, inserted: str, document_length: int) -> Settled | None:
        """Take what stands now where the suggestion was shown."""
        shown = self._shown[document]
        inserted = inserted.replace("\r\n", "\n")
        common = _common_prefix(inserted, shown.text)
        if common < min(len(inserted), len(shown.text)) and not _is_closing(inserted[common:]):
            return self._gone(document)
        step = common - shown.progress
        taken = shown.accepted + step if step >= AT_ONCE else shown.accepted
        if taken > shown.accepted:
            stands = _Accepted(shown.text[:common], shown.offset, shown.before, shown.after[:AROUND], stands=True)
            self._taken[document] = stands
        shown = replace(shown, progress=common, accepted=taken, document_length=document_length)
        self._shown[document] = shown
        if common < len(shown.text):
            return None
        del self._shown[document]
        return shown.settled("accepted" if step >= AT_ONCE else None) if shown.accepted else None

    def _gone(self, document: str) -> Settled | None:
        shown = self._shown.pop(document)
        return None if shown.previewed else shown.settled()  # what was previewed may just not be taken yet

    def forget(self, document: str) -> Settled | None:
        """Forget all of a document that was closed; return what became of a suggestion of which some was taken."""
        self._taken.pop(document, None)
        self._undone.pop(document, None)
        return self.close(document)

    def close(self, document: str) -> Settled | None:
        """Forget a document's suggestion; return what became of it where some of it was taken."""
        shown = self._shown.pop(document, None)
        return shown.settled() if shown is not None and shown.accepted else None


def _common_prefix(left: str, right: str) -> int:
    limit = min(len(left), len(right))
    return next((i for i in range(limit) if left[i] != right[i]), limit)


def _is_closing(text: str) -> bool:
    """Return whether an editor may have put this there by itself."""
    return not text.strip(")]}>\"'` \t\r\n")

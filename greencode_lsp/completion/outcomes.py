"""What became of a suggestion: accepted, in part or whole, or rejected. Told by the client, or read off the changes.

No client tells of all of it: VS Code runs an item's command only on full acceptance, and nobody tells of a rejection.
Numbers only: the text is kept no longer than the suggestion is on the screen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from greencode_lsp.completion.pipeline import Request

Outcome = Literal["accepted", "partial", "rejected"]

AROUND = 64
"""Characters before a suggestion by which its place is found again when lines above it have changed."""
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
class _Shown:
    number: int
    text: str
    offset: int
    before: str
    document_length: int
    line: int
    previewed: bool
    progress: int = 0
    """Characters of it that stand in the document."""
    accepted: int = 0
    """Those of them that were taken, not typed."""

    def settled(self, outcome: Outcome | None = None) -> Settled:
        natural: Outcome = "partial" if self.accepted else "rejected"
        return Settled(self.number, outcome or natural, self.accepted, self.line)


class Outcomes:
    """The suggestion on the screen of each document."""

    def __init__(self) -> None:
        self._shown: dict[str, _Shown] = {}

    def show(self, document: str, number: int, text: str, request: Request) -> None:
        """Note that `text` is shown at a request's cursor; the rest of a suggestion goes on with it."""
        source, offset = request.text, request.offset
        known = self._shown.get(document)
        taken = known.accepted if known is not None and known.number == number else 0
        before = source[max(0, offset - AROUND) : offset]
        self._shown[document] = _Shown(
            number, text, offset, before, len(source), request.line, request.previewed, accepted=taken
        )

    def accept(self, number: int) -> Settled | None:
        """Note that the client says all of it was accepted; None where that is known already."""
        return self._take(number, None)

    def accept_part(self, number: int, characters: int) -> Settled | None:
        """Note that the client says its first characters were accepted."""
        return self._take(number, characters)

    def _take(self, number: int, characters: int | None) -> Settled | None:
        for document, shown in self._shown.items():
            if shown.number == number:
                whole = len(shown.text) if characters is None else min(characters, len(shown.text))
                taken = replace(shown, accepted=shown.accepted + whole - shown.progress, progress=whole)
                self._shown[document] = taken
                if whole < len(shown.text):
                    return taken.settled("partial")
                del self._shown[document]
                return taken.settled("accepted")
        return None

    def changed(self, document: str, source: str) -> Settled | None:
        """Read off the document's new text what became of the suggestion shown in it; None while it is open."""
        shown = self._shown.get(document)
        if shown is None:
            return None
        grown = len(source) - shown.document_length
        offset = shown.offset
        if not source.endswith(shown.before, 0, offset):  # something above has changed
            offset += grown
            if not source.endswith(shown.before, 0, max(0, offset)):
                return self._gone(document)
            self._shown[document] = replace(shown, offset=offset, document_length=len(source))
            return None
        inserted = source[offset : offset + grown] if grown > 0 else ""
        common = _common_prefix(inserted, shown.text)
        if grown < 0 or (common < len(inserted) and common < len(shown.text) and not _is_closing(inserted[common:])):
            return self._gone(document)
        step = common - shown.progress
        taken = shown.accepted + step if step >= AT_ONCE else shown.accepted
        shown = self._shown[document] = replace(shown, progress=common, accepted=taken)
        if common < len(shown.text):
            return None
        del self._shown[document]
        return shown.settled("accepted" if step >= AT_ONCE else None) if shown.accepted else None

    def _gone(self, document: str) -> Settled | None:
        shown = self._shown.pop(document)
        return None if shown.previewed else shown.settled()  # what was previewed may just not be taken yet

    def close(self, document: str) -> None:
        """Forget a document."""
        self._shown.pop(document, None)


def _common_prefix(left: str, right: str) -> int:
    limit = min(len(left), len(right))
    return next((i for i in range(limit) if left[i] != right[i]), limit)


def _is_closing(text: str) -> bool:
    """Tell whether an editor may have put this there by itself."""
    return not text.strip(")]}>\"'` \t\r\n")

"""From a completion's text to the items that each kind of request takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from lsprotocol import types

from greencode_lsp.completion.status import Suggested
from greencode_lsp.lsp.positions import position_at
from greencode_lsp.lsp.requests import Place
from greencode_lsp.records import EnergyReading

LABEL_CHARACTERS = 60
SURE = 0.5
"""Probability of a whole suggestion from which a popup sorts it among the items of other servers, by its label."""
TYPED_WORD = re.compile(r"\w*\Z")


class NoAnswer(Enum):
    """Why a request has no text for an answer."""

    NOTHING = "nothing to suggest"
    SUPERSEDED = "no longer wanted"


@dataclass(frozen=True, slots=True)
class Answer:
    """What to insert, and where."""

    place: Place
    text: str
    """Never empty."""
    number: int
    """By which the client reports its acceptance."""
    encoding: str
    """The client's position encoding."""
    alternatives: tuple[Answer, ...] = ()
    """Other texts for the same place, where the user asked."""
    probability: float = 1.0
    """Of all of it, by the model's own confidence."""
    energy: EnergyReading | None = None
    """What its generation took."""

    @property
    def suggested(self) -> Suggested:
        """What the service has suggested."""
        others = tuple(Suggested(other.text, other.number) for other in self.alternatives)
        return Suggested(self.text, self.number, others, self.probability)

    @property
    def insert_text(self) -> str:
        """The whole text of the item, the selected one it extends included."""
        return self.place.prefix + self.lines

    @property
    def lines(self) -> str:
        """The text with the document's line ends."""
        first_end = self.place.source.find("\n")
        is_windows = first_end > 0 and self.place.source[first_end - 1] == "\r"
        return self.text.replace("\n", "\r\n") if is_windows else self.text

    def range_from(self, start: int) -> types.Range:
        """Return the client's range from an offset to the cursor."""
        source, offset = self.place.source, self.place.offset
        first, last = (position_at(source, each, self.place.line, self.encoding) for each in (start, offset))
        return types.Range(first, last)


def inline_list(answer: Answer | NoAnswer, accept: str) -> types.InlineCompletionList:
    """Return an item and its alternatives, or none; `accept` is the command that reports its acceptance."""
    if isinstance(answer, NoAnswer):
        return types.InlineCompletionList(items=[])
    items = [
        types.InlineCompletionItem(
            insert_text=one.insert_text, range=one.range_from(one.place.start), command=_command(one, accept)
        )
        for one in (answer, *answer.alternatives)
    ]
    return types.InlineCompletionList(items=items)


def popup_list(answer: Answer | NoAnswer, accept: str) -> types.CompletionList:
    """Return one item that replaces the word being typed, or none; the client is to ask again while typing."""
    items = [] if isinstance(answer, NoAnswer) else [_popup_item(answer, accept)]
    return types.CompletionList(is_incomplete=True, items=items)


def _popup_item(answer: Answer, accept: str) -> types.CompletionItem:
    source, offset = answer.place.source, answer.place.offset
    left = source[source.rfind("\n", 0, offset) + 1 : offset]
    match = TYPED_WORD.search(left)
    word = match.group() if match else ""
    text = word + answer.lines
    first_line = text.strip().partition("\n")[0].rstrip()
    return types.CompletionItem(
        label=first_line[:LABEL_CHARACTERS],
        label_details=types.CompletionItemLabelDetails(description=mark(answer)),
        detail=mark(answer),
        kind=types.CompletionItemKind.Text,
        documentation=text,
        filter_text=first_line,
        sort_text=None if answer.probability >= SURE else "\uffff",  # below what the language's own server knows
        insert_text_mode=types.InsertTextMode.AsIs,
        text_edit=types.TextEdit(answer.range_from(offset - len(word)), text),
        command=_command(answer, accept),
    )


def mark(answer: Answer) -> str:
    """Return what a popup says of where an item is from, and of its joules."""
    energy = answer.energy
    return "greencode" if energy is None else f"greencode {energy.energy_j:.2g} J {energy.energy_tier}"


def _command(answer: Answer, accept: str) -> types.Command:
    return types.Command("Accept", accept, arguments=[str(answer.number)])

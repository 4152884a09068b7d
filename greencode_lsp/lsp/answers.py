"""From a completion's text to the items that each kind of request takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lsprotocol import types

from greencode_lsp.errors import PositionError
from greencode_lsp.lsp.positions import offset_at, position_at

LABEL_CHARACTERS = 60
TYPED_WORD = re.compile(r"\w*\Z")


@dataclass(frozen=True, slots=True)
class Answer:
    """What to insert, and the document it was made for."""

    source: str
    offset: int
    """The cursor, in code points."""
    text: str
    """Empty for nothing to suggest."""
    encoding: str
    """The client's position encoding."""

    def range(self, start: int, end: int) -> types.Range:
        """Return the client's range of two offsets."""
        first = position_at(self.source, start, self.encoding)
        return types.Range(first, first if end == start else position_at(self.source, end, self.encoding))


def inline_list(
    answer: Answer, selected: types.SelectedCompletionInfo | None, accept: types.Command
) -> types.InlineCompletionList:
    """Return one item or none. Where the editor's popup has an item selected, ours must extend that very item."""
    start, text = answer.offset, answer.text
    if selected is not None and text:
        start, text = _extending(answer, selected)
    if not text:
        return types.InlineCompletionList(items=[])
    item = types.InlineCompletionItem(insert_text=text, range=answer.range(start, answer.offset), command=accept)
    return types.InlineCompletionList(items=[item])


def _extending(answer: Answer, selected: types.SelectedCompletionInfo) -> tuple[int, str]:
    """Return the selected range's start and the text for it; no text where it cannot begin with the selected one."""
    try:
        start, end = (offset_at(answer.source, p, answer.encoding) for p in (selected.range.start, selected.range.end))
    except PositionError:
        return answer.offset, ""
    text = answer.source[start : answer.offset] + answer.text
    is_extension = start <= answer.offset == end and text.startswith(selected.text)
    return start, text if is_extension and "\n" not in answer.source[start:end] else ""


def popup_list(answer: Answer | None) -> types.CompletionList:
    """Return one item that replaces the word being typed, or none."""
    items = [] if answer is None or not answer.text else [_popup_item(answer)]
    return types.CompletionList(is_incomplete=True, items=items)


def _popup_item(answer: Answer) -> types.CompletionItem:
    left = answer.source[: answer.offset].rpartition("\n")[2]
    match = TYPED_WORD.search(left)
    word = match.group() if match else ""
    text = word + answer.text
    first_line = text.strip().partition("\n")[0]
    return types.CompletionItem(
        label=first_line[:LABEL_CHARACTERS],
        label_details=types.CompletionItemLabelDetails(description="greencode"),
        kind=types.CompletionItemKind.Text,
        documentation=text,
        filter_text=first_line,
        sort_text="\uffff",  # below what the language's own server knows
        insert_text_mode=types.InsertTextMode.AsIs,
        text_edit=types.TextEdit(answer.range(answer.offset - len(word), answer.offset), text),
    )

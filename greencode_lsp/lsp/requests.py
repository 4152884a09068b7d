"""From what the client asks to a completion request; the only place that knows the kinds of asking apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import attrs
import cattrs
from lsprotocol import types
from pygls.protocol import default_converter

from greencode_lsp.completion.request import Request
from greencode_lsp.errors import PositionError
from greencode_lsp.lsp.documents import Document

Params = types.InlineCompletionParams | types.CompletionParams


@attrs.define
class FormattedParams(types.InlineCompletionParams):
    """Inline completion as Copilot's clients ask for it: with the editor's formatting options."""

    formatting_options: types.FormattingOptions | None = None


def make_converter() -> cattrs.Converter:
    """Return pygls' converter, which would drop the formatting options that the standard does not have.

    Documents whose version is missing or null are read too: some clients leave it out, and a change that is not read
    makes every later one wrong.
    """
    converter: cattrs.Converter = default_converter()  # type: ignore[no-untyped-call]  # pygls' own
    standard = converter.get_structure_hook(types.InlineCompletionParams)

    def structure(value: dict[str, object], cls: type) -> types.InlineCompletionParams:
        params: types.InlineCompletionParams = standard(value, types.InlineCompletionParams)
        raw = value.get("formattingOptions")
        options = converter.structure(raw, types.FormattingOptions) if isinstance(raw, dict) else None
        return FormattedParams(params.context, params.text_document, params.position, params.work_done_token, options)

    converter.register_structure_hook(types.InlineCompletionParams, structure)
    for versioned in (
        types.VersionedTextDocumentIdentifier,
        types.TextDocumentItem,
        types.VersionedNotebookDocumentIdentifier,
        types.NotebookDocument,
    ):
        converter.register_structure_hook(versioned, _with_version(converter.get_structure_hook(versioned)))
    return converter


def _with_version(standard: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def structure(value: Any, cls: type) -> Any:  # noqa: ANN401 - as cattrs has it
        version = value.get("version") if isinstance(value, dict) else None
        if isinstance(value, dict) and not (type(version) is int and abs(version) < 2**31):
            value = {**value, "version": 0}
        return standard(value, cls)

    return structure


@dataclass(frozen=True, slots=True)
class Place:
    """A request, and where in the document its answer goes."""

    request: Request
    source: str
    """The document as the client has it."""
    start: int
    """Where the answer's range begins; it ends at the cursor."""
    offset: int
    """The cursor, in code points."""
    prefix: str = ""
    """What the answer must begin with: the item selected in the client's popup."""
    line: int = 0
    """The cursor's, from 0."""

    def below(self, above: str) -> Place:
        """Return the place with what stands above a notebook's cell in the request; the answer stays in the cell."""
        request = self.request
        return replace(self, request=replace(request, text=above + request.text, offset=len(above) + request.offset))


def place_of(params: Params, document: Document) -> Place | None:
    """Return the place asked for; None where the selected item cannot be extended.

    Raises PositionError where the document has no such position, DocumentError where its text is not to be had.
    """
    context = params.context
    offset = document.offset_at_position(params.position)
    request = Request(document.source, offset, document.language_id or "", path=document.path)
    place = Place(request, request.text, request.offset, request.offset, line=params.position.line)
    if not isinstance(context, types.InlineCompletionContext):
        return place
    options = params.formatting_options if isinstance(params, FormattedParams) else None
    if options is not None:
        request = replace(request, tab_size=options.tab_size, insert_spaces=options.insert_spaces)
    request = replace(request, invoked=context.trigger_kind == types.InlineCompletionTriggerKind.Invoked)
    place, selected = replace(place, request=request), context.selected_completion_info
    extended = place if selected is None else _extending(request, selected, document)
    return place if extended is None and request.invoked else extended


def _extending(request: Request, selected: types.SelectedCompletionInfo, document: Document) -> Place | None:
    """Return the place with the selected item taken as typed, so that whatever is suggested goes on with it."""
    source, offset = request.text, request.offset
    try:
        start, end = (document.offset_at_position(p) for p in (selected.range.start, selected.range.end))
    except PositionError:
        return None
    if not start <= offset == end or "\n" in source[start:end]:
        return None
    text = source[:start] + selected.text + source[offset:]
    extended = replace(request, text=text, offset=start + len(selected.text), previewed=True)
    return Place(extended, source, start, offset, selected.text, selected.range.end.line)

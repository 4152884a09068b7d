"""From what the client asks to a completion request; the only place that knows the kinds of asking apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import unquote

import attrs
import cattrs
from lsprotocol import types
from pygls.protocol import default_converter
from pygls.uris import to_fs_path
from pygls.workspace import TextDocument

from greencode_lsp.completion.pipeline import Request
from greencode_lsp.errors import PositionError
from greencode_lsp.lsp.positions import locate, offset_at

Params = types.InlineCompletionParams | types.CompletionParams


@attrs.define
class FormattedParams(types.InlineCompletionParams):
    """Inline completion as Copilot's clients ask for it: with the editor's formatting options."""

    formatting_options: types.FormattingOptions | None = None


def make_converter() -> cattrs.Converter:
    """Return pygls' converter, which would drop the formatting options that the standard does not have."""
    converter: cattrs.Converter = default_converter()  # type: ignore[no-untyped-call]  # pygls' own
    standard = converter.get_structure_hook(types.InlineCompletionParams)

    def structure(value: dict[str, object], cls: type) -> types.InlineCompletionParams:
        params: types.InlineCompletionParams = standard(value, types.InlineCompletionParams)
        raw = value.get("formattingOptions")
        options = converter.structure(raw, types.FormattingOptions) if isinstance(raw, dict) else None
        return FormattedParams(params.context, params.text_document, params.position, params.work_done_token, options)

    converter.register_structure_hook(types.InlineCompletionParams, structure)
    return converter


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


def path_of(uri: str) -> str:
    """Return the path of a document's file, or what stands for it in its URI."""
    return to_fs_path(uri) or unquote(uri)


def place_of(params: Params, document: TextDocument, encoding: str) -> Place | None:
    """Return the place asked for; None where the selected item cannot be extended.

    Raises PositionError where the position, or the document's text, cannot be had.
    """
    context = params.context
    request = replace(locate(document, params.position, encoding), path=path_of(document.uri))
    place = Place(request, request.text, request.offset, request.offset)
    if not isinstance(context, types.InlineCompletionContext):
        return place
    options = params.formatting_options if isinstance(params, FormattedParams) else None
    if options is not None:
        request = replace(request, tab_size=options.tab_size, insert_spaces=options.insert_spaces)
    request = replace(request, invoked=context.trigger_kind == types.InlineCompletionTriggerKind.Invoked)
    place, selected = replace(place, request=request), context.selected_completion_info
    extended = place if selected is None else _extending(request, selected, encoding)
    return place if extended is None and request.invoked else extended


def _extending(request: Request, selected: types.SelectedCompletionInfo, encoding: str) -> Place | None:
    """Return the place with the selected item taken as typed, so that whatever is suggested goes on with it."""
    source, offset = request.text, request.offset
    try:
        start, end = (offset_at(source, p, encoding) for p in (selected.range.start, selected.range.end))
    except PositionError:
        return None
    if not start <= offset == end or "\n" in source[start:end]:
        return None
    text = source[:start] + selected.text + source[offset:]
    extended = replace(request, text=text, offset=start + len(selected.text), previewed=True)
    return Place(extended, source, start, offset, selected.text)

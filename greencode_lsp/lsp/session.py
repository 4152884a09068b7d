"""One client's session: from requests to the completion service and back, and what the client is told."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote

from lsprotocol import types
from pygls.exceptions import FeatureRequestError
from pygls.lsp.server import LanguageServer

from greencode_lsp import __version__
from greencode_lsp.completion.pipeline import Request
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.completion.status import Scope, Status, Suggested
from greencode_lsp.completion.worker import SupersededError
from greencode_lsp.errors import GreenCodeError, PositionError
from greencode_lsp.lsp import answers, copilot
from greencode_lsp.lsp.answers import Answer
from greencode_lsp.lsp.positions import code_points
from greencode_lsp.lsp.progress import LoadProgress
from greencode_lsp.lsp.protocol import STATUS_METHOD, QuietProtocol, status_params
from greencode_lsp.lsp.pulling import ModelPull
from greencode_lsp.lsp.requests import Params, Place, make_converter, path_of, place_of
from greencode_lsp.prompt.secrets import is_secret

MakeService = Callable[[Callable[[str], None], Callable[[Status], None]], CompletionService]
"""Makes the service from what tells the user a sentence and what reports a status."""

ACCEPT_COMMAND = "greencode.accept"
POPUP_WAIT_S = 0.1
"""A popup waits for the slowest server: what takes longer is in the cache when the client asks again."""
REMEMBERED_ANSWERS = 64


class GreenCodeServer(LanguageServer):
    """One client's server in front of one completion service."""

    def __init__(self, make_service: MakeService) -> None:
        super().__init__("greencode-lsp", __version__, protocol_cls=QuietProtocol, converter_factory=make_converter)
        self.service = make_service(self.tell, self.report)
        self.asks_for_copilot_status = False
        self._progress = LoadProgress(self)
        self.pull = ModelPull(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._given: OrderedDict[int, tuple[str, int, str]] = OrderedDict()

    def tell(self, sentence: str) -> None:
        """Show one sentence to the user."""
        self.window_show_message(types.ShowMessageParams(types.MessageType.Warning, sentence))

    def report(self, status: Status) -> None:
        """Send `greencode/status`, and what else the client shows of it."""
        self.protocol.notify(STATUS_METHOD, status_params(status))
        if self.asks_for_copilot_status:
            self.protocol.notify(copilot.STATUS_METHOD, copilot.status_params(status))
        self._run(self._progress.follow(status))

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something that nobody may wait for to its end."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def report_server_error(self, error: Exception, source: Any) -> None:  # noqa: ANN401 - pygls' own signature
        """Tell of a message that cannot be handled, without what it said; a failed request has its own answer."""
        if source is not FeatureRequestError:
            sentence = f"greencode-lsp could not handle a message of the editor ({type(error).__name__}); it goes on."
            self.service.notify_once(sentence)

    def shutdown(self) -> None:
        """Stop the running generation, then the server; also when the client is gone without a word."""
        self.pull.stop()
        self.service.close()
        super().shutdown()  # type: ignore[no-untyped-call]

    async def complete(self, params: Params) -> Answer | None:
        """Return what to insert and where; None where the request is no longer wanted.

        Whatever is wrong with the document or the position is told, and answered with nothing to insert.
        """
        uri, encoding = params.text_document.uri, self.workspace.position_encoding or ""
        place: Place | None
        if is_secret(unquote(uri)):  # not even read
            place = Place(Request("", 0, "", path_of(uri)), "", 0, 0)
            version = None
        else:
            document = self.workspace.get_text_document(uri)
            version = document.version
            try:
                place = place_of(params, document, encoding)
            except PositionError as error:
                self.service.notify_once(str(error), about=uri)
                place = None
        if place is None:
            return Answer(Place(Request("", 0, ""), "", 0, 0), "", 0, encoding)
        try:
            suggested = await self.service.complete(uri, place.request)
        except SupersededError:
            return None
        except Exception as error:  # noqa: BLE001 - the boundary: no error but a cancel reaches the editor
            self.report_server_error(error, None)
            return Answer(place, "", 0, encoding)
        if version is not None and self.workspace.get_text_document(uri).version != version:
            self.service.dropped(suggested)
            return None
        return Answer(place, suggested.text, suggested.number, encoding)

    def give(self, params: Params, answer: Answer | None) -> Answer | None:
        """Note that an answer goes to the client, and what it takes to read what the client tells of it later."""
        if answer is not None and answer.text:
            self._given[answer.number] = answer.insert_text, len(answer.place.prefix), answer.encoding
            if len(self._given) > REMEMBERED_ANSWERS:
                self._given.popitem(last=False)
            suggested = Suggested(answer.text, answer.number)
            self.service.shown(params.text_document.uri, suggested, answer.place.request)
        return answer

    def accept(self, number: str, code_units: int | None = None) -> None:
        """Take the client's word that an item was accepted, or so many of its code units."""
        given = self._given.get(int(number)) if number.isdecimal() else None
        if given is not None:
            text, prefix_length, encoding = given
            part = None if code_units is None else code_points(text, code_units, encoding) - prefix_length
            self.service.accepted(int(number), part)

    async def answer_report(self, scope: object = None, form: object = None) -> dict[str, Any] | None:
        """Answer `greencode/report`: today's figures as plain values unless the client wishes otherwise."""
        wanted: Scope = "week" if scope == "week" else "all" if scope == "all" else "today"
        try:
            return await self.service.report(wanted, with_page=form == "html")
        except GreenCodeError as error:
            self.service.notify_once(str(error))
            return None

    async def pull_model(self, name: object) -> dict[str, str] | None:
        """Pull a model because the user asked for it; what `auto` stands for is chosen anew."""
        if not isinstance(name, str) or not name.strip() or name.startswith("-"):
            self.service.notify_once(f"{name!r} is no model; `greencode-lsp models catalogue` lists them.")
            return None
        pulled = await self.pull.run(name)
        if pulled is None:
            return None
        self.service.models_changed()
        return {"model": pulled}

    async def answer_popup(self, params: types.CompletionParams) -> types.CompletionList:
        """Answer `textDocument/completion` with at most one item; a generation goes on without the popup."""
        task = self._run(self.complete(params))
        try:
            done, _ = await asyncio.wait({task}, timeout=POPUP_WAIT_S)
        except asyncio.CancelledError:
            task.cancel()
            raise
        return answers.popup_list(self.give(params, task.result()) if done else None, ACCEPT_COMMAND)

    async def answer_inline(self, params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
        """Answer `textDocument/inlineCompletion`: null for superseded, no items for nothing to suggest."""
        answer = self.give(params, await self.complete(params))
        return None if answer is None else answers.inline_list(answer, ACCEPT_COMMAND)

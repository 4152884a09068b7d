"""One client's session: from requests to the completion service and back, and what the client is sent."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from lsprotocol import types
from pygls.exceptions import FeatureRequestError
from pygls.lsp.server import LanguageServer

from greencode_lsp import __version__
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.completion.status import Scope, Status
from greencode_lsp.completion.worker import SupersededError
from greencode_lsp.errors import DocumentError, GreenCodeError, PositionError
from greencode_lsp.limits import MESSAGE_BYTES, REMEMBERED_SENTENCES
from greencode_lsp.lsp import answers, copilot
from greencode_lsp.lsp.answers import Answer, NoAnswer
from greencode_lsp.lsp.documents import Documents
from greencode_lsp.lsp.identity import identity
from greencode_lsp.lsp.lifeline import Lifeline
from greencode_lsp.lsp.notebooks import EVERY_NOTEBOOK
from greencode_lsp.lsp.positions import code_points
from greencode_lsp.lsp.progress import LoadProgress
from greencode_lsp.lsp.protocol import STATUS_METHOD, QuietProtocol, status_params
from greencode_lsp.lsp.pulling import ModelPull
from greencode_lsp.lsp.requests import Params, make_converter, place_of

MakeService = Callable[[Callable[[str], None], Callable[[Status], None]], CompletionService]
"""Makes the service from what shows the user a sentence and what reports a status."""

ACCEPT_COMMAND = "greencode.accept"
POPUP_WAIT_S = 0.1
"""A popup waits for the slowest server: what takes longer is in the cache when the client asks again."""
REMEMBERED_ANSWERS = 64


class GreenCodeServer(LanguageServer):
    """One client's server in front of one completion service."""

    protocol: QuietProtocol

    def __init__(self, make_service: MakeService) -> None:
        super().__init__(
            "greencode-lsp",
            __version__,
            notebook_document_sync=EVERY_NOTEBOOK,
            protocol_cls=QuietProtocol,
            converter_factory=make_converter,
        )
        self.service = make_service(self.notify_user, self.report)
        self.asks_for_copilot_status = False
        self.exit_code = 1
        """Until the client has shut the server down."""
        self.lifeline = Lifeline()
        self.documents = Documents(None)
        self._noted: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._progress = LoadProgress(self)
        self.pull = ModelPull(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._given: OrderedDict[int, tuple[str, int, str]] = OrderedDict()

    def notify_user(self, sentence: str) -> None:
        """Show one sentence to the user."""
        self.window_show_message(types.ShowMessageParams(types.MessageType.Warning, sentence))

    def report(self, status: Status) -> None:
        """Send `greencode/status`, and what else the client shows of it."""
        self.protocol.notify(STATUS_METHOD, status_params(status))
        if self.asks_for_copilot_status:
            self.protocol.notify(copilot.STATUS_METHOD, copilot.status_params(status))
        self._run(self._progress.follow(status))

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something to its end, even if nobody awaits it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def note(self, sentence: str) -> None:
        """Write a line into the editor's log, once: what goes wrong comes again with every keystroke."""
        if sentence not in self._noted:
            if len(self._noted) >= REMEMBERED_SENTENCES:
                self._noted.clear()
            self._noted.add(sentence)
            self.window_log_message(types.LogMessageParams(types.MessageType.Warning, sentence))

    def report_server_error(self, error: Exception, source: Any) -> None:  # noqa: ANN401 - pygls' own signature
        """Note a message that cannot be handled, without what it said; a failed request has its own answer."""
        cause = sys.exc_info()[1]  # a handler's own error, where pygls wraps it
        if isinstance(cause, DocumentError):
            self.note(str(cause))
        elif source is not FeatureRequestError:
            self.note(f"greencode-lsp could not handle a message of the editor ({type(error).__name__}); it continues.")

    def begin(self, process_id: int | None, folders: list[types.WorkspaceFolder]) -> None:
        """Take what the client says of itself: the process to live no longer than, and the workspace."""
        self._loop = asyncio.get_running_loop()
        self.documents = self.protocol._workspace = Documents.of(self.workspace, folders)
        self.protocol.noted, self.protocol.lost = self.note, self.documents.lose
        self.lifeline.watch(process_id, self.abandon)
        # an editor on its way out may send one; Python's own handler of the first waits for the loop to wake, which a
        # signal just before it sleeps does not do
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows lacks one
            if number is None or signal.getsignal(number) == signal.SIG_IGN:  # as under nohup
                continue
            with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; a loop not the main thread's
                self._loop.add_signal_handler(number, self.abandon)

    def refused(self, length: int) -> None:
        """Note, from the reader's thread, a message that is longer than any may be."""
        if self._loop is not None:
            sentence = f"A message of {length} bytes was passed over; no message may be longer than {MESSAGE_BYTES}."
            self._loop.call_soon_threadsafe(self.note, sentence)

    def exit(self, code: int) -> None:
        """End the session: what hangs is given a moment, not more."""
        self.exit_code = code
        self.lifeline.end(code)
        raise SystemExit(code)

    def abandon(self) -> None:
        """End as after `exit`, from any thread: the client is gone without a word."""
        self.lifeline.end(self.exit_code)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.exit, self.exit_code)

    def shutdown(self) -> None:
        """Stop the running generation, then the server; also when the client is gone without a word."""
        self.lifeline.end(self.exit_code)
        self.pull.stop()
        self.service.close()
        super().shutdown()  # type: ignore[no-untyped-call]

    async def complete(self, params: Params) -> Answer | NoAnswer:
        """Return what to insert and where, or why nothing.

        Whatever is wrong with the document or the position is noted, and answered with nothing to insert.
        """
        uri, encoding = params.text_document.uri, self.workspace.position_encoding or ""
        document = self.documents.find(uri)
        if document is None:
            self.note("A suggestion was asked for in a document that is not open; there is none.")
            return NoAnswer.NOTHING
        key, revision = identity(uri), document.revision
        if self.service.refuses(key, document.path, document.language_id or ""):
            return NoAnswer.NOTHING  # its text is not even looked at
        try:
            place = place_of(params, document)
        except PositionError as error:
            self.note(str(error))
            return NoAnswer.NOTHING
        except DocumentError as error:
            self.service.refuse(key, str(error))
            return NoAnswer.NOTHING
        if place is None:
            return NoAnswer.NOTHING
        above = self.documents.above(document)
        place = place.below(above)
        try:
            suggested = await self.service.complete(key, place.request)
        except SupersededError:
            return NoAnswer.SUPERSEDED
        except Exception as error:  # noqa: BLE001 - the boundary: no error but a cancel reaches the editor
            self.report_server_error(error, None)
            return NoAnswer.NOTHING
        is_same = self.documents.find(uri) is document and document.revision == revision
        if not is_same or self.documents.above(document) != above:
            self.service.dropped(suggested)
            return NoAnswer.SUPERSEDED
        if not suggested.text:
            return NoAnswer.NOTHING
        others = tuple(Answer(place, other.text, other.number, encoding) for other in suggested.alternatives)
        probability, energy = suggested.probability, suggested.energy
        return Answer(place, suggested.text, suggested.number, encoding, others, probability, energy)

    async def focus(self, uri: str) -> None:
        """Note that the user has turned to a document."""
        document = self.documents.find(uri)
        if document is not None and document.refusal is None:
            await self.service.focused(identity(uri), lambda: self.documents.above(document) + document.source)

    def give(self, params: Params, answer: Answer | NoAnswer) -> Answer | NoAnswer:
        """Note that an answer goes to the client, and what it takes to understand its acceptance later."""
        if isinstance(answer, Answer):
            for one in (answer, *answer.alternatives):
                self._given[one.number] = one.insert_text, len(one.place.prefix), one.encoding
                if len(self._given) > REMEMBERED_ANSWERS:
                    self._given.popitem(last=False)
            self.service.shown(identity(params.text_document.uri), answer.suggested, answer.place.request)
        return answer

    def accept(self, number: str, code_units: int | None = None) -> None:
        """Record that the client says an item was accepted, or so many of its code units."""
        given = self._given.get(int(number)) if number.isdecimal() else None
        if given is not None and (code_units is None or code_units >= 0):
            text, prefix_length, encoding = given
            taken = "" if code_units is None else text[: code_points(text, code_units, encoding)]
            part = None if code_units is None else len(taken.replace("\r\n", "\n")) - prefix_length
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
        """Pull a model because the user asked for it; what `auto` stands for is chosen again."""
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
        if not done:
            task.add_done_callback(self._came_late)
        return answers.popup_list(self.give(params, task.result()) if done else NoAnswer.NOTHING, ACCEPT_COMMAND)

    def _came_late(self, task: asyncio.Task[Answer | NoAnswer]) -> None:
        """Note that nobody was given an answer; it is in the cache when the client asks again."""
        if not task.cancelled() and isinstance(answer := task.result(), Answer):
            self.service.dropped(answer.suggested)

    async def answer_inline(self, params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
        """Answer `textDocument/inlineCompletion`: null for superseded, no items for nothing to suggest."""
        answer = self.give(params, await self.complete(params))
        return None if answer is NoAnswer.SUPERSEDED else answers.inline_list(answer, ACCEPT_COMMAND)

"""The completion service: settings, the model's loading, the worker, the ledger and the status. Knows no editor."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from greencode_lsp.completion.pipeline import Backend, Request, complete, load_backend
from greencode_lsp.completion.worker import Ticket, Worker
from greencode_lsp.energy.detect import detect
from greencode_lsp.energy.ledger import Ledger, LedgerRow, Totals
from greencode_lsp.energy.meter import Meter
from greencode_lsp.errors import GreenCodeError
from greencode_lsp.models.store import ledger_path
from greencode_lsp.preference import fallback_reason
from greencode_lsp.records import Completion
from greencode_lsp.settings import SECTION, Settings, parse

logger = logging.getLogger(__name__)

State = Literal["loading", "ready", "failed"]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Status:
    """What the user may see of the service at one moment."""

    state: State
    model: str
    preference: float
    last: Completion | None = None
    today: Totals = field(default_factory=Totals)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of besides itself; tests put their own in."""

    load: Callable[[Settings], Backend] = load_backend
    meter: Callable[[str, Tell], Meter] = detect
    ledger: Callable[[Tell], Ledger] = lambda tell: Ledger(ledger_path(), tell)


class CompletionService:
    """Answers completions from one model that loads in the background.

    `notify` takes one sentence for the user, `report` a new status; both are called on the event loop's thread. The
    methods belong to that thread too; those that begin with `_in_worker` run on the worker's.
    """

    def __init__(self, notify: Tell, report: Callable[[Status], None], parts: Parts | None = None) -> None:
        self.settings = self._initial = Settings()
        self._notify, self._report, self._parts = notify, report, parts or Parts()
        self._worker = Worker()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: set[str] = set()
        self._loaded_for: tuple[str, str, str] | None = None
        self._backend: Backend | None = None
        self._meter: Meter | None = None
        self._ledger: Ledger | None = None
        self._state: State = "loading"
        self._last: Completion | None = None
        self._closed = threading.Event()

    def configure(self, raw: object) -> None:
        """Take the client's settings; each bad value is told once. Another model, device or numeric mode is loaded.

        A whole section replaces the one before, so that a removed setting is removed; single keys change themselves.
        """
        before = self.settings
        is_whole = isinstance(raw, Mapping) and isinstance(raw.get(SECTION), Mapping)
        self.settings, sentences = parse(raw, self._initial if is_whole else before)
        for sentence in sentences:
            self.notify_once(sentence)
        if self._state == "failed":  # the user may have mended the folder meanwhile
            self._loaded_for = None if self._loaded_for is None else ("", "", "")
        if self._loaded_for is not None and not self._closed.is_set():
            self.start()
            if self.settings != before:
                self._worker.submit(self._tell_status)

    def initialise(self, raw: object) -> None:
        """Take the settings that the client starts with; later ones are laid over them."""
        self.configure(raw)
        self._initial = self.settings

    def start(self) -> None:
        """Begin to load the model that the settings name, unless that is what was loaded last."""
        wanted = (self.settings.model, self.settings.device, self.settings.numeric)
        if self._closed.is_set() or wanted == self._loaded_for:
            return
        self._loop = asyncio.get_running_loop()
        self._loaded_for, settings = wanted, self.settings
        self._worker.submit(lambda: self._in_worker_load(settings))

    async def complete(self, document: str, request: Request) -> str:
        """Return the text to insert; empty for none, and after a failure, which is told in one sentence.

        Waits for the model. Raises SupersededError where a newer request of the document took this one's place.
        """
        if self._closed.is_set():
            return ""
        self.start()
        return await self._worker.run(document, lambda ticket: self._in_worker_complete(request, ticket))

    def cancel(self, document: str) -> None:
        """Stop the document's running or waiting request."""
        self._worker.stop(document)

    def close(self) -> None:
        """Stop everything; a running generation ends at its next segment."""
        self._closed.set()
        self._worker.close()

    def _in_worker_load(self, settings: Settings) -> None:
        self._backend, self._state = None, "loading"
        self._tell_status()
        try:
            backend = self._parts.load(settings)
            self._meter = self._parts.meter(backend.engine.device, self._tell)
            self._ledger = self._ledger or self._parts.ledger(self._tell)
            self._backend, self._state = backend, "ready"
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails becomes one sentence
            self._state = "failed"
            self._fail(error, "The model cannot be loaded")
        self._tell_status()

    def _in_worker_complete(self, request: Request, ticket: Ticket) -> str:
        backend, meter, ledger = self._backend, self._meter, self._ledger
        if backend is None or meter is None or ledger is None or ticket.stop.is_set():
            return ""
        try:
            completion = complete(
                backend, request, lambda: self.settings, meter, lambda: ticket.stop.is_set() or self._closed.is_set()
            )
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails becomes one sentence
            self._fail(error, "The completion failed")
            return ""
        reason = fallback_reason(self.settings, backend.manifest, request.language)
        if reason is not None:
            self._tell(reason)
        outcome = ticket.outcome if ticket.stop.is_set() else "shown" if completion.text else "empty"
        row = LedgerRow.of(completion, request.language, self.settings.preference, outcome)
        self._last = completion
        with suppress(RuntimeError):  # the answer goes first; after the end there is no one to tell
            self._worker.submit(lambda: self._in_worker_book(ledger, row))
        return completion.text

    def _in_worker_book(self, ledger: Ledger, row: LedgerRow) -> None:
        ledger.add(row)
        self._tell_status()

    def _fail(self, error: Exception, what: str) -> None:
        logger.debug("%s", what, exc_info=error)
        if isinstance(error, GreenCodeError):
            self._tell(str(error))
        else:  # its message may quote the user's text; its type does not
            self._tell(f"{what} ({type(error).__name__} inside greencode-lsp); later requests are still answered.")

    def _tell(self, sentence: str) -> None:
        self._on_loop(lambda: self.notify_once(sentence))

    def notify_once(self, sentence: str) -> None:
        """Tell the user, unless told before: a failing request comes again with every keystroke."""
        if sentence not in self._told:
            self._told.add(sentence)
            self._notify(sentence)

    def _tell_status(self) -> None:
        model = self._backend.manifest.name if self._backend else self.settings.model
        today = self._ledger.today() if self._ledger else Totals()
        status = Status(self._state, model, self.settings.preference, self._last, today)
        self._on_loop(lambda: self._report(status))

    def _on_loop(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop may have ended while the worker was busy
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)

"""The completion service: settings, the model's loading, cache, gate, worker, ledger and status. Knows no editor."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from greencode_lsp.completion import gate
from greencode_lsp.completion.ignore_check import IgnoreCheck
from greencode_lsp.completion.notifier import Notifier, Notify
from greencode_lsp.completion.outcomes import Outcomes, Settled
from greencode_lsp.completion.parts import LoadedModel, RunningCompletion, ServiceParts
from greencode_lsp.completion.pipeline import LiveControl, complete, seen_characters
from greencode_lsp.completion.recorder import CompletionRecorder
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.scoped_settings import ScopedSettings
from greencode_lsp.completion.selection import offers
from greencode_lsp.completion.status import NOTHING, Scope, State, Status, Suggested
from greencode_lsp.completion.suggestions import Suggestion, Suggestions
from greencode_lsp.completion.worker import SupersededError, Ticket, Worker
from greencode_lsp.energy.ledger import LedgerRow
from greencode_lsp.errors import CancelledError
from greencode_lsp.models.store import AUTO, ledger_path
from greencode_lsp.power import PowerState
from greencode_lsp.preference import CompletionBudget, choices, completion_budget, fallback_reason
from greencode_lsp.prompt.context import CHARACTERS_PER_TOKEN
from greencode_lsp.records import Completion, FixedControl
from greencode_lsp.settings import Settings

logger = logging.getLogger(__name__)


class CompletionService:
    """Answers completions from one model that loads in the background.

    `notify` takes one sentence for the user, `report` a new status; both are called on the event loop's thread. The
    methods belong to that thread too; those that begin with `_in_worker` run on the worker's.
    """

    def __init__(self, notify: Notify, report: Callable[[Status], None], parts: ServiceParts | None = None) -> None:
        self.scopes = ScopedSettings()
        self._notifier, self._report, self._parts = Notifier(notify), report, parts or ServiceParts()
        self._worker, self._recorder = Worker(), CompletionRecorder(self._parts.rng)
        self._suggestions, self._outcomes = Suggestions(), Outcomes()
        self._rejections, self._rhythm = gate.Rejections(), gate.Rhythm()
        self._running: dict[str, RunningCompletion] = {}
        self._denial = IgnoreCheck()
        self._newest: dict[str, object] = {}
        self._loads = 0
        """Counts the wishes to load: of those that wait only the newest is granted."""
        self._numbers = itertools.count(1)
        self._loaded_for: tuple[object, ...] | None = None
        self._loaded: LoadedModel | None = None
        self._failure: str | None = None
        """Why the model that was asked for last could not be loaded; the worker's thread writes it."""
        """Whether the model that the settings name could not be loaded."""
        self._state: State = "loading"
        self._reason: str | None = None
        self._fallback: str | None = None
        self._last: Completion | None = None
        self._paused = False
        self._closed = threading.Event()

    def configure(self, raw: object, *, initial: bool = False) -> None:
        """Take the client's settings; each bad value is told once. Another model, device or precision is loaded."""
        self._take(self.scopes.configure(raw, initial=initial))

    def configure_folders(self, raw: Mapping[str, object]) -> None:
        """Take the sections that hold in the workspace's folders, by path."""
        self._take(self.scopes.configure_folders(raw))

    def _take(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self._notifier.once(sentence)
        self._suggestions.forget()  # what was made with other settings is not what is asked for
        if self._failure is not None:  # the user may have fixed the folder meanwhile
            self._loaded_for = None if self._loaded_for is None else ()
        if self._loaded_for is not None and not self._closed.is_set():
            self.start()
            self._worker.submit(self._report_status)

    def prefer(self, value: object) -> float | None:
        """Let a preference hold for this session; return it as a number, None (and a sentence) for a bad one."""
        preference = self.scopes.prefer(value)
        self._take([] if preference is not None else [f"{value!r} is no preference; say accuracy, balanced or energy."])
        return preference

    def pause(self, *, paused: bool) -> None:
        """Stop all work, or take it up again."""
        self._paused = paused
        self._reason = None
        if paused:
            self._worker.stop_all()
        self.start()
        self._submit(self._report_status)

    def models_changed(self) -> None:
        """Choose anew among the models that are here; without effect where the settings name one that serves."""
        if self._loaded_for is not None and (self.scopes.settings.model == AUTO or self._failure is not None):
            self._loaded_for = ()
            self.start()

    def start(self) -> None:
        """Begin to load the model that the settings name, unless that is what was loaded last, or while paused."""
        settings = self.scopes.settings
        wanted: tuple[object, ...] = (settings.model, settings.device, settings.precision)
        if settings.model == AUTO:
            wanted += (settings.latency_target_ms,)
        self._notifier.loop = asyncio.get_running_loop()
        if self._closed.is_set() or self._paused:
            return
        if wanted != self._loaded_for:
            self._loaded_for, self._reason = wanted, None
            self._loads = number = self._loads + 1
            self._worker.submit(lambda: self._in_worker_load(settings, number))

    async def complete(self, document: str, request: Request) -> Suggested:
        """Return the text to insert; none after a failure, which is told in one sentence. Waits for the model.

        Raises SupersededError where a newer request of the document took this one's place.
        """
        if self._closed.is_set():
            return NOTHING
        power = self._parts.power.state()
        settings = self.scopes.resolve(request.path, request.language, power)
        if settings.trigger == "manual" and not request.invoked:
            return NOTHING  # and no model is loaded for it
        self.start()
        turn = self._newest[document] = object()
        refusal = self._refusal(request, settings, power)
        if refusal is None:
            refusal = await self._denial.reason(request.path, self.scopes.roots, settings.exclude)
            if self._newest.get(document) is not turn:
                raise SupersededError
        if refusal is not None:
            return self._refuse(document, refusal)
        if not request.invoked and (gate.refuse_text(request, settings) or self._outcomes.is_undone(document, request)):
            return self._refuse(document, self._reason)
        suggestion = self._suggestions.find(document, request)
        running = self._running.get(document)
        if suggestion is None and running is not None and running.may_serve(request):
            running.joined = request
            await self._finish(document, self._worker.adopt(document))
            suggestion = self._suggestions.find(document, request)
        if suggestion is None:
            budget = completion_budget(settings.preference)
            if not request.invoked and not self._is_worth_starting(document, request, budget):
                return self._refuse(document, self._reason)
            suggestion = await self._generate(document, request, settings, budget)
        else:
            self._worker.stop(document)
            self._because(self._fallback)
        return NOTHING if suggestion is None else Suggested(suggestion[1], suggestion[0])

    def shown(self, document: str, suggested: Suggested, request: Request) -> None:
        """Note that the client was given a suggestion."""
        if suggested.text:
            self._settle(document, self._outcomes.show(document, suggested.number, suggested.text, request))

    def dropped(self, suggested: Suggested) -> None:
        """Note that a suggestion came too late to be given."""
        if suggested.text:
            self._submit(lambda: self._in_worker_settle(Settled(suggested.number, "superseded", 0, 0)))

    def _refusal(self, request: Request, settings: Settings, power: PowerState) -> str | None:
        """Return why a request is refused even where the user asked, or why nothing comes by itself on battery."""
        if self._paused:
            return "Suggestions are paused; resume them with the command greencode.resume."
        loaded = self._loaded
        known = loaded.backend.manifest.languages if loaded else ()
        why = gate.refuse_language(request.language, settings, known)
        if why is None and power == "battery" and settings.on_battery == "pause" and not request.invoked:
            return "Suggestions come only when asked for: the machine runs on its battery (greencode.onBattery)."
        return why

    def refuses(self, document: str, path: str, language: str) -> bool:
        """Return whether nothing is suggested in a document whatever its text: paused, or another language.

        The status then says why.
        """
        power = self._parts.power.state()
        request = Request("", 0, language, path, invoked=True)
        why = self._refusal(request, self.scopes.resolve(path, language, power), power)
        if why is not None:
            self.refuse(document, why)
        return why is not None

    def refuse(self, document: str, reason: str) -> None:
        """Stop a document's request, and let the status say why nothing is suggested."""
        self._refuse(document, reason)

    def _refuse(self, document: str, reason: str | None) -> Suggested:
        self._worker.stop(document)
        self._because(reason)
        return NOTHING

    def _because(self, reason: str | None) -> None:
        """Tell why nothing is suggested, where that is news."""
        if reason != self._reason:
            self._reason = reason
            self._submit(self._report_status)

    def _because_from_worker(self, reason: str | None) -> None:
        """Let the loop's thread, whose the reason is, take it; the status told next has it."""

        def take() -> None:
            self._reason = reason

        self._notifier.on_loop(take)

    def _is_worth_starting(self, document: str, request: Request, budget: CompletionBudget) -> bool:
        if gate.refuse_place(request.text, request.offset, budget):
            return False
        return not self._rejections.is_quiet(document, request.line, budget)

    async def _generate(
        self, document: str, request: Request, settings: Settings, budget: CompletionBudget
    ) -> tuple[int, str] | None:
        running = RunningCompletion(next(self._numbers), request, settings.max_prompt_tokens * CHARACTERS_PER_TOKEN)
        wait_s = 0.0 if request.invoked else self._rhythm.wait_s(time.monotonic(), settings.debounce_ms, budget)

        def job(ticket: Ticket) -> Suggestion | None:
            return self._in_worker_complete(running, ticket)

        self._running[document] = running
        made = await self._finish(document, self._worker.run(document, job, wait_s))
        return None if made is None else (made.number, made.text)

    async def _finish(self, document: str, work: Any) -> Suggestion | None:  # noqa: ANN401 - an awaitable of either kind
        made: Suggestion | None = await work
        if made is not None:
            self._suggestions.add(document, made)
        return made

    def changed(self, document: str, text: Callable[[], str]) -> None:
        """Take a document's change: the rhythm of typing, and what became of the suggestion shown in it.

        The text is asked for only where there is one.
        """
        self._rhythm.changed(time.monotonic())
        if self._outcomes.is_followed(document):
            self._settle(document, self._outcomes.changed(document, text()))

    def accepted(self, number: int, characters: int | None = None) -> None:
        """Note that the user took a suggestion, or so many characters of it."""
        outcomes = self._outcomes
        self._settle("", outcomes.accept(number) if characters is None else outcomes.accept_part(number, characters))

    def _settle(self, document: str, settled: Settled | None) -> None:
        if settled is None:
            return
        if settled.outcome == "rejected":
            self._rejections.rejected(document, settled.line)
        else:
            self._rejections.accepted()
        self._submit(lambda: self._in_worker_settle(settled))

    async def report(self, scope: Scope, *, with_page: bool) -> dict[str, Any]:
        """Return what `greencode-lsp energy` prints as JSON; with the page that it writes under `html` where wanted.

        Raises LedgerError where the ledger cannot be read.
        """
        intensity = self.scopes.settings.energy.carbon_intensity

        def job() -> dict[str, Any]:  # a thread of its own: a generation need not end first
            from greencode_lsp.energy.page import to_html  # with numpy, which the server's start does without
            from greencode_lsp.energy.report import report, to_json

            figures = report(ledger_path(), scope, intensity)
            return to_json(figures) | ({"html": to_html(figures)} if with_page else {})

        return await asyncio.get_running_loop().run_in_executor(None, job)

    async def models(self) -> dict[str, Any]:
        """Return the models that can be pulled by name, as plain values, and which would be better than today's."""
        settings = self.scopes.settings  # another thread: it looks at the disk
        return await asyncio.get_running_loop().run_in_executor(None, lambda: offers(settings))

    def notify_once(self, sentence: str, about: str = "") -> None:
        """Tell the user, unless told before (of the same thing)."""
        self._notifier.once(sentence, about)

    def cancel(self, document: str) -> None:
        """Stop the document's running or waiting request."""
        self._worker.stop(document, superseded=False)

    def forget(self, document: str) -> None:
        """Stop and forget all about a document that was closed."""
        self.cancel(document)
        self._suggestions.forget(document)
        self._settle(document, self._outcomes.forget(document))
        self._running.pop(document, None)
        self._newest.pop(document, None)

    def close(self) -> None:
        """Stop everything; a running generation ends at its next segment."""
        self._closed.set()
        self._submit(self._recorder.flush)
        self._worker.close()

    def _submit(self, job: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # after the end there is no one to tell
            self._worker.submit(job)

    def _in_worker_load(self, settings: Settings, number: int) -> None:
        if self._closed.is_set() or number != self._loads:
            return
        before, self._loaded, self._state = self._loaded, None, "loading"
        self._recorder.due.clear()  # another model cannot audit them
        self._report_status()
        try:
            backend = self._parts.load(settings)
            if backend.note:
                self._notifier.from_worker(backend.note)
            self._recorder.ledger = self._recorder.ledger or self._parts.ledger(self._notifier.from_worker)
            meter = self._parts.meter(backend.engine.device, self._notifier.from_worker, backend.checkpoint)
            self._loaded, self._state, self._failure = LoadedModel(backend, meter), "ready", None
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails becomes one sentence
            self._failure = self._notifier.failure(error, "The model cannot be loaded")
            self._because_from_worker(self._failure)
            self._loaded, self._state = before, "failed" if before is None else "ready"  # the old one goes on serving
        before = None
        gc.collect()  # what was loaded before holds itself
        self._report_status()

    def _in_worker_complete(self, running: RunningCompletion, ticket: Ticket) -> Suggestion | None:
        loaded, request = self._loaded, running.request
        power = self._parts.power.state()
        first = self.scopes.resolve(request.path, request.language, power)
        if loaded is None or ticket.stop.is_set() or self._refusal(request, first, power) is not None:
            return None
        control = LiveControl(
            settings=lambda: self.scopes.resolve(request.path, request.language, power),
            cancelled=lambda: ticket.stop.is_set() or self._closed.is_set() or running.is_contradicted,
            manifest=loaded.backend.manifest,
            language=request.language,
            choose=self._recorder.choose,
        )

        def said(text: str) -> None:
            running.text = text

        try:
            completion = complete(loaded.backend, request, control, loaded.meter, said)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails becomes one sentence
            self._because_from_worker(self._notifier.failure(error, "The completion failed"))
            return None
        settings = control.settings()
        self._fallback = fallback_reason(settings, loaded.backend.manifest, request.language)
        self._because_from_worker(self._fallback)
        self._last = completion
        if settings.energy.report:
            self._recorder.draw(completion, request.language, settings.preference)
        is_useless = running.is_contradicted
        outcome = "shown" if completion.text else "empty"
        if ticket.stop.is_set() or is_useless:
            outcome = "superseded" if is_useless else ticket.outcome
        row = LedgerRow.of(completion, request.language, settings.preference, outcome)
        kept = row if settings.energy.report else None
        try:
            self._worker.submit(lambda: self._in_worker_record(running.number, kept))  # the answer goes first
        except RuntimeError:  # after the end there is none to hold up
            self._in_worker_record(running.number, kept)
        return (
            None
            if ticket.stop.is_set() or is_useless
            else Suggestion.of(running.number, request, completion.text, seen_characters(loaded.backend, completion))
        )

    def _in_worker_record(self, number: int, row: LedgerRow | None) -> None:
        """Keep the books and audit, after the answer was given."""
        if row is not None:
            self._recorder.add(number, row)
        try:
            if self._recorder.due and self._loaded is not None and not self._is_busy():
                self._recorder.audit(self._loaded.backend, self._loaded.meter, FixedControl(is_cancelled=self._is_busy))
        except CancelledError:
            logger.debug("An audit gave way to a request")
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails becomes one sentence
            self._because_from_worker(self._notifier.failure(error, "An audit failed"))
        self._report_status()

    def _is_busy(self) -> bool:
        """Return whether there is no time for an audit."""
        return self._worker.is_wanted or self._paused or self._closed.is_set()

    def _in_worker_settle(self, settled: Settled) -> None:
        self._recorder.settle(settled)
        self._report_status()

    def _report_status(self) -> None:
        power, loaded = self._parts.power.state(), self._loaded
        settings = self.scopes.resolve("", "", power)
        manifest = loaded.backend.manifest if loaded else None
        language = next(iter(manifest.calibration or manifest.languages), "") if manifest else ""
        status = Status(
            state=self._state,
            model=manifest.name if manifest else settings.model,
            preference=settings.preference,
            reason=self._failure if self._state == "failed" else None,
            device=loaded.backend.engine.device if loaded else "",
            power=power,
            last=self._last,
            today=self._recorder.today(),
            choices=choices(settings, manifest, language) if manifest else (),
        )

        def report() -> None:
            state: State = "paused" if self._paused else status.state
            self._report(replace(status, state=state, reason=self._reason or status.reason))

        self._notifier.on_loop(report)

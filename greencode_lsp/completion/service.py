"""The completion service: requests, cache, gate and outcomes, on the event loop's thread. Knows no editor.

What is done with the model (jobs.py) belongs to the worker's thread.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from greencode_lsp.completion import gate
from greencode_lsp.completion.ahead import (
    AHEAD,
    READING,
    READING_S,
    SETTLED_S,
    Ahead,
    is_allowed,
    is_likely,
    may_read,
    request_after,
    request_again,
)
from greencode_lsp.completion.alternatives import ALTERNATIVES
from greencode_lsp.completion.ignore_check import IgnoreCheck
from greencode_lsp.completion.model_service import ModelService
from greencode_lsp.completion.neighbours import Neighbours, repository
from greencode_lsp.completion.notifier import Notify
from greencode_lsp.completion.outcomes import Outcomes, Settled
from greencode_lsp.completion.parts import RunningCompletion, ServiceParts
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.status import NOTHING, Status, Suggested
from greencode_lsp.completion.suggestions import Suggestion
from greencode_lsp.completion.worker import SupersededError, Ticket
from greencode_lsp.power import PowerState
from greencode_lsp.preference import CompletionBudget, completion_budget
from greencode_lsp.prompt.context import CHARACTERS_PER_TOKEN
from greencode_lsp.settings import Settings


class CompletionService(ModelService):
    """Answers completions from one model that loads in the background."""

    def __init__(self, notify: Notify, report: Callable[[Status], None], parts: ServiceParts | None = None) -> None:
        super().__init__(notify, report, parts or ServiceParts())
        self._outcomes, self._rejections = Outcomes(), gate.Rejections()
        self._rhythm, self._ahead = gate.Rhythm(), Ahead()
        self._ignored, self.neighbours = IgnoreCheck(), Neighbours()
        self._last_power: PowerState = "unknown"
        self._running: dict[str, RunningCompletion] = {}
        self._alternatives: dict[int, tuple[str, Suggested, Request]] = {}
        """Shown last beside a first one, by number."""
        self._asked: dict[str, Request] = {}
        """The latest request of each document, with what goes with it of other files."""
        self._newest: dict[str, object] = {}
        self._reading: object = None
        """Another one whenever what is read in advance is to stop."""
        self._last_document = ""
        """Whose prompt the model has read last."""
        self._numbers = itertools.count(1)

    async def complete(self, document: str, request: Request) -> Suggested:
        """Return the text to insert; none after a failure, of which one sentence is shown. Waits for the model.

        Raises SupersededError where a newer request of the document took this one's place.
        """
        if self._worker.is_closed:
            return NOTHING
        power = self._power.state()
        if power != self._last_power:
            self._last_power = power
            self._suggestions.forget()  # another preference may hold now
        settings = self.scoped.resolve(request.path, request.language, power)
        if settings.trigger == "manual" and not request.invoked:
            return NOTHING  # and no model is loaded for it
        self.start()
        turn = self._newest[document] = object()
        self._stop_reading()
        refusal = self._refusal(request.language, settings, power, invoked=request.invoked)
        refusal = refusal or await self._ignored.reason(request.path, self.scoped.roots, settings.exclude)
        self._check(document, turn)
        if refusal is not None:
            return self.refuse(document, refusal)
        request = await self._with_others(document, request, settings)
        self._check(document, turn)
        self._asked[document] = request
        if not request.invoked and (gate.refuse_text(request, settings) or self._outcomes.is_undone(document, request)):
            return self.refuse(document, self._status.reason)
        suggested = await self._known(document, request, turn)
        if suggested is not None:
            self._stop(document)
            self._because(self._jobs.fallback)
            return suggested
        budget = completion_budget(settings.preference)
        if not request.invoked and not self._is_worth_starting(document, request, budget):
            return self.refuse(document, self._status.reason)
        wait_s = 0.0 if request.invoked else self._rhythm.wait_s(time.monotonic(), settings.debounce_ms, budget)
        self._ahead.stop()
        self._stop(document)
        suggested = await self._run(document, self._new(document, request, settings), power, wait_s)
        self._check(document, turn, suggested)
        return suggested

    def _check(self, document: str, turn: object, made: Suggested | None = None) -> None:
        """Raise SupersededError where a newer request has come: what was made meanwhile is given to nobody."""
        if self._newest.get(document) is not turn:
            self.dropped(made or NOTHING)
            raise SupersededError

    def _stop(self, document: str, *, superseded: bool = True) -> None:
        """Stop a document's request, and what ran ahead of it that the request has taken over."""
        self._worker.stop(document, superseded=superseded)
        ahead = self._running.get(AHEAD)
        if ahead is not None and ahead.document == document and ahead.joined is not None:
            self._worker.stop(AHEAD, superseded=superseded)

    def _new(self, document: str, request: Request, settings: Settings) -> RunningCompletion:
        more = tuple(next(self._numbers) for _ in range(ALTERNATIVES)) if request.invoked else ()
        seen = settings.max_prompt_tokens * CHARACTERS_PER_TOKEN
        return RunningCompletion(next(self._numbers), request, seen, document=document, more_numbers=more)

    async def _with_others(self, document: str, request: Request, settings: Settings) -> Request:
        """Return the request with what goes with it of other files."""
        roots = self.scoped.roots
        others = await self.neighbours.choose(document, request, settings, roots)
        return replace(request, others=others, repository=repository(request.path, roots))

    async def _known(self, document: str, request: Request, turn: object) -> Suggested | None:
        """Return what an earlier generation has to say, waiting for one that runs and may fit; None for nothing."""
        suggested = self._suggestions.find(document, request)
        for job in (document, AHEAD):
            running = self._running.get(job)
            if running and suggested is None and running.document == document and running.may_serve(request):
                running.joined = request
                await self._finish(document, self._worker.adopt(job))
                suggested = self._suggestions.find(document, request)
                self._check(document, turn, suggested)
        return suggested

    def shown(self, document: str, suggested: Suggested, request: Request) -> None:
        """Note that the client was given a suggestion."""
        if suggested.text:
            self._settle(document, self._outcomes.show(document, suggested.number, suggested.text, request))
            self._alternatives = {one.number: (document, one, request) for one in suggested.alternatives}
            self._settle(document, *(self._outcomes.give(one.number) for one in (suggested, *suggested.alternatives)))
            self._begin_ahead(document, suggested, request)

    def _begin_ahead(self, document: str, suggested: Suggested, request: Request) -> None:
        """Compute what follows a suggestion that is shown, where that is worth it."""
        power = self._power.state()
        settings = self.scoped.resolve(request.path, request.language, power)
        if self._rejections.is_any or not is_allowed(settings, power) or not is_likely(suggested, request):
            return
        after = request_after(request, suggested.text, self._asked.get(document, request))
        budget = completion_budget(settings.preference)
        if gate.refuse_text(after, settings) or not self._is_worth_starting(document, after, budget):
            return
        if self._suggestions.find(document, after) is None:
            self._stop_reading()
            self._ahead.start(self._run(AHEAD, self._unasked(document, after, settings), power, 0.0))

    def _unasked(self, document: str, request: Request, settings: Settings) -> RunningCompletion:
        running = self._new(document, request, settings)
        running.is_ahead = True
        self._outcomes.withhold(running.number)  # it is recorded so
        return running

    async def focused(self, document: str, text: Callable[[], str]) -> None:
        """Let the model read the place written at last in a document that the user turns to, where that is worth it.

        The text is asked for only where it may be.
        """
        reading, asked, power = self._stop_reading(), self._asked.get(document), self._power.state()
        if asked is None or document == self._last_document or self._host.loaded is None or self._worker.is_wanted:
            return
        settings = self.scoped.resolve(asked.path, asked.language, power)
        if not is_allowed(settings, power) or not may_read(settings):
            return
        request = request_again(asked, text())
        if request is None or self._refusal(request.language, settings, power, invoked=False):
            return
        budget = completion_budget(settings.preference)
        if gate.refuse_text(request, settings) or gate.refuse_place(request.text, request.offset, budget):
            return
        if await self._ignored.reason(request.path, self.scoped.roots, settings.exclude):
            return
        request = await self._with_others(document, request, settings)
        self._ahead.start(self._read(self._unasked(document, request, settings), power, reading))

    async def _read(self, running: RunningCompletion, power: PowerState, reading: object) -> None:
        """Read a prompt, for so long; what is said behind it is for nobody."""
        if self._reading is not reading:
            return
        end = asyncio.get_running_loop().call_later(SETTLED_S + READING_S, self._worker.stop, READING)
        try:
            await self._worker.run(READING, self._job(running, power), SETTLED_S)
        finally:
            end.cancel()
            if self._reading is reading:
                self._last_document = running.document

    def _stop_reading(self) -> object:
        """Stop what is read in advance, for something else; return what is to be `_reading` as long as that holds."""
        self._worker.stop(READING)
        self._reading = object()
        return self._reading

    def _take(self, sentences: list[str]) -> None:
        self._stop_reading()
        super()._take(sentences)

    def dropped(self, suggested: Suggested) -> None:
        """Note that a suggestion came too late to be given."""
        if suggested.text:
            self._settle("", *(self._outcomes.withhold(one.number) for one in (suggested, *suggested.alternatives)))

    def _refusal(self, language: str, settings: Settings, power: PowerState, *, invoked: bool) -> str | None:
        """Return why a request is refused even where the user asked, or why nothing comes by itself on battery."""
        if self._status.is_paused:
            return "Suggestions are paused; resume them with the command greencode.resume."
        loaded = self._host.loaded
        known = loaded.facts.manifest.languages if loaded else ()
        reason = gate.refuse_language(language, settings, known)
        if reason is None and power == "battery" and settings.on_battery == "pause" and not invoked:
            return "Suggestions come only when asked for: the machine runs on its battery (greencode.onBattery)."
        return reason

    def refuses(self, document: str, path: str, language: str) -> bool:
        """Return whether nothing is suggested in a document whatever its text: paused, or another language.

        The status then says why.
        """
        power = self._power.state()
        reason = self._refusal(language, self.scoped.resolve(path, language, power), power, invoked=True)
        if reason is not None:
            self.refuse(document, reason)
        return reason is not None

    def refuse(self, document: str, reason: str | None) -> Suggested:
        """Stop a document's request, and let the status say why nothing is suggested."""
        self._stop(document)
        self._because(reason)
        return NOTHING

    def _because(self, reason: str | None) -> None:
        """Report why nothing is suggested, where that is news."""
        if reason != self._status.reason:
            self._status.reason = reason
            self._worker.submit(self._jobs.report_status)

    def _is_worth_starting(self, document: str, request: Request, budget: CompletionBudget) -> bool:
        if gate.refuse_place(request.text, request.offset, budget):
            return False
        return not self._rejections.is_quiet(document, request.line, budget)

    async def _run(self, job: str, running: RunningCompletion, power: PowerState, wait_s: float) -> Suggested:
        """Generate, as a job of that name."""
        self._running[job], self._last_document = running, running.document
        made = await self._finish(running.document, self._worker.run(job, self._job(running, power), wait_s))
        return NOTHING if made is None else made.suggested()

    def _job(self, running: RunningCompletion, power: PowerState) -> Callable[[Ticket], Suggestion | None]:
        """Return what the worker is to do, under the settings as they change."""
        request = running.request
        follow = self.scoped.follow(request.path, request.language, power)

        def refusal(settings: Settings) -> str | None:
            return self._refusal(request.language, settings, power, invoked=request.invoked)

        return lambda ticket: self._jobs.complete(running, follow, refusal, ticket)

    async def _finish(self, document: str, work: Awaitable[Any]) -> Suggestion | None:
        made: Suggestion | None = await work
        if made is not None:
            self._suggestions.add(document, made)
        return made

    def changed(self, document: str, text: Callable[[], str]) -> None:
        """Take a document's change: the rhythm of typing, and what became of the suggestion shown in it.

        The text is asked for only where there is one.
        """
        self._rhythm.changed(time.monotonic())
        self.neighbours.touched(document)
        if self._outcomes.is_followed(document):
            self._settle(document, self._outcomes.changed(document, text()))

    def accepted(self, number: int, characters: int | None = None) -> None:
        """Note that the user took a suggestion, or so many characters of it."""
        outcomes = self._outcomes
        if number in self._alternatives:  # it was shown in the first one's place
            document, other, request = self._alternatives.pop(number)
            self._settle(document, outcomes.show(document, number, other.text, request))
        self._settle("", outcomes.accept(number) if characters is None else outcomes.accept_part(number, characters))

    def _settle(self, document: str, *ends: Settled | None) -> None:
        for settled in ends:
            if settled is None:
                continue
            if settled.outcome == "rejected":
                self._rejections.rejected(document, settled.line)
            elif settled.outcome in ("accepted", "partial"):
                self._rejections.accepted()
            self._worker.submit(partial(self._jobs.settle, settled))

    def forget(self, document: str) -> None:
        """Stop and forget all about a document that was closed."""
        self._stop(document, superseded=False)
        self._suggestions.forget(document)
        self.neighbours.closed(document)
        self._settle(document, self._outcomes.forget(document))
        for kept in (self._running, self._newest, self._asked):
            kept.pop(document, None)
        self._stop_reading()
        self._ahead.stop()

    def close(self) -> None:
        """Stop everything; a running generation ends at its next segment."""
        self._worker.close(last=self._recorder.flush)
        self._host.close()
        self.neighbours.close()

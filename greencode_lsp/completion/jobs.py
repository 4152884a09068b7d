"""What the worker's thread does: complete a request, record it, audit, and let the status be reported."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from math import prod

from greencode_lsp.completion.alternatives import alternatives
from greencode_lsp.completion.model import CompletingModel
from greencode_lsp.completion.model_host import ModelHost
from greencode_lsp.completion.notifier import Notifier
from greencode_lsp.completion.outcomes import Settled
from greencode_lsp.completion.parts import RunningCompletion
from greencode_lsp.completion.pipeline import LiveControl
from greencode_lsp.completion.recorder import CompletionRecorder
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.status import Suggested
from greencode_lsp.completion.status_reporter import StatusReporter
from greencode_lsp.completion.suggestions import Suggestion
from greencode_lsp.completion.worker import Ticket, Worker
from greencode_lsp.energy.ledger import LedgerRow
from greencode_lsp.errors import CancelledError
from greencode_lsp.limits import ALTERNATIVES_S
from greencode_lsp.preference import fallback_reason
from greencode_lsp.records import Branch, Completion
from greencode_lsp.settings import Settings

logger = logging.getLogger(__name__)


class CompletionJobs:
    """Jobs for the worker's thread, which alone calls the methods and writes the attributes."""

    def __init__(
        self, worker: Worker, host: ModelHost, recorder: CompletionRecorder, notifier: Notifier, status: StatusReporter
    ) -> None:
        self._worker, self._host, self._recorder = worker, host, recorder
        self._notifier, self._status = notifier, status
        self.fallback: str | None = None
        """What stood in for what in the latest completion."""
        self._last: Completion | None = None

    def complete(
        self,
        running: RunningCompletion,
        settings: Callable[[], Settings],
        refusal: Callable[[Settings], str | None],
        ticket: Ticket,
    ) -> Suggestion | None:
        """Complete a request with the settings as they change; None where it is stopped, refused or fails."""
        loaded, request = self._host.loaded, running.request
        if loaded is None or ticket.stop.is_set() or refusal(settings()) is not None:
            return None
        control = LiveControl(
            settings=settings,
            cancelled=lambda: ticket.stop.is_set() or self._worker.is_closed or running.is_contradicted,
            manifest=loaded.facts.manifest,
            language=request.language,
            choose=self._recorder.choose,
        )

        def said(text: str) -> None:
            running.text = text

        try:
            completion = loaded.complete(request, control, said)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails becomes one sentence
            self._status.give_reason(self._notifier.failure(error, "The completion failed"))
            return None
        stopped = "superseded" if running.is_contradicted else ticket.outcome if ticket.stop.is_set() else None
        is_wasted = "superseded" if running.is_ahead and running.joined is None else None  # until it is shown
        self._keep(running.number, request, completion, settings(), loaded, stopped or is_wasted)
        if settings().energy.report and not request.unasked:
            self._recorder.draw(completion, request.language, settings().preference)  # but none that departs from it
        if stopped is not None:
            return None
        made = Suggestion.of(running.number, request, completion.text, completion.seen_characters)
        likely = prod(step.confidence for step in completion.steps)
        made = replace(made, probability=likely, energy=completion.energy)
        if not request.invoked or not completion.text:
            return made
        return replace(made, alternatives=self._alternatives(running, completion, control, loaded, ticket))

    def _alternatives(
        self,
        running: RunningCompletion,
        first: Completion,
        control: LiveControl,
        loaded: CompletingModel,
        ticket: Ticket,
    ) -> tuple[Suggested, ...]:
        """Return other texts for the same place, as long as nobody waits for anything else."""
        end_s = time.monotonic() + ALTERNATIVES_S

        def is_wanted() -> bool:
            is_alone = running.joined is None and not ticket.stop.is_set() and not self._worker.is_closed
            return is_alone and time.monotonic() < end_s

        numbers = iter(running.more_numbers)
        made: list[Suggested] = []
        hurried = replace(control, cancelled=lambda: not is_wanted())

        def another(branch: Branch) -> Completion:
            return loaded.complete(replace(running.request, branch=branch), hurried, lambda text: None)

        try:
            for completion, is_other in alternatives(first, another, is_wanted):
                number = next(numbers, 0) if is_other else 0
                stopped = None if is_other else "superseded"
                self._keep(number, running.request, completion, control.settings(), loaded, stopped)
                if number:
                    made.append(Suggested(completion.text, number))
        except Exception as error:  # noqa: BLE001 - the boundary: the first one is answered all the same
            self._status.give_reason(self._notifier.failure(error, "Another suggestion failed"))
        return tuple(made)

    def _keep(
        self,
        number: int,
        request: Request,
        completion: Completion,
        settings: Settings,
        loaded: CompletingModel,
        stopped: str | None,
    ) -> None:
        """Note what was completed, and have it recorded after the answer is given."""
        language = request.language
        self.fallback = fallback_reason(settings, loaded.facts.manifest, language)
        self._status.give_reason(self.fallback)
        if not request.unasked:
            self._last = completion
        row = None
        if settings.energy.report:
            outcome = stopped or ("shown" if completion.text else "empty")
            row = LedgerRow.of(completion, language, settings.preference, outcome)
        if not self._worker.submit(lambda: self._record(number, row)):
            self._record(number, row)  # the worker is closed: nothing waits behind this

    def _record(self, number: int, row: LedgerRow | None) -> None:
        """Write a completion's row, then audit if nothing else is to be done."""
        if row is not None:
            self._recorder.add(number, row)
        loaded = self._host.loaded
        try:
            if self._recorder.due and loaded is not None and not self._is_busy():
                self._recorder.audit(loaded, self._is_busy)
        except CancelledError:
            logger.debug("An audit was stopped for a request")
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails becomes one sentence
            self._status.give_reason(self._notifier.failure(error, "An audit failed"))
        self.report_status()

    def _is_busy(self) -> bool:
        """Return whether there is no time for an audit."""
        return self._worker.is_wanted or self._status.is_paused or self._worker.is_closed

    def load(self, settings: Settings, number: int) -> None:
        """Load the model that the settings name."""
        if not self._worker.is_closed:
            self._host.load(settings, number, self._model_changed)

    def _model_changed(self) -> None:
        if self._host.state != "loading" and self._host.failure is not None:
            self._status.give_reason(self._host.failure)
        self.report_status()

    def settle(self, settled: Settled) -> None:
        """Record what became of a suggestion."""
        self._recorder.settle(settled)
        self.report_status()

    def report_status(self) -> None:
        """Have the status reported as it is now."""
        self._status.publish(self._host, self._recorder, self._last)

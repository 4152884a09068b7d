"""The model behind a completion service: the settings it is to serve under, its loading, what is told of it.

On the event loop's thread; the model itself (model_host.py) belongs to the worker's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from greencode_lsp.completion.jobs import CompletionJobs
from greencode_lsp.completion.model_host import ModelHost
from greencode_lsp.completion.notifier import Notifier, Notify
from greencode_lsp.completion.parts import ServiceParts
from greencode_lsp.completion.recorder import CompletionRecorder
from greencode_lsp.completion.scoped_settings import ScopedSettings
from greencode_lsp.completion.selection import offers
from greencode_lsp.completion.status import Scope, Status
from greencode_lsp.completion.status_reporter import StatusReporter
from greencode_lsp.completion.suggestions import Suggestions
from greencode_lsp.completion.worker import Worker
from greencode_lsp.models.store import AUTO


class ModelService:
    """One model that loads in the background, and the settings that name it.

    `notify` takes one sentence for the user, `report` a new status; both are called on the event loop's thread, to
    which all methods belong too.
    """

    def __init__(self, notify: Notify, report: Callable[[Status], None], parts: ServiceParts) -> None:
        self.scoped = ScopedSettings()
        self._power, self._notifier = parts.power, Notifier(notify)
        self._worker, self._recorder = Worker(), CompletionRecorder(parts.rng)
        self._host = ModelHost(parts, self._notifier, self._recorder)
        self._status = StatusReporter(report, self._notifier, self.scoped, parts.power)
        self._jobs = CompletionJobs(self._worker, self._host, self._recorder, self._notifier, self._status)
        self._suggestions = Suggestions()

    def configure(self, raw: object, *, initial: bool = False) -> None:
        """Take the client's settings, with one sentence for each bad value; load another model where they name one."""
        self._take(self.scoped.configure(raw, initial=initial))

    def configure_folders(self, raw: Mapping[str, object]) -> None:
        """Take the sections that hold in the workspace's folders, by path."""
        self._take(self.scoped.configure_folders(raw))

    def _take(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self._notifier.once(sentence)
        self._suggestions.forget()  # what was made with other settings is not what is asked for
        if self._host.failure is not None:  # the user may have fixed the folder meanwhile
            self._host.forget_request()
        if self._host.is_asked_for and not self._worker.is_closed:
            self.start()
            self._worker.submit(self._jobs.report_status)

    def prefer(self, value: object) -> float | None:
        """Let a preference hold for this session; return it as a number, None (and a sentence) for a bad one."""
        preference = self.scoped.prefer(value)
        self._take([] if preference is not None else [f"{value!r} is no preference; say accuracy, balanced or energy."])
        return preference

    def pause(self, *, paused: bool) -> None:
        """Stop all work, or resume it."""
        self._status.is_paused = paused
        self._status.reason = None
        if paused:
            self._worker.stop_all()
        self.start()
        self._worker.submit(self._jobs.report_status)

    def models_changed(self) -> None:
        """Choose again among the installed models; without effect where the settings name one that serves."""
        if self._host.is_asked_for and (self.scoped.settings.model == AUTO or self._host.failure is not None):
            self._host.forget_request()
            self.start()

    def start(self) -> None:
        """Begin to load the model that the settings name, unless that is what was loaded last, or while paused."""
        self._notifier.loop = asyncio.get_running_loop()
        if self._worker.is_closed or self._status.is_paused:
            return
        settings = self.scoped.settings
        number = self._host.request(settings)
        if number is not None:
            self._status.reason = None
            self._worker.submit(partial(self._jobs.load, settings, number))
            self._worker.submit(partial(self._notifier.on_loop, self._suggestions.forget))  # another model, other text

    async def report(self, scope: Scope, *, with_page: bool) -> dict[str, Any]:
        """Return what `greencode-lsp energy` prints as JSON; with the page that it writes under `html` where wanted.

        Raises LedgerError where the ledger cannot be read.
        """
        intensity = self.scoped.settings.energy.carbon_intensity

        def job() -> dict[str, Any]:  # a thread of its own: a generation need not end first
            from greencode_lsp.energy.command import figures  # with numpy, which the server's start does without

            return figures(scope, intensity, with_page=with_page)

        return await asyncio.get_running_loop().run_in_executor(None, job)

    async def models(self) -> dict[str, Any]:
        """Return the models that can be pulled by name, as plain values, and which would be better than today's."""
        settings = self.scoped.settings  # another thread: it looks at the disk
        return await asyncio.get_running_loop().run_in_executor(None, lambda: offers(settings))

    def notify_once(self, sentence: str, about: str = "") -> None:
        """Show the user a sentence, unless it (or another about the same thing) was shown before."""
        self._notifier.once(sentence, about)

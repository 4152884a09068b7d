"""The model that serves: which one the settings ask for, and its loading on the worker's thread."""

from __future__ import annotations

import gc
from collections.abc import Callable

from greencode_lsp.completion.model import CompletingModel
from greencode_lsp.completion.notifier import Notifier
from greencode_lsp.completion.parts import ServiceParts
from greencode_lsp.completion.recorder import CompletionRecorder
from greencode_lsp.completion.status import State
from greencode_lsp.models.store import AUTO
from greencode_lsp.settings import Settings


class ModelHost:
    """Holds the model. `loaded`, `state` and `failure` are written by the worker's thread, all else by the loop's."""

    def __init__(self, parts: ServiceParts, notifier: Notifier, recorder: CompletionRecorder) -> None:
        self._parts, self._notifier, self._recorder = parts, notifier, recorder
        self._wanted: tuple[object, ...] | None = None
        """The settings that the model was asked for with last; None before the first time."""
        self._requests = 0
        """Counts the requests to load: of those that wait only the newest is done."""
        self.loaded: CompletingModel | None = None
        self.state: State = "loading"
        self.failure: str | None = None
        """Why the model that was asked for last could not be loaded."""

    @property
    def is_asked_for(self) -> bool:
        """Whether a model was asked for at all."""
        return self._wanted is not None

    def request(self, settings: Settings) -> int | None:
        """Return the number of a new load, None where the settings ask for what was asked for last."""
        wanted: tuple[object, ...] = (settings.model, settings.device, settings.precision)
        wanted += (settings.unload_after, settings.shared_engine, settings.remote)
        if settings.model == AUTO:
            wanted += (settings.latency_target_ms,)
        if wanted == self._wanted:
            return None
        self._wanted = wanted
        self._requests += 1
        return self._requests

    def forget_request(self) -> None:
        """Let the next request load even what was asked for last, if a model was asked for at all."""
        if self._wanted is not None:
            self._wanted = ()

    def load(self, settings: Settings, number: int, changed: Callable[[], None]) -> None:
        """Load the model on the worker's thread, unless a newer load waits; if it fails the model that serves stays.

        `changed` is called, on this thread, when loading begins and when it ends.
        """
        if number != self._requests:
            return
        before, self.loaded, self.state = self.loaded, None, "loading"
        self._recorder.due.clear()  # another model cannot audit them
        changed()
        try:
            self.loaded = self._open(settings)
            if before is not None:
                before.close()
            self.state, self.failure = "ready", None
        except Exception as error:  # noqa: BLE001 - the boundary: whatever fails becomes one sentence
            self.failure = self._notifier.failure(error, "The model cannot be loaded")
            self.loaded, self.state = before, "failed" if before is None else "ready"
        before = None
        gc.collect()  # the former model is part of reference cycles
        changed()

    def close(self) -> None:
        """Let the model go; from any thread."""
        loaded = self.loaded
        if loaded is not None:
            loaded.close()

    def _open(self, settings: Settings) -> CompletingModel:
        parts, notify = self._parts, self._notifier.from_worker
        self._recorder.ledger = self._recorder.ledger or parts.ledger(notify)
        model = parts.open(settings, notify)
        if model.facts.note:
            notify(model.facts.note)
        return model

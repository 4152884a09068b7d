"""A model in this process that goes from memory when nobody has asked for a while, and comes back for who asks."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from greencode_lsp.completion.model import AnsweredBy, CompletingModel, ModelAudit, ModelFacts, nothing_made
from greencode_lsp.completion.pipeline import CompletionControl
from greencode_lsp.completion.request import Request
from greencode_lsp.power import Battery, read_battery
from greencode_lsp.records import Completion

LOW_BATTERY_REST_S = 10.0
"""On a battery that is nearly empty a model goes after so long: sooner, and each keystroke would load it again."""
LOOK_AT_BATTERY_S = 60.0
"""While a model is in memory and the machine runs on its battery; never otherwise."""


class RestingModel:
    """See the module. One thread asks at a time; a thread of its own lets the model go, and sleeps until it is due."""

    def __init__(
        self,
        load: Callable[[], CompletingModel],
        unload_after_s: float | None,
        battery: Callable[[], Battery | None] = read_battery,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the model; raises what loading it raises."""
        self._load, self._battery_now, self._clock_s = load, battery, clock_s
        self._model: CompletingModel | None = load()
        self._facts, self._answered_by = self._model.facts, self._model.answered_by
        self._unload_after_s = unload_after_s
        self._used_s = clock_s()
        self._battery: Battery | None = None
        self._looked_s = float("-inf")
        self._is_busy = self._is_closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._let_go, name="greencode-rest", daemon=True).start()

    @property
    def facts(self) -> ModelFacts:
        """See `CompletingModel`."""
        return self._facts

    @property
    def answered_by(self) -> AnsweredBy:
        """See `CompletingModel`."""
        return self._answered_by

    @property
    def is_resting(self) -> bool:
        """Whether the model is not in memory."""
        return self._model is None

    def stay(self, unload_after_s: float | None) -> None:
        """Let the model stay so long without a request from now on; None: for ever."""
        with self._changed:
            if unload_after_s != self._unload_after_s:
                self._unload_after_s = unload_after_s
                self._changed.notify()

    def complete(self, request: Request, control: CompletionControl, said: Callable[[str], None]) -> Completion:
        """See `CompletingModel`; what nobody waits for wakes no model."""
        if request.unasked and self.is_resting:
            return nothing_made(self._facts)
        with self._awake() as model:
            return model.complete(request, control, said)

    def audit(self, completion: Completion, cancelled: Callable[[], bool]) -> ModelAudit:
        """See `CompletingModel`."""
        with self._awake() as model:
            return model.audit(completion, cancelled)

    def close(self) -> None:
        """See `CompletingModel`; from any thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    @contextmanager
    def _awake(self) -> Iterator[CompletingModel]:
        with self._changed:
            self._is_busy = True
        try:
            if self._model is None:
                self._model = self._load()
                self._facts = self._model.facts
            yield self._model
        finally:
            with self._changed:
                self._is_busy, self._used_s = False, self._clock_s()
                self._changed.notify()

    def _let_go(self) -> None:
        with self._changed:
            while not self._is_closed:
                wait_s = self._wait_s()
                if wait_s is not None and wait_s <= 0:
                    self._model = None
                    give_back_memory()
                else:
                    self._changed.wait(wait_s)
            if not self._is_busy:
                self._model = None
        give_back_memory()

    def _wait_s(self) -> float | None:
        """Return for how long the model stays yet, 0.0 for no longer; None until something changes."""
        if self._is_busy or self._model is None:
            return None
        now_s = self._clock_s()
        if now_s - self._looked_s >= LOOK_AT_BATTERY_S:
            self._battery, self._looked_s = self._battery_now(), now_s
        wait_s, battery = self._unload_after_s, self._battery
        if battery is not None and battery.is_low:
            wait_s = LOW_BATTERY_REST_S if wait_s is None else min(wait_s, LOW_BATTERY_REST_S)
        due_s = None if wait_s is None else max(0.0, self._used_s + wait_s - now_s)
        if battery is None or not battery.is_discharging:
            return due_s
        look_s = max(0.001, self._looked_s + LOOK_AT_BATTERY_S - now_s)
        return look_s if due_s is None else min(due_s, look_s)


def give_back_memory() -> None:
    """Collect reference cycles, and let torch and the C library return to the system what they keep for later."""
    gc.collect()
    torch = sys.modules.get("torch")  # nothing to give back where nobody has imported it
    with suppress(AttributeError, RuntimeError):  # still being imported by another thread; a GPU that has failed
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)

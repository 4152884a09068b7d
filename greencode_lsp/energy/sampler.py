"""The attributed meter: a sampled window of a counter, shared over its requests by modelled work (design, I7).

A counter moves every 20 to 100 ms and covers the whole device, so that its delta over one short request says nothing.
Here a thread samples it, and a request is charged from a window of at least `MIN_WINDOW_S` that holds it:

    energy_j = max(0, delta_j - idle_w T) W / sum(W) + idle_w t

delta_j over the window's T seconds; W the modelled work of each request in it, by the part that lies inside; t the
request's own seconds; idle_w the device's power in the last stretch without requests. What cannot be told is
modelled: no window yet, idle power unknown, another process on the device, two requests at once, a counter that stands.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.energy.meter import modelled_work, saved_j
from greencode_lsp.records import EnergyReading, Work

PERIOD_S = 0.25
MIN_WINDOW_S = 1.0
"""Ten periods of the slowest counter, so that its lag is at most a tenth of a window."""
MAX_GAP_S = 2.0
"""A window begins at most this long before it must: a longer one holds more idle time than work."""
SETTLE_S = 0.25
"""A counter's lag: idle time counts from this long after the last request."""
KEEP_S = 30.0
REST_S = 60.0
"""Without requests for this long, sampling stops until the next one: it costs energy too."""


class CounterLostError(Exception):
    """The device does not answer any more."""


class Counter(Protocol):
    """A cumulative energy counter."""

    devices: tuple[str, ...]

    def read_j(self) -> float:
        """Return joules since an arbitrary zero; raise CounterLostError where the device is gone."""
        ...

    def alone(self) -> bool:
        """Return True where this process is known to be the device's only one."""
        ...


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    total_j: float
    alone: bool


@dataclass(frozen=True, slots=True)
class _Request:
    start_s: float
    end_s: float
    work: float

    def work_since(self, start_s: float) -> float:
        """Return the work of the part after `start_s`, taking the work as even over the request."""
        duration_s = self.end_s - self.start_s
        inside_s = self.end_s - max(start_s, self.start_s)
        return self.work * max(0.0, min(1.0, inside_s / duration_s)) if duration_s > 0 else 0.0


class AttributedMeter:
    """Shares sampled windows of a counter over requests; tier `attributed`, or the fallback's where it cannot."""

    def __init__(
        self,
        counter: Counter,
        fallback: ModelledMeter,
        tell: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
        background: bool = True,
    ) -> None:
        self._counter, self._fallback, self._tell, self._clock_s = counter, fallback, tell, clock_s
        self._lock = threading.RLock()
        self._samples: deque[_Sample] = deque()
        self._requests: deque[_Request] = deque()
        self._open = 0
        self._overlapped = False
        self._quiet: _Sample | None = None
        self._idle_w: float | None = None
        self._used_s = clock_s()
        self._lost = False
        self._background = background
        self._thread: threading.Thread | None = None
        self._start_sampling()

    def open(self) -> AttributedWindow:
        """Begin the window of one completion."""
        with self._lock:
            self._overlapped = self._open > 0
            self._open += 1
            self._used_s = self._clock_s()
            self._quiet = None
            self._start_sampling()
            return AttributedWindow(self, self._used_s)

    def close(self, start_s: float, work: Work) -> EnergyReading:
        """End the window that began at `start_s`."""
        with self._lock:
            self.sample()
            self._open -= 1
            end_s = self._used_s = self._clock_s()
            request = _Request(start_s, end_s, modelled_work(work, self._fallback.prefill_cost))
            self._requests.append(request)
            energy_j = self._attribute(request)
            self._overlapped = self._open > 0
        if energy_j is None:
            return self._fallback.reading(end_s - start_s, work)
        saved = saved_j(energy_j, work, self._fallback.prefill_cost)
        return EnergyReading(energy_j, "attributed", self._counter.devices, saved)

    def sample(self) -> None:
        """Read the counter once; a lost device is told once, and sampling ends."""
        with self._lock:
            if self._lost:
                return
            try:
                sample = _Sample(self._clock_s(), self._counter.read_j(), self._counter.alone())
            except CounterLostError as error:
                self._lost = True
                self._tell(
                    f"The energy counter of {', '.join(self._counter.devices)} is lost ({error}); "
                    "joules are modelled from now on, restart the server once the device is back."
                )
                return
            if self._samples and sample.total_j < self._samples[-1].total_j:  # the driver was reset
                self._samples.clear()
                self._quiet = None
            self._samples.append(sample)
            self._forget(sample.at_s - KEEP_S)
            self._learn_idle(sample)

    def _forget(self, before_s: float) -> None:
        while self._samples and self._samples[0].at_s < before_s:
            self._samples.popleft()
        while self._requests and self._requests[0].end_s < before_s:
            self._requests.popleft()

    def _learn_idle(self, sample: _Sample) -> None:
        settled_s = self._requests[-1].end_s + SETTLE_S if self._requests else 0.0
        if self._open or sample.at_s < settled_s or not sample.alone:
            self._quiet = None
        elif self._quiet is None:
            self._quiet = sample
        elif sample.at_s - self._quiet.at_s >= MIN_WINDOW_S and sample.total_j > self._quiet.total_j:
            self._idle_w = (sample.total_j - self._quiet.total_j) / (sample.at_s - self._quiet.at_s)

    def _attribute(self, request: _Request) -> float | None:
        """Return the request's joules from the newest window that holds it, or None where it cannot be told."""
        if self._lost or self._overlapped or self._idle_w is None or not request.work:
            return None
        end = self._samples[-1]
        latest_s = min(request.start_s, end.at_s - MIN_WINDOW_S)
        start = next((s for s in reversed(self._samples) if s.at_s <= latest_s), None)
        if start is None or latest_s - start.at_s > MAX_GAP_S:
            return None
        alone = all(s.alone for s in self._samples if s.at_s >= start.at_s)
        delta_j = end.total_j - start.total_j
        if not alone or delta_j <= 0.0:
            return None
        all_work = sum(r.work_since(start.at_s) for r in self._requests)
        if not all_work:
            return None
        active_j = max(0.0, delta_j - self._idle_w * (end.at_s - start.at_s))
        return active_j * request.work / all_work + self._idle_w * (request.end_s - request.start_s)

    def _start_sampling(self) -> None:
        if self._background and self._thread is None and not self._lost:
            self._thread = threading.Thread(target=self._run, name="energy-sampler", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self.sample()
            with self._lock:
                if self._lost or (not self._open and self._clock_s() - self._used_s > REST_S):
                    self._thread = None
                    return
            pause.wait(PERIOD_S)


@dataclass(frozen=True, slots=True)
class AttributedWindow:
    """An open window of an `AttributedMeter`."""

    meter: AttributedMeter
    start_s: float

    def close(self, work: Work) -> EnergyReading:
        """Return the request's share of the sampled window that holds it."""
        return self.meter.close(self.start_s, work)

"""The attributed meter: a sampled window of a counter, shared over its requests by modelled work (I7).

A counter moves every 20 to 100 ms and covers the whole device, so that its delta over one short request says nothing.
Here a thread samples it, and a request is charged from a window of at least `MIN_WINDOW_S` before its end:

    energy_j = max(0, delta_j - idle_w T) u W / sum(W) + idle_w t

delta_j over the window's T seconds, from one move of the counter to another; u the share of the device's use that is
this process's; W the modelled work of each request in it, by the part that lies inside; t the request's own seconds;
idle_w the device's power in the last stretch without requests. The first term is the net energy, the second `idle_j`.
What cannot be known is modelled: no window yet, idle power unknown, use by others unknown, two requests at once, a
counter that stands.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.energy.meter import saved_j
from greencode_lsp.records import EnergyReading, Work

PERIOD_S = 0.25
MIN_WINDOW_S = 1.0
"""Ten periods of the slowest counter, so that its lag is at most a tenth of a window."""
MAX_GAP_S = 2.0
"""A window begins at most this long before it must: a longer one holds more idle time than work."""
SETTLE_S = 0.25
"""A counter's lag: idle time counts from this long after the last request."""
MAX_LAG_S = 0.5
"""A counter that has not moved for so long stands still."""
QUIET_LOAD = 0.2
"""Use by others, in seconds a second, up to which a device counts as idle."""
LEAST_INSIDE = 0.75
"""Of a request's work as much must lie in its window, others' included, or the window says too little of it."""
KEEP_S = 30.0
REST_S = 60.0
"""Without requests for this long, sampling stops until the next one: it costs energy too."""


class CounterLostError(Exception):
    """The device does not answer any more."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Cumulative seconds of use of a device since an arbitrary zero."""

    own_s: float
    """By this process."""
    all_s: float
    """By every process, this one too."""


class Counter(Protocol):
    """A cumulative energy counter."""

    devices: tuple[str, ...]
    period_s: float
    """How long it stands between two moves, at most."""

    def read_j(self) -> float:
        """Return joules since an arbitrary zero; raise CounterLostError where the device is gone."""
        ...

    def usage(self) -> Usage | None:
        """Return who has used the device; None where that cannot be known."""
        ...


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    total_j: float
    usage: Usage | None
    moved_s: float
    """When the counter moved to this total, as far as that can be known: between two samples, within a period."""

    def others_load(self, before: _Sample) -> float | None:
        """Return the use by others since an earlier sample, in seconds a second; None where it cannot be known."""
        if self.usage is None or before.usage is None or self.at_s <= before.at_s:
            return None
        all_s, own_s = self.usage.all_s - before.usage.all_s, self.usage.own_s - before.usage.own_s
        return max(0.0, all_s - own_s) / (self.at_s - before.at_s)

    def own_share(self, before: _Sample) -> float | None:
        """Return this process's share of the use since an earlier sample; None where it cannot be known."""
        if self.usage is None or before.usage is None or self.usage.all_s <= before.usage.all_s:
            return None
        share = (self.usage.own_s - before.usage.own_s) / (self.usage.all_s - before.usage.all_s)
        return max(0.0, min(1.0, share))


@dataclass(frozen=True, slots=True)
class _Request:
    start_s: float
    end_s: float
    work: float

    def work_between(self, start_s: float, end_s: float) -> float:
        """Return the work of the part in a window, taking the work as even over the request."""
        duration_s = self.end_s - self.start_s
        inside_s = min(end_s, self.end_s) - max(start_s, self.start_s)
        return self.work * max(0.0, min(1.0, inside_s / duration_s)) if duration_s > 0 else 0.0


class AttributedMeter:
    """Shares sampled windows of a counter over requests; tier `attributed`, or the fallback's where it cannot."""

    def __init__(
        self,
        counter: Counter,
        fallback: ModelledMeter,
        notify: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
        background: bool = True,
    ) -> None:
        self._counter, self._fallback, self._notify, self._clock_s = counter, fallback, notify, clock_s
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
            cost, full_depth_cost = self._fallback.costs(work)
            request = _Request(start_s, end_s, cost)
            self._requests.append(request)
            net_j = self._attribute(request)
            idle_j = (self._idle_w or 0.0) * (end_s - start_s)
            self._overlapped = self._open > 0
        if net_j is None:
            return self._fallback.reading(end_s - start_s, work)
        energy_j = net_j + idle_j
        saved = saved_j(energy_j, cost, full_depth_cost)
        return EnergyReading(energy_j, "attributed", self._counter.devices, saved, idle_j)

    def sample(self) -> None:
        """Read the counter once; a lost device is reported once, and sampling ends."""
        with self._lock:
            if self._lost:
                return
            try:
                now_s = self._clock_s()
                since_s = now_s - self._samples[-1].at_s if self._samples else 0.0
                moved_s = now_s - min(since_s, self._counter.period_s) / 2
                sample = _Sample(now_s, self._counter.read_j(), self._counter.usage(), moved_s)
            except CounterLostError as error:
                self._lost = True
                self._notify(
                    f"The energy counter of {', '.join(self._counter.devices)} is lost ({error}); "
                    "joules are modelled from now on, restart the server once the device is back."
                )
                return
            if self._samples and sample.total_j < self._samples[-1].total_j:  # the driver was reset
                self._samples.clear()
                self._quiet = None
            is_move = not self._samples or sample.total_j > self._samples[-1].total_j
            self._samples.append(sample)
            self._forget(sample.at_s - KEEP_S)
            self._learn_idle(sample, is_move)

    def _forget(self, before_s: float) -> None:
        while self._samples and self._samples[0].at_s < before_s:
            self._samples.popleft()
        while self._requests and self._requests[0].end_s < before_s:
            self._requests.popleft()

    def _learn_idle(self, sample: _Sample, is_move: bool) -> None:
        """Take the power between two moves of the counter, as long apart as nothing was asked for in between."""
        settled_s = self._requests[-1].end_s + SETTLE_S if self._requests else 0.0
        if self._open or sample.at_s < settled_s or sample.usage is None:
            self._quiet = None
        elif self._quiet is None:
            self._quiet = sample if is_move else None
        elif is_move and sample.at_s - self._quiet.at_s >= MIN_WINDOW_S:
            load = sample.others_load(self._quiet)
            if load is None or load > QUIET_LOAD:
                self._quiet = sample
            else:
                self._idle_w = (sample.total_j - self._quiet.total_j) / (sample.moved_s - self._quiet.moved_s)

    def _window(self, request: _Request) -> tuple[_Sample, _Sample] | None:
        """Return the newest window that holds the request, or its beginning where the counter lags; None without one.

        Both ends are the first samples that show their totals: until the next move, a counter lags by up to a tick.
        """
        moves = [s for i, s in enumerate(self._samples) if not i or s.total_j > self._samples[i - 1].total_j]
        end = moves[-1]
        if self._samples[-1].at_s - end.at_s > MAX_LAG_S:
            return None
        latest_s = min(request.start_s, end.moved_s - MIN_WINDOW_S)
        start = next((s for s in reversed(moves) if s.moved_s <= latest_s), None)
        if start is None or latest_s - start.moved_s > MAX_GAP_S:
            return None
        return start, end

    def _attribute(self, request: _Request) -> float | None:
        """Return the request's joules above idle from the window that holds it, or None where it cannot be known."""
        if self._lost or self._overlapped or self._idle_w is None or not request.work:
            return None
        window = self._window(request)
        if window is None:
            return None
        start, end = window
        known = all(s.usage is not None for s in self._samples if start.at_s <= s.at_s <= end.at_s)
        share, all_work = end.own_share(start), self._work_between(start.moved_s, end.moved_s)
        if not known or share is None or all_work < LEAST_INSIDE * request.work:
            return None  # of a request that ends behind the last move a sliver would stand for all of it
        active_j = max(0.0, end.total_j - start.total_j - self._idle_w * (end.moved_s - start.moved_s))
        return active_j * share * request.work / all_work

    def _work_between(self, start_s: float, end_s: float) -> float:
        return sum(request.work_between(start_s, end_s) for request in self._requests)

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

"""Attribution against a trace of known energy: a counter that moves every 100 ms, requests much shorter than that."""

from __future__ import annotations

import math
import random

import pytest

from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.energy.sampler import PERIOD_S, AttributedMeter, Usage
from greencode_lsp.records import EnergyReading, Work

TICK_S, STEP_S = 0.1, 0.005
IDLE_W = 50.0
PREFILL_COST = 0.2


class Trace:
    """A device whose true energy is known at every step, and whose counter shows it a tick late."""

    devices: tuple[str, ...] = ("Traced GPU",)

    def __init__(self, tick_s: float = TICK_S) -> None:
        self.now_s, self.true_j, self.shown_j = 0.0, 0.0, 0.0
        self.power_w, self.tick_s, self.period_s = IDLE_W, tick_s, TICK_S
        self._sampled_s = 0.0
        fallback = ModelledMeter("cuda", 1.0, PREFILL_COST, lambda: self.now_s)
        self.meter = AttributedMeter(self, fallback, print, lambda: self.now_s, background=False)

    def read_j(self) -> float:
        return self.shown_j

    def usage(self) -> Usage | None:
        return Usage(self.now_s, self.now_s)

    def run(self, seconds: float) -> None:
        """Let time pass; the background sampler looks in every PERIOD_S."""
        for _ in range(round(seconds / STEP_S)):
            before = math.floor(self.now_s / self.tick_s + 1e-6)
            self.now_s += STEP_S
            self.true_j += self.power_w * STEP_S
            if math.floor(self.now_s / self.tick_s + 1e-6) > before:
                self.shown_j = self.true_j
            if self.now_s - self._sampled_s >= PERIOD_S:
                self._sampled_s = self.now_s
                self.meter.sample()

    def request(self, seconds: float, work: float, active_w: float) -> EnergyReading:
        window = self.meter.open()
        self.power_w = IDLE_W + active_w
        self.run(seconds)
        self.power_w = IDLE_W
        return window.close(Work(layer_equivalents=work))


@pytest.mark.parametrize("tick_s", [0.02, 0.1], ids=["20 ms", "100 ms"])
@pytest.mark.parametrize("noise", [0.0, 0.2], ids=["steady", "noisy"])
def test_two_hundred_requests_add_up_to_the_trace(tick_s: float, noise: float) -> None:
    trace, rng = Trace(tick_s), random.Random(5)
    trace.run(20.0)
    for _ in range(100):  # typing has been going on for a while
        trace.request(0.03, 6.0, 200.0)
    before_j = trace.true_j
    readings = []
    for _ in range(200):
        steps = rng.choice((4, 7, 12))
        power_w = 200.0 * (1 + noise * rng.uniform(-1, 1))
        readings.append(trace.request(steps * STEP_S, float(steps), power_w))
    assert {reading.energy_tier for reading in readings} == {"attributed"}
    assert sum(reading.energy_j for reading in readings) == pytest.approx(trace.true_j - before_j, rel=0.01)


def test_idle_time_between_requests_is_nobodys() -> None:
    trace = Trace()
    trace.run(20.0)
    readings, idle_j = [], 0.0
    for index in range(200):
        readings.append(trace.request(0.04, 8.0, 200.0))
        if index % 10 == 9:
            before_j = trace.true_j
            trace.run(0.3)
            idle_j += trace.true_j - before_j
    notices = [reading for reading in readings if reading.energy_tier == "attributed"]
    assert len(notices) >= 190  # the first come before the counter has shown any of them
    assert sum(reading.energy_j for reading in notices) / len(notices) == pytest.approx(250.0 * 0.04, rel=0.02)


def test_a_request_of_20_ms_in_a_tick_of_100_ms_gets_its_modelled_share() -> None:
    trace = Trace()
    trace.run(20.0)
    short = long = EnergyReading(0.0, "modelled", ())
    for _ in range(30):  # in every tick a request of 20 ms with a quarter of the work, and one of 80 ms with the rest
        short = trace.request(0.02, 1.0, 200.0)
        long = trace.request(0.08, 3.0, 200.0)
    assert short.energy_tier == long.energy_tier == "attributed"
    net_j = short.energy_j - (short.idle_j or 0.0), long.energy_j - (long.idle_j or 0.0)
    assert net_j[0] / sum(net_j) == pytest.approx(1 / 4, rel=0.02)
    # one reading is as sharp as a tick in a window of a second
    assert short.energy_j == pytest.approx(200.0 * 0.1 / 4 + IDLE_W * 0.02, rel=0.03)
    assert long.energy_j == pytest.approx(200.0 * 0.1 * 3 / 4 + IDLE_W * 0.08, rel=0.03)


def test_gross_less_idle_is_the_requests_own_power() -> None:
    trace = Trace()
    trace.run(20.0)
    reading = [trace.request(0.05, 1.0, 120.0) for _ in range(60)][-1]
    assert reading.idle_j == pytest.approx(IDLE_W * 0.05, rel=0.01)
    assert reading.energy_j - (reading.idle_j or 0.0) == pytest.approx(120.0 * 0.05, rel=0.01)


@pytest.mark.parametrize("seconds", [0.03, 0.055, 0.08, 0.15])
def test_of_requests_far_apart_none_is_charged_a_multiple_of_what_it_took(seconds: float) -> None:
    """A request that ends behind the counter's last move has only a sliver of itself in the window."""
    trace, rng = Trace(), random.Random(1)
    trace.run(5.0)
    for _ in range(60):
        trace.run(2.5 + 3.5 * rng.random())
        reading = trace.request(seconds, 10.0, 100.0)
        if reading.energy_tier == "attributed":
            assert reading.energy_j <= 2.5 * seconds * (IDLE_W + 100.0)

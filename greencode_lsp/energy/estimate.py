"""The modelled meter: a stated power times the seconds a completion took, or coefficients fitted to a counter.

It needs no counter and no privilege, and is as right as its power: expect a factor of two or three either way on a
given machine. Ratios between completions of one machine, and so the share saved, do not depend on it. Where
`greencode-lsp profile` has run, what full depth would have taken comes from the times it stored, and the joules from
its coefficients if there was a counter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from greencode_lsp.energy.device_profile import DeviceProfile
from greencode_lsp.energy.meter import full_depth_work, modelled_work, saved_j
from greencode_lsp.records import EnergyReading, Work

ACTIVE_POWER_W = {"cpu": 25.0, "cuda": 250.0}
"""By device kind. cpu: the share of a laptop or desktop package (28 to 125 W) that one to four busy cores take, memory
and screen left out. cuda: a data-centre board (300 to 700 W limit) on single-token steps, which leave it half idle."""


@dataclass(frozen=True, slots=True)
class ModelledMeter:
    """Energy as `power_w` times the seconds that passed, other programs' turns among them; always tier `modelled`."""

    device: str
    power_w: float
    prefill_cost: float
    clock_s: Callable[[], float] = time.monotonic
    profile: DeviceProfile | None = None

    def costs(self, work: Work) -> tuple[float, float]:
        """Return a completion's cost and that of full depth, in one unit: seconds, or layer equivalents."""
        if self.profile is not None:
            return self.profile.seconds(work), self.profile.full_depth_seconds(work)
        return modelled_work(work, self.prefill_cost), full_depth_work(work, self.prefill_cost)

    def open(self) -> ModelledWindow:
        """Begin the window of one completion."""
        return ModelledWindow(self, self.clock_s())

    def reading(self, busy_s: float, work: Work) -> EnergyReading:
        """Return the joules of work that took `busy_s`."""
        fitted = None if self.profile is None else self.profile.energy_j(work, busy_s)
        energy_j, idle_j = fitted or (self.power_w * busy_s, None)
        return EnergyReading(energy_j, "modelled", (self.device,), saved_j(energy_j, *self.costs(work)), idle_j)


@dataclass(frozen=True, slots=True)
class ModelledWindow:
    """An open window of a `ModelledMeter`."""

    meter: ModelledMeter
    start_s: float

    def close(self, work: Work) -> EnergyReading:
        """Return the stated power times the seconds since the window was opened."""
        return self.meter.reading(self.meter.clock_s() - self.start_s, work)

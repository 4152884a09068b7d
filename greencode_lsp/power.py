"""Whether the machine runs on its battery, read again every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import psutil

PowerState = Literal["mains", "battery", "unknown"]
KEEP_S = 5.0
"""A plug is pulled rarely, and reading it takes a millisecond."""


LOW_PERCENT = 20.0


@dataclass(frozen=True, slots=True)
class Battery:
    """The machine's battery."""

    percent: float
    is_discharging: bool

    @property
    def is_low(self) -> bool:
        """Whether it feeds the machine and is nearly empty."""
        return self.is_discharging and self.percent < LOW_PERCENT


def read_battery() -> Battery | None:
    """Return the battery; None where there is none or none that can be asked."""
    try:
        battery = psutil.sensors_battery()
    except (AttributeError, OSError, RuntimeError, ValueError):  # no such call on this system, or an odd driver
        return None
    if battery is None or battery.power_plugged is None:
        return None
    return Battery(float(battery.percent), not battery.power_plugged)


def read_power() -> PowerState:
    """Return what feeds the machine; `unknown` where there is no battery or none that can be asked."""
    battery = read_battery()
    if battery is None:
        return "unknown"
    return "battery" if battery.is_discharging else "mains"


@dataclass(slots=True)
class Power:
    """The power state, at most `KEEP_S` old."""

    read: Callable[[], PowerState] = read_power
    clock_s: Callable[[], float] = time.monotonic
    _state: PowerState = "unknown"
    _read_s: float = field(default=float("-inf"))

    def state(self) -> PowerState:
        """Return what feeds the machine now."""
        now_s = self.clock_s()
        if now_s - self._read_s >= KEEP_S:
            self._state, self._read_s = self.read(), now_s
        return self._state

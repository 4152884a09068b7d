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


def read_power() -> PowerState:
    """Return what feeds the machine; `unknown` where there is no battery or none that can be asked."""
    try:
        battery = psutil.sensors_battery()
    except (AttributeError, OSError, RuntimeError, ValueError):  # no such call on this system, or an odd driver
        return "unknown"
    if battery is None or battery.power_plugged is None:
        return "unknown"
    return "mains" if battery.power_plugged else "battery"


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

"""Mains or battery, whatever the machine says of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from greencode_lsp.power import KEEP_S, Power, PowerState, read_power


@pytest.mark.parametrize(
    ("battery", "expected"),
    [
        (None, "unknown"),
        (SimpleNamespace(power_plugged=True), "mains"),
        (SimpleNamespace(power_plugged=False), "battery"),
        (SimpleNamespace(power_plugged=None), "unknown"),
    ],
    ids=["no battery", "plugged in", "unplugged", "a battery that does not say"],
)
def test_the_state_is_the_machines(monkeypatch: pytest.MonkeyPatch, battery: Any, expected: PowerState) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert read_power() == expected


@pytest.mark.parametrize("error", [AttributeError, OSError, RuntimeError, ValueError])
def test_a_machine_that_cannot_be_asked_is_unknown(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(psutil, "sensors_battery", fail, raising=False)
    assert read_power() == "unknown"


def test_the_state_is_read_again_once_it_is_old() -> None:
    now_s, states = [0.0], iter(["mains", "battery"])
    power = Power(lambda: next(states), lambda: now_s[0])  # type: ignore[arg-type]
    assert [power.state(), power.state()] == ["mains", "mains"]
    now_s[0] = KEEP_S
    assert power.state() == "battery"

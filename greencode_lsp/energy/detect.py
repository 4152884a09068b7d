"""Which meter this machine has. Absent hardware is a meter too: the modelled one."""

from __future__ import annotations

from collections.abc import Callable

from greencode_lsp.energy.estimate import ACTIVE_POWER_W, ModelledMeter
from greencode_lsp.energy.meter import PREFILL_COST, Meter
from greencode_lsp.energy.nvml import open_nvml


def modelled(device: str) -> ModelledMeter:
    """Return the modelled meter of a device ("cpu", "cuda", "cuda:1")."""
    kind = device.partition(":")[0]
    kind = kind if kind in ACTIVE_POWER_W else "cpu"
    return ModelledMeter(device, ACTIVE_POWER_W[kind], PREFILL_COST[kind])


def detect(device: str, tell: Callable[[str], None] = lambda sentence: None) -> Meter:
    """Return the best meter for a device; never raises.

    `tell` is given one sentence, once, when a counter is lost while in use.
    """
    kind, _, index = device.partition(":")
    fallback = modelled(device)
    if kind != "cuda":
        return fallback
    return open_nvml(int(index) if index.isdecimal() else 0, fallback, tell) or fallback

"""Which meter this machine has. Absent hardware is a meter too: the modelled one."""

from __future__ import annotations

from collections.abc import Callable

from greencode_lsp.energy.checkpoint import Checkpoint
from greencode_lsp.energy.device_profile import load
from greencode_lsp.energy.estimate import ACTIVE_POWER_W, ModelledMeter
from greencode_lsp.energy.meter import PREFILL_COST, Meter
from greencode_lsp.energy.nvml import NvmlCounter, open_counter, open_nvml
from greencode_lsp.energy.rapl import RaplCounter, open_rapl


def modelled(device: str, checkpoint: Checkpoint | None = None) -> ModelledMeter:
    """Return the modelled meter of a device ("cpu", "cuda", "cuda:1"), profiled for the checkpoint where it was."""
    kind = device.partition(":")[0]
    kind = kind if kind in ACTIVE_POWER_W else "cpu"
    profile = load(kind, checkpoint) if checkpoint else None
    return ModelledMeter(device, ACTIVE_POWER_W[kind], PREFILL_COST[kind], profile=profile)


def detect(
    device: str, notify: Callable[[str], None] = lambda sentence: None, checkpoint: Checkpoint | None = None
) -> Meter:
    """Return the best meter for a device; never raises.

    `device` is the framework's ("cpu", "cuda", "cuda:1", "cuda:0,1"), `checkpoint` what may have been profiled.
    `notify` is given one sentence, once, when a counter is lost while in use.
    """
    fallback = modelled(device, checkpoint)
    if device.partition(":")[0] == "cuda":
        return open_nvml(_indices(device), fallback, notify) or fallback
    return (open_rapl(fallback, notify) if device == "cpu" else None) or fallback


def find_counter(device: str) -> NvmlCounter | RaplCounter | None:
    """Return the counter of a device, for windows of seconds in which nothing else runs; None where there is none."""
    if device.partition(":")[0] == "cuda":
        return open_counter(_indices(device))
    try:
        return RaplCounter()
    except (OSError, ValueError):
        return None


def _indices(device: str) -> list[int]:
    named = [part for part in device.partition(":")[2].split(",") if part.isdecimal()]
    return [int(part) for part in named] or [0]

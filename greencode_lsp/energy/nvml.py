"""The energy counters of NVIDIA devices, through `pynvml` (package nvidia-ml-py), imported only here and when asked.

Milliwatts and millijoules become watts and joules in this file alone. The counter covers the board (chip and memory),
not the processor that feeds it.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Sequence
from types import ModuleType

from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.energy.sampler import AttributedMeter, CounterLostError, Usage


class _Board:
    """One device's total-energy counter, or its power integrated between readings."""

    def __init__(self, nvml: ModuleType, index: int, now_s: float) -> None:
        self._nvml = nvml
        self._handle = _handle(nvml, index)
        name = nvml.nvmlDeviceGetName(self._handle)
        self.name = name.decode() if isinstance(name, bytes) else str(name)
        self._has_energy = True
        self._total_j, self._power_w, self._at_s = 0.0, 0.0, now_s
        try:
            nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except nvml.NVMLError:  # before Volta
            self._has_energy = False
            self._power_w = self._read_w()

    def read_j(self, now_s: float) -> float:
        """See `NvmlCounter`."""
        if self._has_energy:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        power_w = self._read_w()
        self._total_j += (power_w + self._power_w) / 2 * (now_s - self._at_s)
        self._power_w, self._at_s = power_w, now_s
        return self._total_j

    def alone(self) -> bool:
        """Return True where the device lists this process, no other, and is no slice of a shared board."""
        try:
            if self._is_sliced():
                return False
            processes = [*self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)]
            processes += self._nvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle)  # a browser, a desktop
        except self._nvml.NVMLError:
            return False
        return {process.pid for process in processes} == {os.getpid()}

    def _is_sliced(self) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(self._handle)[0])
        except self._nvml.NVMLError:  # a device without slices
            return False

    def _read_w(self) -> float:
        # Plain "power" is a mean over a second on Ampere and later: ask for the instant first.
        field = self._nvml.nvmlDeviceGetFieldValues(self._handle, [self._nvml.NVML_FI_DEV_POWER_INSTANT])[0]
        if field.nvmlReturn == self._nvml.NVML_SUCCESS:
            return float(field.value.uiVal) / 1000
        return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000


class NvmlCounter:
    """Cumulative joules of one device or several together."""

    period_s = 0.1
    """20 to 100 ms, by the board."""

    def __init__(self, nvml: ModuleType, *indices: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Take the framework's device numbers; raises NVML's error where one is not there."""
        self._nvml, self._clock_s = nvml, clock_s
        nvml.nvmlInit()
        self._boards = [_Board(nvml, index, clock_s()) for index in indices]
        self.devices: tuple[str, ...] = tuple(board.name for board in self._boards)

    def read_j(self) -> float:
        """Return joules since the driver was loaded (or since this object was made, where power is integrated)."""
        now_s, total_j = self._clock_s(), 0.0
        for board in self._boards:
            try:
                total_j += board.read_j(now_s)
            except self._nvml.NVMLError as error:
                raise CounterLostError(f"{board.name}: {error}") from error
        return total_j

    def usage(self) -> Usage | None:
        """Return all use as this process's where every device is its alone; None where others may use one."""
        if not all(board.alone() for board in self._boards):
            return None
        now_s = self._clock_s()
        return Usage(now_s, now_s)


def _handle(nvml: ModuleType, index: int) -> object:
    """Return the handle of the framework's device `index`, which counts only what CUDA_VISIBLE_DEVICES names."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    name = visible[index] if index < len(visible) else str(index)
    if name.isdecimal():
        handle: object = nvml.nvmlDeviceGetHandleByIndex(int(name))
    else:
        handle = nvml.nvmlDeviceGetHandleByUUID(name)
    return handle


def open_counter(indices: Sequence[int], nvml: ModuleType | None = None) -> NvmlCounter | None:
    """Return the counter of the framework's CUDA devices, or None where there is no driver or no counter."""
    try:
        nvml = nvml or importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        return NvmlCounter(nvml, *indices)
    except nvml.NVMLError:
        return None


def open_nvml(
    indices: Sequence[int], fallback: ModelledMeter, notify: Callable[[str], None], nvml: ModuleType | None = None
) -> AttributedMeter | None:
    """Return the meter of the framework's CUDA devices, or None where there is no driver or no counter."""
    counter = open_counter(indices, nvml)
    return None if counter is None else AttributedMeter(counter, fallback, notify)

"""The processor's energy counters (RAPL: packages and memory) through Linux's powercap files.

A package's counter covers everything that runs on it. This process's share is estimated by processor time: its own
seconds over the busy seconds of all processors (/proc/stat), between the same two readings. Where that cannot be read,
or others keep the package from ever being idle, the tier is modelled. Microjoules become joules in this file alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.energy.sampler import AttributedMeter, CounterLostError, Usage

POWERCAP = Path("/sys/class/powercap")
PROC_STAT = Path("/proc/stat")
MAX_POWER_W = 2000.0
"""No domain draws more: a counter that seems to has restarted, not wrapped."""
LEAST_STEP_S = 0.001
COUNTED_SUBDOMAINS = ("dram",)
"""Of a package's parts, those that its own counter leaves out; the cores and the graphics are in it."""
BUSY = (0, 1, 2, 5, 6)
"""Columns of /proc/stat in which a processor works for someone here: user, nice, system, irq, softirq."""


def domains(root: Path = POWERCAP) -> list[Path]:
    """Return the folders of the domains to be summed: each package, and its memory where it is counted apart."""
    folders = []
    for folder in sorted(root.glob("*rapl:*")):
        name = _text(folder / "name")
        is_package = folder.name.count(":") == 1 and name.startswith("package")
        if is_package or name in COUNTED_SUBDOMAINS:
            folders.append(folder)
    return folders


def how_to_read(root: Path = POWERCAP) -> str | None:
    """Return one sentence on how to let the counters be read; None where they can be read, or there are none."""
    closed = [folder / "energy_uj" for folder in domains(root) if not os.access(folder / "energy_uj", os.R_OK)]
    if not closed:
        return None
    return (
        f"The processor's energy counters may be read by root alone; `sudo chmod a+r {' '.join(map(str, closed))}` "
        "lets everyone until the next start, and for good the line "
        '`SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"` in '
        "/etc/udev/rules.d/70-rapl.rules (other users could then watch what your machine does: CVE-2020-8694)."
    )


class _Domain:
    """One counter, unwrapped."""

    def __init__(self, folder: Path, now_s: float) -> None:
        self._folder, self._at_s = folder, now_s
        self.name = _text(folder / "name")
        self._range_uj = int(_text(folder / "max_energy_range_uj"))
        self._last_uj = self._read_uj()

    def step_j(self, now_s: float) -> float | None:
        """Return the joules since the last call; None where the counter restarted. Raises CounterLostError."""
        try:
            read_uj = self._read_uj()
        except (OSError, ValueError) as error:
            raise CounterLostError(f"{self.name}: {getattr(error, 'strerror', None) or error}") from error
        step_uj = read_uj - self._last_uj
        if step_uj < 0:
            step_uj += self._range_uj
        elapsed_s = max(LEAST_STEP_S, now_s - self._at_s)
        self._last_uj, self._at_s = read_uj, now_s
        step_j = step_uj / 1e6
        return step_j if 0.0 <= step_j <= MAX_POWER_W * elapsed_s else None

    def _read_uj(self) -> int:
        return int(_text(self._folder / "energy_uj", missing=None))


class RaplCounter:
    """Cumulative joules of all packages and their memory since this object was made."""

    period_s = 0.001

    def __init__(
        self, root: Path = POWERCAP, proc_stat: Path = PROC_STAT, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Raise OSError or ValueError where no domain can be read."""
        self._proc_stat, self._clock_s = proc_stat, clock_s
        self._domains = [_Domain(folder, clock_s()) for folder in domains(root)]
        if not self._domains:
            raise FileNotFoundError(f"There is no energy counter in {root}.")
        self.devices: tuple[str, ...] = tuple(f"cpu {domain.name}" for domain in self._domains)
        self._total_j = 0.0

    def read_j(self) -> float:
        """Return the joules so far; from zero again where a counter restarted. See `Counter`."""
        now_s = self._clock_s()
        steps = [domain.step_j(now_s) for domain in self._domains]
        known = [step for step in steps if step is not None]
        self._total_j = self._total_j + sum(known) if len(known) == len(steps) else 0.0
        return self._total_j

    def usage(self) -> Usage | None:
        """Return processor seconds of this process and of all; None where they cannot be read."""
        try:
            columns = self._proc_stat.read_text(encoding="ascii").split("\n", 1)[0].split()
            busy = sum(int(columns[1 + i]) for i in BUSY)
            return Usage(time.process_time(), busy / os.sysconf("SC_CLK_TCK"))
        except (OSError, ValueError, IndexError, AttributeError):
            return None


def open_rapl(
    fallback: ModelledMeter, notify: Callable[[str], None], root: Path = POWERCAP, proc_stat: Path = PROC_STAT
) -> AttributedMeter | None:
    """Return the processor's meter, or None where there is no counter or it may not be read (see `how_to_read`)."""
    try:
        counter = RaplCounter(root, proc_stat)
    except (OSError, ValueError):
        return None
    if counter.usage() is None:
        return None
    return AttributedMeter(counter, fallback, notify)


def _text(path: Path, missing: str | None = "") -> str:
    """Return a file's one line; `missing` where there is none, or OSError where that is None."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        if missing is None:
            raise
        return missing

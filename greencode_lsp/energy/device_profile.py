"""What one checkpoint costs on one device, as `greencode-lsp profile` timed it; kept in the user's data folder.

Seconds of a completion, from its counts (`Work`):

    t = start + P p + sum over runs (s, m) of c_s(m) + sum over runs m of the head of h(m) + check K + token T

busy seconds (see `busy_clock`): P layer-positions of the prompt at p each, c_s(m) segment s over m positions and h(m)
the head over m (interpolated between the timed ones), K exit checks (`Work.exit_checks`), T tokens.

Joules, where a counter was there to fit them by:

    E = idle_w t + byte_j B + operation_j O

B bytes of weights read and O operations of the same runs. Without a counter E is a stated power times the seconds.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from greencode_lsp.energy.checkpoint import Checkpoint
from greencode_lsp.files import atomic_write
from greencode_lsp.models.store import data_home
from greencode_lsp.records import Work

POSITIONS = (1, 2, 4, 8, 64, 512)
"""Runs that are timed: a token, drafts, a keystroke's worth, a prompt."""
LONG = 64
"""Runs from here on are prompts, timed from an empty cache; shorter ones are timed behind a prompt."""
FORMAT_VERSION = 2
"""Of the stored file; one of another version is timed again."""


def busy_clock(device: str, threads: int = 1) -> Callable[[], float]:
    """Return a clock of the seconds in which this process keeps a device busy.

    On the CPU that is its processor time, by thread: another program's turns do not count, and alone it is the time
    that passes. Elsewhere it is the time that passes.
    """
    if device != "cpu" or sys.platform == "win32":  # where processor time moves in steps of 16 ms
        return time.perf_counter
    return lambda: time.process_time() / threads


@dataclass(frozen=True, slots=True)
class Joules:
    """Coefficients fitted to a counter over replay windows."""

    idle_w: float
    byte_j: float
    operation_j: float
    fit_error: float
    """Root mean square of fitted over counted joules less one, over the windows."""
    windows: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """What one segment takes."""

    seconds: dict[int, float]
    """Positions -> seconds of one run over them."""
    weight_bytes: int
    """Read once a run."""
    operations: int
    """For one position: two for each weight."""


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Times of one checkpoint on one device, and joules where they could be fitted."""

    device: str
    """`cpu` or `cuda`."""
    device_name: str
    checkpoint: str
    precision: str
    threads: int
    exits: tuple[int, ...]
    segments: tuple[Segment, ...]
    head: Segment
    """Final norm and LM head; of long runs nothing is timed, prompts need their last position's alone."""
    check_s: float
    token_s: float
    """What a token takes beyond its segments, head and checks."""
    start_s: float
    """What a completion takes beyond its prompt and tokens."""
    shortlist_s: float = 0.0
    """One position through the shortlist's rows of the head; 0.0 where there are none."""
    joules: Joules | None = None
    time_ratio: float | None = None
    """Median over trial completions of modelled over observed seconds."""
    saved_share_error: float | None = None
    """How far the modelled share saved was from the observed one in trial completions, as a share of full depth."""
    created_utc: str = ""

    def seconds(self, work: Work) -> float:
        """Return the modelled seconds of a completion; 0.0 where nothing ran."""
        if not work.prompt_tokens:
            return 0.0
        runs_s = sum(_at(self.segments[s].seconds, m) for s, m in work.decode_runs)
        runs_s += sum(
            _at(self.segments[s].seconds, n + m) - _at(self.segments[s].seconds, n) for s, n, m in work.mixed_runs
        )
        heads_s = sum(_at(self.head.seconds, m) for m in work.head_runs)
        heads_s += self._shortlist_share * sum(_at(self.head.seconds, m) for m in work.shortlist_runs)
        return self._ends_s(work) + runs_s + heads_s + self.check_s * work.exit_checks

    def full_depth_seconds(self, work: Work) -> float:
        """Return the modelled seconds of the same tokens at full depth, one at a time, after the same prompt."""
        if not work.prompt_tokens:
            return 0.0
        layers_s = sum(_at(segment.seconds, 1) for segment in self.segments) * max(0, work.emitted_tokens - 1)
        return self._ends_s(work) + layers_s + _at(self.head.seconds, 1) * work.emitted_tokens

    def _ends_s(self, work: Work) -> float:
        """Return what both sides pay: the start, the prompt, and each token's share beyond the model."""
        fed = max(1, work.prompt_tokens - work.reused_tokens)
        layer_s = sum(_at(segment.seconds, fed) for segment in self.segments) / self.exits[-1] / fed
        return self.start_s + layer_s * work.prefill_layer_positions + self.token_s * work.emitted_tokens

    def energy_j(self, work: Work, busy_s: float) -> tuple[float, float] | None:
        """Return the fitted joules of a completion that took `busy_s`, and the idle ones among them; None unfitted."""
        if self.joules is None or not work.prompt_tokens:
            return None
        joules, (read_bytes, operations) = self.joules, self.traffic(work)
        idle_j = joules.idle_w * busy_s
        return idle_j + joules.byte_j * read_bytes + joules.operation_j * operations, idle_j

    def traffic(self, work: Work) -> tuple[float, float]:
        """Return the bytes of weights read and the operations of a completion."""
        model = Segment({}, sum(s.weight_bytes for s in self.segments), sum(s.operations for s in self.segments))
        share = work.prefill_layer_positions / self.exits[-1]  # positions through the whole model
        read_bytes, operations = model.weight_bytes * min(1.0, share), model.operations * share
        for s, m in work.decode_runs:
            read_bytes += self.segments[s].weight_bytes
            operations += self.segments[s].operations * m
        operations += sum(self.segments[s].operations * m for s, _, m in work.mixed_runs)  # weights read for the prompt
        shortlist = self._shortlist_share
        read_bytes += self.head.weight_bytes * (len(work.head_runs) + shortlist * len(work.shortlist_runs))
        operations += self.head.operations * (work.head_positions + shortlist * work.shortlist_positions)
        return read_bytes, operations

    @property
    def _shortlist_share(self) -> float:
        """Return what the shortlist's rows take of the head, by the time of one position."""
        return self.shortlist_s / _at(self.head.seconds, 1)


def _at(seconds: Mapping[int, float], positions: int) -> float:
    """Return the seconds of a run over so many positions, beyond the last point in proportion.

    Between points the seconds are interpolated, from LONG on the seconds of a position: attention makes each dearer
    by the length of the prompt, which is a square that a straight line would overstate.
    """
    timed = sorted(seconds)
    if positions >= timed[-1]:
        return seconds[timed[-1]] * positions / timed[-1]
    long = [m for m in timed if m >= LONG]
    if len(long) > 1 and positions >= LONG:
        return positions * float(np.interp(positions, long, [seconds[m] / m for m in long]))
    return float(np.interp(positions, timed, [seconds[m] for m in timed]))


@dataclass(frozen=True, slots=True)
class ReplayWindow:
    """One stretch of the same runs over and over, and what a counter said it took."""

    seconds: float
    read_bytes: float
    operations: float
    counted_j: float


def fit(windows: Sequence[ReplayWindow], devices: tuple[str, ...] = ()) -> Joules:
    """Return the coefficients with the least relative squared error, none of them below zero.

    Raises ValueError where the windows are fewer than the coefficients, or a counter stood still.
    """
    if len(windows) < 3 or any(window.counted_j <= 0 for window in windows):
        raise ValueError("three windows with counted joules are needed, at least")
    rows = np.array([[w.seconds, w.read_bytes, w.operations] for w in windows], np.float64)
    counted = np.array([w.counted_j for w in windows], np.float64)
    scaled = rows / counted[:, None]  # every window's relative error weighs the same
    kept = [0, 1, 2]
    while True:  # active set: what would be below zero is left out
        size = np.abs(scaled[:, kept]).max(axis=0)
        size[size == 0.0] = 1.0
        solved = np.linalg.lstsq(scaled[:, kept] / size, np.ones(len(windows)), rcond=None)[0] / size
        if (solved >= 0).all() or len(kept) == 1:
            break
        del kept[int((solved * size).argmin())]
    coefficients = np.zeros(3)
    coefficients[kept] = np.maximum(0.0, solved)
    error = float(np.sqrt(np.mean((scaled @ coefficients - 1) ** 2)))
    idle_w, byte_j, operation_j = (float(c) for c in coefficients)
    return Joules(idle_w, byte_j, operation_j, error, len(windows), devices)


def profile_path(device: str, checkpoint: str) -> Path:
    """Return where the profile of a checkpoint on a device kind lies."""
    name = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part) for part in (device.partition(":")[0], checkpoint))
    return data_home() / "profiles" / f"{name}.json"


def save(profile: DeviceProfile) -> Path:
    """Write a profile in place of the one before; raises OSError where the folder cannot be written."""
    path = profile_path(profile.device, profile.checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps({"format_version": FORMAT_VERSION, **asdict(profile)}, indent=1).encode())
    return path


def load(device: str, checkpoint: Checkpoint) -> DeviceProfile | None:
    """Return the stored profile of this very model; None where there is none."""
    profile = stored(device, checkpoint.name)
    if profile is None or Checkpoint(profile.checkpoint, profile.exits, profile.precision) != checkpoint:
        return None
    return profile


def stored(device: str, name: str) -> DeviceProfile | None:
    """Return the profile stored under a name; None where there is none, or none that this version can read."""
    try:
        data = json.loads(profile_path(device, name).read_text(encoding="utf8"))
        if data.pop("format_version") != FORMAT_VERSION or data["checkpoint"] != name:
            return None
        return _parse(data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _parse(data: dict[str, Any]) -> DeviceProfile:
    joules = data.pop("joules")
    if joules is not None:
        joules = Joules(**(joules | {"devices": tuple(joules["devices"])}))
    segments = tuple(_segment(row) for row in data.pop("segments"))
    head, exits = _segment(data.pop("head")), tuple(int(e) for e in data.pop("exits"))
    if len(exits) != len(segments) or any(after <= before for before, after in pairwise((0, *exits))):
        raise ValueError("exits and segments do not belong together")
    return DeviceProfile(joules=joules, segments=segments, head=head, exits=exits, **data)


def _segment(row: dict[str, Any]) -> Segment:
    seconds = {int(m): float(s) for m, s in row["seconds"].items()}
    if not seconds or min(seconds.values()) <= 0.0:
        raise ValueError("a segment without seconds")
    return Segment(seconds, int(row["weight_bytes"]), int(row["operations"]))

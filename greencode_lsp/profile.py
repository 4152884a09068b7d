"""`greencode-lsp profile`: times a checkpoint on this machine, within 90 s, and keeps the result.

Short timings of every part, then trial completions to see how right they are; where the device has an energy counter,
replay windows of 5 s to fit joules by. See energy/device_profile.py for what is stored and who reads it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from greencode_lsp.completion.backend import Backend, load_backend
from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.request import Request
from greencode_lsp.demo.positions import CursorPosition, positions
from greencode_lsp.energy.detect import find_counter
from greencode_lsp.energy.device_profile import DeviceProfile, Joules, ReplayWindow, busy_clock, fit, save
from greencode_lsp.energy.estimate import ACTIVE_POWER_W, ModelledMeter
from greencode_lsp.energy.rapl import how_to_read
from greencode_lsp.energy.sampler import QUIET_LOAD, Counter, CounterLostError
from greencode_lsp.errors import LedgerError
from greencode_lsp.records import Constraint, Control, Step, Work
from greencode_lsp.settings import Settings

if TYPE_CHECKING:
    from greencode_lsp.engine.engine import Engine

TIMES_S = 40.0
"""Loading, times and trials end after this; the rest of the 90 s is the windows'."""
LAST_WINDOW_S = 70.0
"""No window begins after this: it ends with a whole run, which takes many seconds where the model is slow."""
WINDOW_S = 5.0
TRIALS = 3
"""Times each trial position is completed in either configuration; medians."""
Write = Callable[[str], None]


@dataclass(slots=True)
class TimedEngine:
    """The engine with a clock around each generation: what the caller does with the tokens is part of it."""

    engine: Engine
    clock_s: Callable[[], float]
    busy_s: float = 0.0
    """Of the latest generation."""

    @property
    def layers(self) -> int:
        """See `CompletionEngine`."""
        return self.engine.layers

    @property
    def device(self) -> str:
        """See `CompletionEngine`."""
        return self.engine.device

    @property
    def precision(self) -> str:
        """See `CompletionEngine`."""
        return self.engine.precision

    @property
    def max_positions(self) -> int:
        """See `CompletionEngine`."""
        return self.engine.max_positions

    @property
    def work(self) -> Work:
        """See `CompletionEngine`."""
        return self.engine.work

    def generate(
        self,
        prompt_ids: Sequence[int],
        control: Control,
        *,
        max_new_tokens: int,
        stop_ids: frozenset[int] = frozenset(),
        likely_last_ids: frozenset[int] = frozenset(),
        constraint: Constraint | None = None,
    ) -> Iterator[Step]:
        """See `CompletionEngine`."""
        start_s = self.clock_s()
        try:
            yield from self.engine.generate(
                prompt_ids,
                control,
                max_new_tokens=max_new_tokens,
                stop_ids=stop_ids,
                likely_last_ids=likely_last_ids,
                constraint=constraint,
            )
        finally:
            self.busy_s = self.clock_s() - start_s

    def full_depth_argmax(self, prompt_ids: Sequence[int], emitted_ids: Sequence[int], control: Control) -> list[int]:
        """See `CompletionEngine`."""
        return self.engine.full_depth_argmax(prompt_ids, emitted_ids, control)


@dataclass(frozen=True, slots=True)
class Trial:
    """One completion at full depth and one as served, observed and modelled, in busy seconds."""

    full_depth_s: float
    served_s: float
    modelled_full_depth_s: float
    modelled_served_s: float


def run(settings: Settings, write: Write) -> None:
    """Time the checkpoint that the settings name; raises GreenCodeError with what to fix."""
    from greencode_lsp.engine.timing import time_checkpoint, workloads

    begun_s = time.monotonic()
    backend = load_backend(settings)
    engine = engine_of(backend)
    deadline_s = begun_s + TIMES_S
    profile = time_checkpoint(engine, deadline_s=deadline_s)
    for line in describe(profile):
        write(line)
    profile = judged(profile, list(trials(backend, profile, settings, positions(), deadline_s)))
    write(_about_trials(profile))
    counter = find_counter(engine.device)
    if counter is not None:
        last_s = begun_s + LAST_WINDOW_S
        work = ((workload.name, workload.run) for workload in workloads(engine) if time.monotonic() < last_s)
        profile = replace(profile, joules=fitted(profile, counter, work, write))
    write(_about_joules(profile))
    try:
        write(f"kept in {save(profile)}")
    except OSError as error:
        raise LedgerError(f"The profile cannot be kept ({error}); make the data folder writable.") from error


def engine_of(backend: Backend) -> Engine:
    """Return the real engine behind a backend's protocol."""
    from greencode_lsp.engine.engine import Engine

    engine = backend.engine
    assert isinstance(engine, Engine), "profile is of the real engine"
    return engine


def describe(profile: DeviceProfile) -> list[str]:
    """Return the times for a person to read."""
    lines = [
        f"{profile.checkpoint} on {profile.device} ({profile.device_name}), {profile.precision}, "
        f"{profile.threads} thread(s); busy milliseconds of one run over so many positions:"
    ]
    sizes = sorted(profile.segments[0].seconds)
    lines.append(f"  {'segment to layer':>16}" + "".join(f"{m:>9}" for m in sizes))
    for end, segment in zip(profile.exits, profile.segments, strict=True):
        lines.append(f"  {end:>16}" + "".join(f"{1e3 * segment.seconds[m]:9.3f}" for m in sizes))
    lines.append(
        f"  head {1e3 * profile.head.seconds[1]:.3f} ms, exit check {1e3 * profile.check_s:.4f} ms, "
        f"each token besides {1e3 * profile.token_s:.3f} ms, each completion besides "
        f"{1e3 * profile.start_s:.3f} ms"
    )
    return lines


def trials(
    backend: Backend,
    profile: DeviceProfile,
    settings: Settings,
    places: Sequence[CursorPosition],
    deadline_s: float = math.inf,
) -> Iterator[Trial]:
    """Complete at places that nothing was timed on, cold, at full depth and as served, in turns.

    What runs at `deadline_s` by `time.monotonic` is cancelled and left out, and nothing is begun after it.
    """

    def late() -> bool:
        return time.monotonic() >= deadline_s

    engine, meter = engine_of(backend), ModelledMeter(profile.device, 0.0, 0.0)
    timed = TimedEngine(engine, busy_clock(profile.device, profile.threads))
    backend = replace(backend, engine=timed)
    configurations = (replace(settings, exit_policy="never"), settings)
    for place in places:
        if late():
            return
        request = Request(place.text, place.offset, place.language, invoked=True)
        seconds: tuple[list[float], list[float]] = ([], [])
        work = [Work(), Work()]
        for i, served in [*enumerate(configurations)] * TRIALS:
            engine.sequences.forget()
            control = LiveControl.of(served, backend.manifest, place.language)
            control.cancelled = late
            completion = complete(backend, request, control, meter)
            if late():
                break
            work[i] = completion.work
            seconds[i].append(timed.busy_s)
        if all(one.emitted_tokens for one in work):
            observed = [statistics.median(passes) for passes in seconds]
            yield Trial(*observed, *(profile.seconds(one) for one in work))


def judged(profile: DeviceProfile, results: Sequence[Trial]) -> DeviceProfile:
    """Return the profile with what the trials say of it; as it is where there are none."""
    if not results:
        return profile
    ratios = [
        ratio for t in results for ratio in (t.modelled_full_depth_s / t.full_depth_s, t.modelled_served_s / t.served_s)
    ]
    observed = sum(t.served_s for t in results) / sum(t.full_depth_s for t in results)
    modelled = sum(t.modelled_served_s for t in results) / sum(t.modelled_full_depth_s for t in results)
    return replace(profile, time_ratio=statistics.median(ratios), saved_share_error=abs(modelled - observed))


def fitted(
    profile: DeviceProfile, counter: Counter, workloads: Iterable[tuple[str, Callable[[], Work]]], write: Write
) -> Joules | None:
    """Return the joules' coefficients by replay windows; None, with one sentence, where they cannot be fitted."""
    windows = []
    try:
        for name, run_once in chain([("nothing", _rest)], workloads):
            window = _window(profile, counter, run_once)
            if window is None:
                write("Other programs use the device, so joules are not fitted; close them and try again.")
                return None
            write(f"  {window.seconds:.1f} s of {name}: {window.counted_j / window.seconds:.1f} W")
            windows.append(window)
        return fit(windows, counter.devices)
    except (CounterLostError, ValueError) as error:
        write(f"The energy counter cannot be used ({error}), so that joules are not fitted.")
        return None


def _window(profile: DeviceProfile, counter: Counter, run_once: Callable[[], Work]) -> ReplayWindow | None:
    """Return one window of the same work over and over; None where others used the device."""
    read_bytes = operations = 0.0
    begun_s, begun_j, before = time.monotonic(), counter.read_j(), counter.usage()
    while time.monotonic() - begun_s < WINDOW_S:
        more_bytes, more_operations = profile.traffic(run_once())
        read_bytes, operations = read_bytes + more_bytes, operations + more_operations
    seconds, counted_j, after = time.monotonic() - begun_s, counter.read_j() - begun_j, counter.usage()
    if before is None or after is None:
        return None
    if after.all_s - before.all_s - (after.own_s - before.own_s) > QUIET_LOAD * seconds:
        return None
    return ReplayWindow(seconds, read_bytes, operations, counted_j)


def _rest() -> Work:
    time.sleep(WINDOW_S / 10)
    return Work()


def _about_trials(profile: DeviceProfile) -> str:
    if profile.time_ratio is None:
        return "no trial completion ended in time, so that how right these times are is not known"
    return (
        f"trial completions, modelled time over observed: {profile.time_ratio:.3f} (median); "
        f"share saved off by {profile.saved_share_error:.1%} of full depth"
    )


def _about_joules(profile: DeviceProfile) -> str:
    joules = profile.joules
    if joules is not None:
        return (
            f"joules (energy_tier: modelled), fitted over {joules.windows} windows of {WINDOW_S:g} s: idle "
            f"{joules.idle_w:.3g} W, {joules.byte_j:.3g} J a byte, {joules.operation_j:.3g} J an operation; "
            f"fit error {joules.fit_error:.1%}"
        )
    stated = (
        f"joules (energy_tier: modelled) are a stated power of {ACTIVE_POWER_W[profile.device]:g} W "
        "times the seconds: there is no energy counter to fit them by."
    )
    sentence = how_to_read() if profile.device == "cpu" else None
    return f"{stated} {sentence}" if sentence else stated

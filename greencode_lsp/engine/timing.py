"""What a checkpoint's parts take here: short timings through the real engine, and workloads for a counter to watch.

Letters: S segments, m positions of one run.
"""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from greencode_lsp.energy.checkpoint import Checkpoint
from greencode_lsp.energy.device_profile import LONG, POSITIONS, DeviceProfile, Segment, busy_clock, load, save
from greencode_lsp.energy.rows import utc_now
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.state import DecoderState
from greencode_lsp.records import NEVER, DecodeConfig, FixedControl, Work

PROMPT_TOKENS = 256
TOKENS = 16
"""Decoded in one timing of a token."""
STEPS = 8
"""Runs of one size in a row, so that it finds the caches as its like left them; the first is left out."""
ROUNDS = 15
QUICK_ROUNDS, QUICK_S = 2, 2.0
"""Of the times that are taken when a checkpoint is first loaded on a device."""
TYPICAL = {2: 1.18, 4: 1.63, 8: 2.8}
"""Positions -> a run over them against one on a CPU, where they are not timed.

Measured thoroughly: 1.22, 1.69, 2.84 (AVX2, 4 bits); 1.19, 1.66, 2.54 and 1.12, 1.55, 3.53 (AVX-512, two models). In
two seconds they cannot be: ten tries at one model gave 1.07 to 1.81 for two positions, and drafts live by these ratios.
"""
BUDGET_S = 20.0
"""Timing ends after this, within a round too, with what it has."""
UNREACHED = 1e9
"""A threshold above every logit: the policy is asked, as it is not where the threshold is infinite."""
_WEIGHT_BYTES = {"int4": 0.64, "mixed": 0.87, "int8": 1.13, "bfloat16": 2.0, "float32": 4.0}
"""Of a weight with its block's scale; `mixed` has 4 bits in about half of its weights."""


@dataclass(frozen=True, slots=True)
class PartTimes:
    """See `DeviceProfile`, whose fields these are."""

    segments: tuple[Segment, ...]
    head: Segment
    check_s: float
    token_s: float
    start_s: float
    threads: int
    device_name: str
    shortlist_s: float = 0.0


def time_parts(engine: Engine, rounds: int = ROUNDS, deadline_s: float = math.inf) -> PartTimes:
    """Time every part of a loaded checkpoint, sizes and kinds in turns; medians.

    Parts of one position are timed between the tokens of a real generation: at full depth, against a generation that
    always exits first, and against one whose checks always say no. Timing ends after `BUDGET_S`, or at `deadline_s` by
    `time.monotonic`; sizes not timed by then are left out, except one position and a short prompt.
    """
    typical = TYPICAL if engine.device == "cpu" else {}
    timer = _Timer(engine, min(deadline_s, time.monotonic() + BUDGET_S), typical if rounds <= QUICK_ROUNDS else ())
    timer.round()
    timer.set_aside()  # the first round warms up
    for _ in range(rounds):
        timer.round()
    seconds = timer.medians()
    widths = [after - before for before, after in pairwise((0, *engine.exits))]
    skipped = sum(widths[1:])
    one_s = _layer_s(seconds, skipped, widths) * sum(widths)
    looped_s = sum(seconds[s, 1] for s in range(len(widths)))
    curves = []
    for s in range(len(widths)):
        curve = {
            m: seconds[s, m] * (1.0 if m >= LONG else one_s / looped_s) for m in timer.positions if (s, m) in seconds
        }
        curves.append(_rising(_filled(curve, typical)))
    heads = {m: seconds["head", m] for m in timer.positions if ("head", m) in seconds}
    heads = _rising(_filled(heads, typical))
    head_s, check_s = heads[1], 0.0
    if skipped:
        check_s = max(0.0, (seconds["checked"] - seconds["never"]) / (len(widths) - 1))
    token_s = max(0.0, seconds["never"] - one_s - head_s)
    start_s = max(0.0, seconds["start"] - one_s - head_s - token_s)
    architecture, size = engine.model.architecture, _WEIGHT_BYTES[engine.precision]
    weights = [width * architecture.layer_weights for width in widths]
    segments = tuple(Segment(c, int(size * n), 2 * n) for c, n in zip(curves, weights, strict=True))
    head = Segment(heads, int(size * architecture.head_weights), 2 * architecture.head_weights)
    threads, name = engine.model.threads, device_name(engine.device)
    return PartTimes(segments, head, check_s, token_s, start_s, threads, name, seconds.get("shortlist", 0.0))


def time_checkpoint(engine: Engine, rounds: int = ROUNDS, deadline_s: float = math.inf) -> DeviceProfile:
    """Return the times of a loaded checkpoint, as many as are taken until `deadline_s` by `time.monotonic`."""
    parts = time_parts(engine, rounds, deadline_s)
    return DeviceProfile(
        device=engine.device,
        device_name=parts.device_name,
        checkpoint=engine.manifest.name,
        precision=engine.precision,
        threads=parts.threads,
        exits=engine.exits,
        segments=parts.segments,
        head=parts.head,
        check_s=parts.check_s,
        token_s=parts.token_s,
        start_s=parts.start_s,
        shortlist_s=parts.shortlist_s,
        created_utc=utc_now().isoformat(timespec="seconds"),
    )


def use_this_device(engine: Engine) -> None:
    """Let the engine's counts, draft lengths and exits follow what a step takes here, not where it was trained.

    The times are those stored for this very checkpoint, else short ones, taken and stored now; anew too where its
    shortlist came after them.
    """
    profile = load(engine.device, Checkpoint(engine.manifest.name, engine.exits, engine.precision))
    if profile is None or (engine.model.shortlist is not None and not profile.shortlist_s):
        profile = time_checkpoint(engine, QUICK_ROUNDS, time.monotonic() + QUICK_S)
        with suppress(OSError):  # a folder that cannot be written costs these seconds at every start
            save(profile)
    curve, head_layers = costs(profile)
    shortlist_layers = profile.shortlist_s / sum(s.seconds[1] for s in profile.segments) * profile.exits[-1]
    engine.use_costs(curve, head_layers, round(shortlist_layers, 3))
    token_s = sum(segment.seconds[1] for segment in profile.segments)
    asked = len(engine.exits) - 1
    counted = engine.manifest.exit_head_layers * asked / engine.exits[-1]  # the table's ratios hold it already
    checks = max(0.0, profile.check_s * asked / token_s - counted)
    ratios = [
        row.layer_equivalents_ratio
        for table in engine.manifest.calibration.values()
        for rows in table.values()
        for row in rows
    ]
    if ratios and min(ratios) + checks >= 1:
        engine.manifest = replace(engine.manifest, exit_policy="never", exit_policies={})


def costs(profile: DeviceProfile) -> tuple[dict[int, float], float]:
    """Return {m: c(m)/c(1)} of all segments together, and the head's cost for one position in layers."""
    timed = set.intersection(*(set(segment.seconds) for segment in profile.segments))
    seconds = {m: sum(segment.seconds[m] for segment in profile.segments) for m in sorted(timed)}
    curve = {m: round(elapsed_s / seconds[1], 3) for m, elapsed_s in seconds.items()}
    return curve, round(profile.head.seconds[1] / seconds[1] * profile.exits[-1], 3)


def _layer_s(seconds: dict[object, float], skipped: int, widths: Sequence[int]) -> float:
    """Return what one layer takes for one position within a generation, or looped where nothing can be skipped."""
    looped_s = sum(seconds[s, 1] for s in range(len(widths))) / sum(widths)
    if not skipped:
        return looped_s
    # the token that exits first asks once, the one at full depth never does
    check_s = max(0.0, (seconds["checked"] - seconds["never"]) / (len(widths) - 1))
    return max(looped_s / 2, (seconds["never"] - seconds["first"] + check_s) / skipped)


def _filled(curve: dict[int, float], typical: Mapping[int, float]) -> dict[int, float]:
    """Return the curve with what was not timed of it."""
    return {m: curve[1] * ratio for m, ratio in typical.items()} | curve


def _rising(curve: dict[int, float]) -> dict[int, float]:
    """Return the curve without dips: more positions never cost less, so a dip is noise."""
    floor, out = 0.0, {}
    for m in sorted(curve):
        floor = out[m] = max(floor, curve[m])
    return out


def first_exit(engine: Engine) -> DecodeConfig:
    """Return what lets every token out at the first exit, asked by the agent's network where there is one."""
    asked = network(engine)
    return DecodeConfig("fixed", engine.exits[0] - 0.5) if asked == "never" else DecodeConfig(asked, -NEVER)


def network(engine: Engine) -> str:
    """Return the policy that is the agent's network and runs no LM head; `never` for a model without an agent."""
    return next((name for name in ("gate", "agent") if name in engine.policies), "never")


class _Timer:
    """Seconds by kind of part; keys are (segment or `head`, positions) or a word."""

    def __init__(self, engine: Engine, end_s: float, skipped: Collection[int]) -> None:
        self._engine, self._end_s = engine, end_s
        self._clock_s = busy_clock(engine.device, engine.model.threads)
        room = engine.max_positions - 1
        self._prompt = [0] * min(PROMPT_TOKENS, room // 2)
        fitting = [m for m in POSITIONS if m == 1 or m <= room - (len(self._prompt) if m < LONG else 0)]
        self.positions = [m for m in fitting if m not in skipped]
        checked = DecodeConfig(network(engine), UNREACHED)
        self._configs = {"never": DecodeConfig(), "first": first_exit(engine), "checked": checked}
        self._warm_up: dict[object, list[float]] = {}
        self._seconds: dict[object, list[float]] = {}

    def set_aside(self) -> None:
        """Keep what was timed so far for those parts alone that are not timed again."""
        self._warm_up, self._seconds = self._seconds, {}

    def medians(self) -> dict[object, float]:
        return {key: statistics.median(timings) for key, timings in (self._warm_up | self._seconds).items()}

    def round(self) -> None:
        """Time everything once; after the end only what nothing can be said without, and only if it is not known."""
        for name, config in self._configs.items():
            if self._is_due(name):
                self._time_tokens(name, config)
        for m in self.positions:
            if self._is_due((0, m), is_needed=m in (1, LONG)):
                self._time_runs(m)

    def _is_due(self, key: object, is_needed: bool = True) -> bool:
        is_lacking = key not in self._warm_up and key not in self._seconds
        return (is_needed and is_lacking) or time.monotonic() < self._end_s

    def _time_runs(self, m: int) -> None:
        state = self._engine.sequences.choose(self._prompt)
        start = 0 if m >= LONG else len(self._prompt)
        state.reuse([*self._prompt, 0] if start else [0])
        state.crop(start)
        for index in range(state.last + 1):
            state.advance(index, _never)
        for step in range(STEPS if m < LONG else 1):
            state.feed([0] * m)
            for index in range(state.last + 1):
                elapsed_s = self._timed(partial(state.advance, index, _never))
                if step or m >= LONG:
                    self._add((index, m), elapsed_s)
            if step:
                self._add(("head", m), self._timed(partial(_heads, state, start)))
                if m == 1 and state.runner.shortlist is not None:
                    self._add("shortlist", self._timed(lambda: int(state.shortlist_logits(state.last).argmax())))
            state.crop(start)

    def _time_tokens(self, name: str, config: DecodeConfig) -> None:
        engine = self._engine
        list(engine.generate(self._prompt, FixedControl(config), max_new_tokens=1))  # the prompt is warm
        start_s = self._clock_s()
        tokens = engine.generate(self._prompt, FixedControl(config), max_new_tokens=TOKENS + 1)
        next(tokens)
        first_s = self._clock_s()
        list(tokens)
        self._add(name, (self._clock_s() - first_s) / TOKENS)
        if name == "never":
            self._add("start", first_s - start_s)

    def _add(self, key: object, elapsed_s: float) -> None:
        self._seconds.setdefault(key, []).append(elapsed_s)

    def _timed(self, call: Callable[[], object]) -> float:
        start_s = self._clock_s()
        call()
        self._engine.model.wait()
        return self._clock_s() - start_s


def _never() -> bool:
    return False


def _heads(state: DecoderState, start: int) -> list[int]:
    """Return the likeliest ids after every position from `start`."""
    return [int(i) for i in state.runner.logits(state.last, start, len(state)).argmax(-1)]


def device_name(device: str) -> str:
    """Return the device's name as its maker gives it."""
    if device == "cuda":
        from greencode_lsp.engine.torch.device import cuda_name  # loaded already: it computes there

        return cuda_name() or device
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").split("\n")
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of work to be repeated; each call runs it once and returns what it was."""

    name: str
    run: Callable[[], Work]


def workloads(engine: Engine) -> Iterator[Workload]:
    """Yield kinds of work with different shares of bytes and operations: for a fit, not for a user."""
    room = engine.max_positions - 1
    short = [0] * min(8, room // 2)
    first = first_exit(engine)

    def generation(prompt: Sequence[int], config: DecodeConfig, tokens: int) -> Callable[[], Work]:
        def run() -> Work:
            engine.sequences.forget()
            for _ in engine.generate(prompt, FixedControl(config), max_new_tokens=tokens):
                pass
            return engine.work

        return run

    yield Workload("tokens at full depth", generation(short, DecodeConfig(), min(64, room // 2)))
    yield Workload("tokens that exit first", generation(short, first, min(64, room // 2)))
    for length in (32, 128, 512):
        prompt = [0] * min(length, room - 1)
        yield Workload(f"prompts of {len(prompt)}", generation(prompt, DecodeConfig(), 1))
    mixed = [0] * min(128, room // 2)
    yield Workload("a prompt and tokens", generation(mixed, DecodeConfig(), min(32, room // 2)))

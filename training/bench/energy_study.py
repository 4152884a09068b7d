"""`python -m training energy-study`: joules, time and quality by decoding method, in paired replay windows.

    python -m training energy-study                   # 12 methods, 5 windows of 5 s each: 10 minutes on two cores
    python -m training energy-study --window-s 0.5    # a look

Every window replays the same cold prompts, whole passes over the list, for at least `window_s`; the methods take turns
in an order shuffled by a seed, each after a pause and a warm-up. Where the device has a counter that no other process
uses, joules are measured over the window, and each round begins with a window of rest, whose power is taken off for
the net ones; a window that others disturbed is taken again. Where that does not help, or there is no counter, the whole
study's joules are a stated power times busy seconds, and say no more than those do: the two kinds cannot be compared.
Intervals are 95 % (Student's t over windows; ratios by round). Windows are kept as they come, so that a run that was
stopped goes on.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from greencode_lsp.completion.backend import Backend
from greencode_lsp.demo.positions import CursorPosition
from greencode_lsp.energy.detect import find_counter
from greencode_lsp.energy.device_profile import busy_clock
from greencode_lsp.energy.estimate import ACTIVE_POWER_W
from greencode_lsp.energy.sampler import Counter
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine, open_source
from greencode_lsp.engine.onnx.threads import usable_threads
from greencode_lsp.engine.timing import time_checkpoint
from greencode_lsp.errors import SettingError
from greencode_lsp.models.store import resolve
from greencode_lsp.preference import decode_config
from greencode_lsp.profile import judged, trials
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig, FixedControl
from greencode_lsp.settings import Settings
from training.bench import bench_exits, energy_results
from training.bench.energy_results import FULL, NEW_TOKENS, REST, UNCACHED, StudyWindow, of_one_kind, summary
from training.data import heldout
from training.data.cursors import SourcePosition
from training.evaluation.metrics import edit_similarity
from training.evaluation.transformers_peer import TransformersPeer
from training.exits.served import prompt_ids

PREFERENCES = (0.75, 0.5, 0.25, 0.0)
CACHED = "Hugging Face, cache"
OTHERS_SHARE = 0.05
"""Use by others that disturbs a window: of one processor's time, or of this process's where that is more."""
TRIES = 3
Complete = Callable[[Sequence[int]], list[int]]
"""Prompt ids -> NEW_TOKENS ids."""


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """What is asked for."""

    model: str = "bundled"
    device: str = "auto"
    window_s: float = 5.0
    repeats: int = 5
    prompts: int = 6
    quality_prompts: int = 80
    pause_s: float = 2.0
    """Before each window, so that the counter and the clocks settle after the one before."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A cursor, its prompt, and its reference text."""

    position: SourcePosition
    prompt: list[int]
    reference: str


def lines_of(engine: Engine, tokenizer: CodeTokenizer, count: int, seed: int) -> list[Line]:
    """Return held-out lines where their packages are installed, else places in the standard library."""
    held_out, _ = heldout.read_lines(["installed"], "python")
    if not held_out:
        prompts = bench_exits.prompts(engine, tokenizer, count)
        return [Line(SourcePosition("", 0), ids[-engine.max_positions + NEW_TOKENS + 1 :], "") for ids in prompts]
    out = []
    for line in random.Random(seed).sample(held_out, min(count, len(held_out))):
        prompt = prompt_ids(engine, tokenizer, line.position, NEW_TOKENS)
        out.append(Line(line.position, prompt, line.position.rest_of_line.rstrip()))
    return out


def own_methods(engine: Engine) -> dict[str, Complete]:
    """Return the engine's methods: full depth, fixed exits, the preferences, verified."""
    configs = {FULL: DecodeConfig()}
    configs |= {f"fixed exit {layer}": DecodeConfig("fixed", layer - 0.5) for layer in engine.exits[1:-1]}
    for preference in PREFERENCES:
        settings = Settings(preference=preference)
        configs[f"preference {preference:g}"] = decode_config(settings, engine.manifest, "python")
    lossless = decode_config(Settings(preference=1.0), engine.manifest, "python")
    configs["verified, preference 1"] = lossless

    def method(config: DecodeConfig) -> Complete:
        def run(prompt: Sequence[int]) -> list[int]:
            engine.sequences.forget()
            steps = engine.generate(prompt, FixedControl(config), max_new_tokens=NEW_TOKENS)
            return [step.token_id for step in steps]

        return run

    return {name: method(config) for name, config in configs.items()}


def peer_methods(folder: Path, device: str) -> dict[str, Complete]:
    """Return transformers' `generate` on the same weights in float32, without and with its cache."""
    peer = TransformersPeer.of_checkpoint(folder, device)
    return {
        UNCACHED: lambda prompt: peer.generate(prompt, NEW_TOKENS, use_cache=False),
        CACHED: lambda prompt: peer.generate(prompt, NEW_TOKENS),
    }


def replay(
    method: Complete,
    prompts: Sequence[Sequence[int]],
    window_s: float,
    counter: Counter | None,
    clock_s: Callable[[], float],
) -> dict[str, Any]:
    """Return completions, seconds and joules of whole passes over the prompts, and the joules' tier."""
    begun_s = clock_s()
    before_j, before = (counter.read_j(), counter.usage()) if counter else (0.0, None)
    start_s, completions, seconds = time.perf_counter(), 0, 0.0
    while seconds < window_s:
        for prompt in prompts:
            method(prompt)
        completions, seconds = completions + len(prompts), time.perf_counter() - start_s
    counts = {"completions": completions, "seconds": seconds, "busy_s": clock_s() - begun_s}
    after = counter.usage() if counter else None
    if counter is not None and before is not None and after is not None:
        own_s = after.own_s - before.own_s
        others_s = after.all_s - before.all_s - own_s
        if others_s <= OTHERS_SHARE * max(own_s, seconds):
            tier = "measured" if window_s >= energy_results.LEAST_WINDOW_S else "attributed"
            return counts | {"energy_j": counter.read_j() - before_j, "energy_tier": tier}
    return counts | {"energy_j": math.nan, "energy_tier": "modelled"}


def measure(
    methods: Mapping[str, Complete], prompts: Sequence[Sequence[int]], options: StudyOptions, kept: Path, device: str
) -> list[StudyWindow]:
    """Return every window, with joules of one kind; each is kept at once, and those in `kept` are not taken again."""
    asked = json.dumps(asdict(options) | {"methods": list(methods), "threads": usable_threads()})
    windows: list[StudyWindow] = []
    if kept.exists():
        head, *lines = kept.read_text(encoding="utf8").splitlines()
        windows = [StudyWindow(**json.loads(line)) for line in lines] if head == asked else []
    if not windows:
        kept.write_text(asked + "\n", encoding="utf8")
    done = {(window.method, window.round) for window in windows}
    is_modelled = any(window.energy_tier == "modelled" for window in windows)
    counter = None if is_modelled else find_counter(device)
    rng, clock_s = random.Random(options.seed), busy_clock(device, usable_threads())
    for number in range(options.repeats):
        order = rng.sample(list(methods), len(methods))
        for name in (REST, *order):
            if (name, number) in done or (name == REST and counter is None):
                continue
            counts = _undisturbed(methods.get(name, _rest), prompts, options, counter, clock_s)
            if counts["energy_tier"] == "modelled":
                counter = None  # the study is: nothing is gained by counting on
            windows.append(StudyWindow(name, number, **counts))
            with kept.open("a", encoding="utf8") as file:
                file.write(json.dumps(asdict(windows[-1])) + "\n")
            print(
                f"round {number + 1}: {name}: {1e3 * counts['busy_s'] / counts['completions']:.1f} busy ms", flush=True
            )
    return of_one_kind(windows, ACTIVE_POWER_W[device])


def _undisturbed(
    method: Complete,
    prompts: Sequence[Sequence[int]],
    options: StudyOptions,
    counter: Counter | None,
    clock_s: Callable[[], float],
) -> dict[str, Any]:
    """Return a window's replay, the last of TRIES where there is a counter and others disturb it."""
    for _ in range(TRIES):
        time.sleep(options.pause_s)
        method(prompts[0])  # wakes its threads and warms its caches after another's turn
        counts = replay(method, prompts, options.window_s, counter, clock_s)
        if counter is None or counts["energy_tier"] != "modelled":
            break
    return counts


def _rest(prompt: Sequence[int]) -> list[int]:
    time.sleep(0.1)
    return []


def quality(
    methods: Mapping[str, Complete], engine: Engine, tokenizer: CodeTokenizer, lines: Sequence[Line]
) -> dict[str, dict[str, float | None]]:
    """Return each method's edit similarity with the reference, and its agreement with the engine's own full depth.

    Hugging Face's two are one: the cache changes no token; in float32 its model is not the engine's int8 one.
    """
    out: dict[str, dict[str, float | None]] = {}
    for name, method in methods.items():
        if name == UNCACHED:
            continue
        edits, agreements = [], []
        for line in lines:
            tokens = method(line.prompt)
            kept = [token for token in tokens if token not in tokenizer.special_ids]
            edits.append(edit_similarity(tokenizer.decode(kept).split("\n", 1)[0].rstrip(), line.reference))
            full = engine.full_depth_argmax(line.prompt, tokens, FixedControl())
            agreements.append(statistics.fmean(a == b for a, b in zip(tokens, full, strict=True)))
        has_references = any(line.reference for line in lines)
        out[name] = {
            "edit_similarity": statistics.fmean(edits) if has_references else None,
            "agreement": statistics.fmean(agreements),
        }
    if CACHED in out:
        out[UNCACHED] = out[CACHED]
    return out


def _library(device: str) -> str:
    """Return what computes on a device, with its version: figures of another engine say nothing of this one."""
    name = "onnxruntime" if device == "cpu" else "torch"
    return f"{name} {version(name)}"


def run(options: StudyOptions, runs: Path) -> dict[str, Any]:
    """Measure everything, write `energy-study.{json,md,png}` into RUNS/<model>, and return the figures."""
    if options.repeats < 2 or options.window_s <= 0:
        raise SettingError("An interval needs two windows of some length; raise --repeats or --window-s.")
    folder = resolve(options.model)
    engine, tokenizer = load_engine(folder, options.device), CodeTokenizer.of(folder)
    lines = lines_of(engine, tokenizer, options.quality_prompts, options.seed)
    methods = peer_methods(folder, engine.device) | own_methods(engine)
    out = runs / engine.manifest.name
    out.mkdir(parents=True, exist_ok=True)
    kept = out / f"energy-study-{open_source(folder).fingerprint()[:12]}-{engine.precision}.part"
    chosen = [line.prompt for line in lines[: options.prompts]]
    windows = measure(methods, chosen, options, kept, engine.device)
    profile = time_checkpoint(engine)
    study = {
        "model": engine.manifest.name,
        "device": engine.device,
        "device_name": profile.device_name,
        "engine": _library(engine.device),
        "precision": engine.precision,
        "threads": usable_threads(),
        "power_w": ACTIVE_POWER_W[engine.device],
        "options": asdict(options),
        "prompt_tokens": statistics.fmean(map(len, chosen)),
        "new_tokens": NEW_TOKENS,
        "methods": summary(windows, list(methods)),
        "quality": quality(methods, engine, tokenizer, lines),
        "quality_lines": len(lines),
        "modelled_time": modelled_time(Backend(engine, tokenizer, engine.manifest), profile, lines),
        "windows": [asdict(window) for window in windows],
    }
    energy_results.write(study, out)
    kept.unlink(missing_ok=True)
    return study


def modelled_time(backend: Backend, profile: Any, lines: Sequence[Line]) -> dict[str, float] | None:
    """Return how the stored times compare with completions of lines that nothing was timed on; None without such."""
    positions = [line.position for line in lines if line.position.text]
    places = [CursorPosition(at.package, at.document, at.offset) for at in positions]
    timed = list(trials(backend, profile, Settings(), places))
    if not timed:
        return None
    ratios = [r for t in timed for r in (t.modelled_full_depth_s / t.full_depth_s, t.modelled_served_s / t.served_s)]
    verdict = judged(profile, timed)
    return {
        "completions": len(ratios),
        "ratio": float(verdict.time_ratio or math.nan),
        "within_15_percent": statistics.fmean(abs(ratio - 1) <= 0.15 for ratio in ratios),
        "saved_share_error": float(verdict.saved_share_error or 0.0),
    }

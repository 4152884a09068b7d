"""`python -m training energy-study`: joules, time and quality of ways to complete, in paired replay windows.

    python -m training energy-study                     # 12 ways, 5 windows of 5 s each: about 10 minutes on two cores
    python -m training energy-study --window-s 0.5      # a look

Every window replays the same cold prompts, whole passes over the list, for at least `window_s`; the ways take turns in
an order shuffled by a seed, each after a pause and a warm-up. Where the device has a counter that this process has to
itself, joules are measured over the window, and each round begins with a window of rest, whose power is taken off for
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
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from greencode_lsp.calibrate import judged, trials
from greencode_lsp.completion.pipeline import Backend
from greencode_lsp.demo.positions import CursorPosition
from greencode_lsp.energy.calibration import busy_clock
from greencode_lsp.energy.detect import find_counter
from greencode_lsp.energy.estimate import ACTIVE_POWER_W
from greencode_lsp.energy.sampler import Counter
from greencode_lsp.engine.calibrate import time_checkpoint
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.onnx.threads import usable_threads
from greencode_lsp.errors import SettingError
from greencode_lsp.models.store import resolve
from greencode_lsp.preference import decode_config
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig, FixedControl
from greencode_lsp.settings import Settings
from training import bench_exits, energy_results, heldout
from training.cursors import Cursor, prompt_ids
from training.energy_results import FULL, NEW_TOKENS, REST, UNCACHED, Window, of_one_kind, summary
from training.export import dequantise
from training.metrics import edit_similarity

PREFERENCES = (0.75, 0.5, 0.25, 0.0)
CACHED = "Hugging Face, cache"
OTHERS_SHARE = 0.05
"""Use by others that disturbs a window: of one processor's time, or of this process's where that is more."""
TRIES = 3
Complete = Callable[[Sequence[int]], list[int]]
"""Prompt ids -> NEW_TOKENS ids."""


@dataclass(frozen=True, slots=True)
class Options:
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
    """A cursor, its prompt, and what the author wrote."""

    place: CursorPosition
    prompt: list[int]
    reference: str


def lines_of(engine: Engine, tokenizer: CodeTokenizer, count: int, seed: int) -> list[Line]:
    """Return held-out lines where their packages are installed, else places in the standard library."""
    found, _ = heldout.read_lines(["installed"], "python")
    if not found:
        prompts = bench_exits.prompts(engine, tokenizer, count)
        return [Line(CursorPosition("", "", 0), ids[-engine.max_positions + NEW_TOKENS + 1 :], "") for ids in prompts]
    out = []
    for line in random.Random(seed).sample(found, min(count, len(found))):
        cursor = Cursor(line.text, line.offset)
        place = CursorPosition(line.pointer.file, cursor.document, line.offset)
        out.append(Line(place, prompt_ids(engine, tokenizer, cursor, NEW_TOKENS), line.rest_of_line.rstrip()))
    return out


def own_ways(engine: Engine) -> dict[str, Complete]:
    """Return the engine's ways: full depth, fixed exits, the preferences, verified."""
    configs = {FULL: DecodeConfig()}
    configs |= {f"fixed exit {layer}": DecodeConfig("fixed", layer - 0.5) for layer in engine.exits[1:-1]}
    for preference in PREFERENCES:
        settings = Settings(preference=preference, exit_policy="agent" if "agent" in engine.policies else "auto")
        configs[f"agent, preference {preference:g}"] = decode_config(settings, engine.manifest, "python")
    lossless = decode_config(Settings(preference=1.0), engine.manifest, "python")
    configs["verified, preference 1"] = lossless

    def way(config: DecodeConfig) -> Complete:
        def run(prompt: Sequence[int]) -> list[int]:
            engine.sequences.forget()
            steps = engine.generate(prompt, FixedControl(config), max_new_tokens=NEW_TOKENS)
            return [step.token_id for step in steps]

        return run

    return {name: way(config) for name, config in configs.items()}


def peer_ways(folder: Path, device: str) -> dict[str, Complete]:
    """Return transformers' `generate` on the same weights in float32, without and with its cache."""
    from transformers import AutoModelForCausalLM  # an extra's, and seconds

    with tempfile.TemporaryDirectory() as temporary:
        model: Any = AutoModelForCausalLM.from_pretrained(dequantise(folder, Path(temporary)), dtype=torch.float32)
    model = model.eval().to(device)

    def way(use_cache: bool) -> Complete:
        def run(prompt: Sequence[int]) -> list[int]:
            ids = torch.tensor([list(prompt)], device=device)
            wanted = {"min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS, "do_sample": False}
            with torch.inference_mode():
                out = model.generate(
                    ids, attention_mask=torch.ones_like(ids), pad_token_id=0, use_cache=use_cache, **wanted
                )
            return [int(token) for token in out[0, len(prompt) :]]

        return run

    return {UNCACHED: way(False), CACHED: way(True)}


def replay(
    way: Complete,
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
            way(prompt)
        completions, seconds = completions + len(prompts), time.perf_counter() - start_s
    found = {"completions": completions, "seconds": seconds, "busy_s": clock_s() - begun_s}
    after = counter.usage() if counter else None
    if counter is not None and before is not None and after is not None:
        own_s = after.own_s - before.own_s
        others_s = after.all_s - before.all_s - own_s
        if others_s <= OTHERS_SHARE * max(own_s, seconds):
            tier = "measured" if window_s >= energy_results.LEAST_WINDOW_S else "attributed"
            return found | {"energy_j": counter.read_j() - before_j, "energy_tier": tier}
    return found | {"energy_j": math.nan, "energy_tier": "modelled"}


def measure(
    ways: Mapping[str, Complete], prompts: Sequence[Sequence[int]], options: Options, kept: Path, device: str
) -> list[Window]:
    """Return every window, with joules of one kind; each is kept at once, and those in `kept` are not taken again."""
    asked = json.dumps(asdict(options) | {"ways": list(ways), "threads": usable_threads()})
    windows: list[Window] = []
    if kept.exists():
        head, *lines = kept.read_text(encoding="utf8").splitlines()
        windows = [Window(**json.loads(line)) for line in lines] if head == asked else []
    if not windows:
        kept.write_text(asked + "\n", encoding="utf8")
    done = {(window.way, window.round) for window in windows}
    is_modelled = any(window.energy_tier == "modelled" for window in windows)
    counter = None if is_modelled else find_counter(device)
    rng, clock_s = random.Random(options.seed), busy_clock(device, usable_threads())
    for number in range(options.repeats):
        order = rng.sample(list(ways), len(ways))
        for name in (REST, *order):
            if (name, number) in done or (name == REST and counter is None):
                continue
            found = _taken(ways.get(name, _rest), prompts, options, counter, clock_s)
            if found["energy_tier"] == "modelled":
                counter = None  # the study is: nothing is gained by counting on
            windows.append(Window(name, number, **found))
            with kept.open("a", encoding="utf8") as file:
                file.write(json.dumps(asdict(windows[-1])) + "\n")
            print(f"round {number + 1}: {name}: {1e3 * found['busy_s'] / found['completions']:.1f} busy ms", flush=True)
    return of_one_kind(windows, ACTIVE_POWER_W[device])


def _taken(
    way: Complete,
    prompts: Sequence[Sequence[int]],
    options: Options,
    counter: Counter | None,
    clock_s: Callable[[], float],
) -> dict[str, Any]:
    """Return a window's replay, the last of TRIES where there is a counter and others disturb it."""
    for _ in range(TRIES):
        time.sleep(options.pause_s)
        way(prompts[0])  # wakes its threads and warms its caches after another's turn
        found = replay(way, prompts, options.window_s, counter, clock_s)
        if counter is None or found["energy_tier"] != "modelled":
            break
    return found


def _rest(prompt: Sequence[int]) -> list[int]:
    time.sleep(0.1)
    return []


def quality(
    ways: Mapping[str, Complete], engine: Engine, tokenizer: CodeTokenizer, lines: Sequence[Line]
) -> dict[str, dict[str, float | None]]:
    """Return each way's edit similarity with the author, and its agreement with the engine's own full depth.

    Hugging Face's two are one: the cache changes no token; in float32 its model is not the engine's int8 one.
    """
    out: dict[str, dict[str, float | None]] = {}
    for name, way in ways.items():
        if name == UNCACHED:
            continue
        edits, agreements = [], []
        for line in lines:
            tokens = way(line.prompt)
            kept = [token for token in tokens if token not in tokenizer.special_ids]
            edits.append(edit_similarity(tokenizer.decode(kept).split("\n", 1)[0].rstrip(), line.reference))
            full = engine.full_depth_argmax(line.prompt, tokens, FixedControl())
            agreements.append(statistics.fmean(a == b for a, b in zip(tokens, full, strict=True)))
        has_authors = any(line.reference for line in lines)
        out[name] = {
            "edit_similarity": statistics.fmean(edits) if has_authors else None,
            "agreement": statistics.fmean(agreements),
        }
    if CACHED in out:
        out[UNCACHED] = out[CACHED]
    return out


def run(options: Options, runs: Path) -> dict[str, Any]:
    """Measure everything, write `energy-study.{json,md,png}` into RUNS/<model>, and return the figures."""
    if options.repeats < 2 or options.window_s <= 0:
        raise SettingError("An interval needs two windows of some length; raise --repeats or --window-s.")
    folder = resolve(options.model)
    engine, tokenizer = load_engine(folder, options.device), CodeTokenizer.of(folder)
    lines = lines_of(engine, tokenizer, options.quality_prompts, options.seed)
    ways = peer_ways(folder, engine.device) | own_ways(engine)
    out = runs / engine.manifest.name
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "energy-study.part"
    chosen = [line.prompt for line in lines[: options.prompts]]
    windows = measure(ways, chosen, options, kept, engine.device)
    calibration = time_checkpoint(engine)
    found = {
        "model": engine.manifest.name,
        "device": engine.device,
        "device_name": calibration.device_name,
        "numeric": engine.numeric,
        "threads": usable_threads(),
        "power_w": ACTIVE_POWER_W[engine.device],
        "options": asdict(options),
        "prompt_tokens": statistics.fmean(map(len, chosen)),
        "new_tokens": NEW_TOKENS,
        "ways": summary(windows, list(ways)),
        "quality": quality(ways, engine, tokenizer, lines),
        "quality_lines": len(lines),
        "modelled_time": modelled_time(Backend(engine, tokenizer, engine.manifest), calibration, lines),
        "windows": [asdict(window) for window in windows],
    }
    energy_results.write(found, out)
    kept.unlink(missing_ok=True)
    return found


def modelled_time(backend: Backend, calibration: Any, lines: Sequence[Line]) -> dict[str, float] | None:
    """Return how the stored times compare with completions of lines that nothing was timed on; None without such."""
    places = [line.place for line in lines if line.place.text]
    found = list(trials(backend, calibration, Settings(), places))
    if not found:
        return None
    ratios = [r for t in found for r in (t.modelled_full_depth_s / t.full_depth_s, t.modelled_served_s / t.served_s)]
    verdict = judged(calibration, found)
    return {
        "completions": len(ratios),
        "ratio": float(verdict.time_ratio or math.nan),
        "within_15_percent": statistics.fmean(abs(ratio - 1) <= 0.15 for ratio in ratios),
        "saved_share_error": float(verdict.saved_share_error or 0.0),
    }

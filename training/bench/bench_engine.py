"""`python -m training bench`: this engine against its peers and against itself, in one run.

Rows against peers are of a shape with random weights (`--random-weights`, default `base`), the same for all, and of a
GGUF file (`--gguf FILE`) that llama.cpp runs as it is; rows of exits, drafts and reuse are of a model (`--model`,
default `bundled`); rows of the process are of the real server.
Every peer runs at its own best thread count, peers take turns (A B A B), and medians with quartiles are printed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.onnx.threads import decide_threads, usable_threads
from greencode_lsp.engine.timing import device_name, use_this_device
from greencode_lsp.models.manifest import Manifest, write_manifest
from greencode_lsp.models.store import resolve
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from training.bench import bench_exits, bench_server
from training.bench.bench_peers import (
    CONTEXT,
    MANY,
    ONE,
    PREFILL,
    SHORT,
    WHOLE,
    Ours,
    Peer,
    load_with_shortlist,
    open_gguf_peers,
    open_peers,
)
from training.lm.families import build_model
from training.preset import load_preset

ROUNDS, QUICK_ROUNDS = 15, 5
THREAD_ROUNDS = 3
PROMPTS, QUICK_PROMPTS = 12, 4
STARTS, QUICK_STARTS = 5, 3
LAZY_PROMPTS = 40
FILE_CONTEXT = 448
"""Tokens of the cold prompt of a GGUF file, and before its steps."""
QWEN_FIGURES = {"step_vs_llamacpp_q4": ONE, "step8_vs_llamacpp_q4": MANY, "prompt_vs_llamacpp_q4": PREFILL}
ISA = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
LARGE = 500_000_000
"""Parameters from which a random model is made in bfloat16, to fit."""
Times = dict[str, dict[str, list[float]]]
"""peer -> figure -> seconds by round."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is asked for."""

    model: str = "bundled"
    random_weights: str = "base"
    quick: bool = False
    device: str = "auto"
    gguf: Path | None = None
    threads: int = 0
    """Of this engine; 0 for those it serves with."""


def random_folder(preset_name: str, out: Path) -> Path:
    """Write a checkpoint of a preset's shape with random weights, exits stated; returns `out`."""
    preset = load_preset(preset_name)
    shape = preset.model
    parameters = shape.num_hidden_layers * 4 * shape.hidden_size * (shape.hidden_size + shape.intermediate_size)
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if parameters > LARGE else default)
    try:
        build_model(shape, preset.corpus.vocab_size).save_pretrained(out)
    finally:
        torch.set_default_dtype(default)
    write_manifest(out, Manifest(name=preset_name, family=shape.family, exits=tuple(shape.exits)))
    return out


def best_threads(peer: Peer, ids: list[int]) -> int:
    """Return the thread count with the fastest step."""
    steps_s: dict[int, float] = {}
    for count in range(1, (os.cpu_count() or 1) + 1):
        peer.set_threads(count)
        steps_s[count] = statistics.median(peer.measure(ids)[ONE] for _ in range(THREAD_ROUNDS))
    return min(steps_s, key=lambda count: steps_s[count])


def against_peers(options: BenchOptions, checkpoint: Path, context: int) -> tuple[Times, dict[str, int]]:
    """Return the times of every peer that is installed, over a folder or a GGUF file, in turns, and its threads."""
    ids = torch.randint(8, 1000, (context,), generator=torch.Generator().manual_seed(0)).tolist()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    with tempfile.TemporaryDirectory() as temporary:
        is_file = checkpoint.is_file()
        load = partial(load_with_shortlist, work=Path(temporary)) if is_file else load_engine
        ours = load(checkpoint, options.device)
        peers = open_gguf_peers(ours, checkpoint) if is_file else open_peers(ours, checkpoint, Path(temporary))
        threads = {name: best_threads(peer, ids) for name, peer in peers.items() if not isinstance(peer, Ours)}
        threads = {next(iter(peers)): ours.model.threads, **threads}
        times: Times = {name: {} for name in peers}
        for _ in range(rounds):
            for name, peer in peers.items():
                peer.set_threads(threads[name])
                peer.measure(ids)  # once to wake its threads and warm its caches after another peer's turn
                for figure, elapsed_s in peer.measure(ids).items():
                    times[name].setdefault(figure, []).append(elapsed_s)
    return times, threads


def of_peer(times: Times, start: str, figure: str) -> float | None:
    """Return the best median among peers whose name begins so; None where none is there."""
    medians_s = [statistics.median(t[figure]) for name, t in times.items() if name.startswith(start) and figure in t]
    return min(medians_s, default=None)


def medians_ms(times: Times) -> dict[str, dict[str, float]]:
    """Return milliseconds by peer and figure."""
    return {
        name: {figure: round(1000 * statistics.median(seconds), 3) for figure, seconds in figures.items()}
        for name, figures in times.items()
    }


def share(ours: float | None, theirs: float | None) -> float | None:
    """Return ours over theirs, None where either is missing."""
    return None if ours is None or not theirs else ours / theirs


@dataclass(frozen=True, slots=True)
class AgainstPeers:
    """Times against other engines, over the same weights."""

    random: Times
    threads: dict[str, int]
    """peer -> its own best count."""
    gguf: Times
    """Empty where no file was named."""

    def figures(self) -> dict[str, Any]:
        """Return this engine's shares of the peers' times, random weights."""
        return {
            "full_vs_hf": _share_of(self.random, "Hugging Face", ONE),
            "full_vs_llamacpp_q8": _share_of(self.random, "llama.cpp", ONE),
            "step8_vs_llamacpp_q8": _share_of(self.random, "llama.cpp", MANY),
            "prompt_vs_llamacpp_q8": _share_of(self.random, "llama.cpp", PREFILL),
            "prompt_vs_hf": _share_of(self.random, "Hugging Face", PREFILL),
        }

    def gguf_figures(self) -> dict[str, float | None]:
        """Return this engine's shares of llama.cpp's times, on the file."""
        shares = {name: _share_of(self.gguf, "llama.cpp", figure) for name, figure in QWEN_FIGURES.items()}
        short_s = of_peer(self.gguf, "greencode", SHORT)
        return shares | {"step_shortlist_vs_llamacpp_q4": share(short_s, of_peer(self.gguf, "llama.cpp", ONE))}

    def times_ms(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return medians in milliseconds by weights, peer and figure."""
        return {"random_weights": medians_ms(self.random), "gguf": medians_ms(self.gguf)}


def _share_of(times: Times, peer: str, figure: str) -> float | None:
    return share(of_peer(times, "greencode", figure), of_peer(times, peer, figure))


def measure_peers(options: BenchOptions) -> AgainstPeers:
    """Measure peers on a shape with random weights, and on a GGUF file where one is named; print tables."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = random_folder(options.random_weights, Path(temporary))
        times, threads = against_peers(options, folder, CONTEXT)
    print_peers(f"{options.random_weights}, random weights", times, threads, CONTEXT)
    file_times: Times = {}
    if options.gguf is not None:
        file_times, file_threads = against_peers(options, options.gguf, FILE_CONTEXT)
        print_peers(options.gguf.name, file_times, file_threads, FILE_CONTEXT)
    return AgainstPeers(times, threads, file_times)


def measure_modes(options: BenchOptions) -> dict[str, Any]:
    """Measure exits, drafts and reuse of a model against its own full depth; print tables, return the figures."""
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    checkpoint = resolve(options.model)
    engine, tokenizer = load_engine(checkpoint, options.device), CodeTokenizer.of(checkpoint)
    use_this_device(engine)
    count, own_threads = QUICK_PROMPTS if options.quick else PROMPTS, engine.model.threads
    modes = bench_exits.compare(engine, checkpoint, bench_exits.prompts(engine, tokenizer, count), rounds)
    print_modes(engine, modes, own_threads)
    copied = bench_exits.compare(engine, checkpoint, bench_exits.copied_prompts(engine, tokenizer, count), rounds)
    print("In text that was there before:")
    print_modes(engine, copied, own_threads)
    shares = bench_exits.lazy_depth(engine, checkpoint, tokenizer, LAZY_PROMPTS)
    print("prompt never run through all layers: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    trace = bench_exits.prompt_reused(engine, tokenizer, bench_exits.LONG_PROMPT_TOKENS)
    second = bench_exits.second_keystroke(engine, tokenizer, rounds)
    return {
        "default_vs_full": bench_exits.ratio(modes["times_s"], "balanced", "full depth")[0],
        "layer_equivalents_ratio": modes["ratio"],
        "never_exit_vs_no_exits": bench_exits.ratio(modes["times_s"], "never exits", "no exits")[0],
        "verified_vs_full": bench_exits.ratio(modes["times_s"], "accuracy", "full depth")[0],
        "verified_vs_full_copied": bench_exits.ratio(copied["times_s"], "accuracy", "full depth")[0],
        "second_keystroke_vs_first": statistics.median(second),
        "prompt_reused": trace["reused"],
        "exit_check_us": bench_exits.exit_check_us(engine),
        "threads": {f"greencode, {engine.manifest.name}": own_threads},
    }


def run(options: BenchOptions) -> dict[str, Any]:
    """Measure everything, print tables, return the figures of the last line."""
    starts = [bench_server.start(options.model) for _ in range(QUICK_STARTS if options.quick else STARTS)]
    cpu, isa = device_name("cpu"), instruction_sets()
    decide_threads(options.threads or usable_threads())
    print(f"{cpu}, {os.cpu_count()} processors, {' '.join(isa)}")
    peers = measure_peers(options)
    modes = measure_modes(options)
    threads = peers.threads | modes.pop("threads")
    return {
        **peers.figures(),
        **modes,
        "rss_mb": statistics.median(s.rss_bytes for s in starts) / 1e6,
        "initialize_s": statistics.median(s.initialize_s for s in starts),
        "first_completion_s": statistics.median(s.first_completion_s for s in starts),
        "threads": threads,
        "cpu": cpu,
        "isa": isa,
        "qwen": peers.gguf_figures(),
        "install_mb": install_mb(),
        "times_ms": peers.times_ms(),
    }


def instruction_sets() -> list[str]:
    """Return those of this processor that decide which kernels run."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf8").split())
    except OSError:
        return []
    return [name for name in ISA if name in words]


def install_mb() -> float | None:
    """Return the megabytes that `pip install .` downloads into an empty environment; None where none can be had."""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-I", "-m", "pip", "--no-cache-dir", "download", "-q", "-d", temporary, str(root)]
        done = subprocess.run(command, capture_output=True, cwd=temporary)
        if done.returncode:
            return None
        return sum(file.stat().st_size for file in Path(temporary).glob("*.whl")) / 1e6


def print_peers(shape: str, times: Times, threads: Mapping[str, int], context: int) -> None:
    """Print milliseconds by peer and figure: median (quartiles)."""
    figures = tuple(f for f in (PREFILL, ONE, SHORT, MANY, WHOLE) if f != SHORT or any(f in t for t in times.values()))
    print(f"{shape}, after {context} tokens, ms: median (quartiles)")
    print(f"{'':24}{'threads':>8}" + "".join(f"{figure:>26}" for figure in figures))
    for name, by_figure in times.items():
        cells = "".join(f"{_spread(by_figure[figure]) if figure in by_figure else '-':>26}" for figure in figures)
        print(f"{name:24}{threads[name]:8}{cells}")


def print_modes(engine: Engine, compared: Mapping[str, Any], threads: int) -> None:
    """Print milliseconds per token by mode, and the ratio to full depth by round."""
    print(f"{engine.manifest.name}, {compared['tokens']} tokens after warm prompts, {threads} thread(s)")
    for name, times_s in compared["times_s"].items():
        middle, low, high = bench_exits.ratio(compared["times_s"], name, "full depth")
        per_token_ms = 1000 * statistics.median(times_s) / compared["tokens"]
        print(f"{name:24}{per_token_ms:10.3f} ms/token   {middle:.3f} ({low:.3f} to {high:.3f}) of full depth")
    print(f"balanced: layer_equivalents_ratio {compared['ratio']:.3f}")


def _spread(times_s: list[float]) -> str:
    low, middle, high = statistics.quantiles(times_s, n=4) if len(times_s) > 1 else times_s * 3
    return f"{1000 * middle:.2f} ({1000 * low:.2f}-{1000 * high:.2f})"


def main(options: BenchOptions, *, as_json: bool) -> None:
    """Run, and end with one JSON object on a line where it is asked for."""
    figures = run(options)
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
    for name, value in rounded.items():
        print(f"{name:28} {value}")
    if as_json:
        print(json.dumps(rounded))

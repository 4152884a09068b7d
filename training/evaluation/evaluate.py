"""The checkpoint on the frozen held-out lines: what each preference and policy keeps, costs and takes.

    python -m training evaluate --model bundled --json        # --limit 500: 6 minutes on two cores

Replay (training/exits/replay.py) on the exported weights; the speed comparison runs transformers on the same weights
(dequantised) in the same process, in turns. Writes `training/runs/<model>/results.json`, `results.md` and plots.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine, open_source
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import NEVER
from training.data.heldout import HeldOutLine
from training.evaluation import plots, speed
from training.evaluation.metrics import NAMES
from training.evaluation.protocols import CONTEXT_FILES, LINE_TOKENS, PREFERENCES, Task, preferences, score_share
from training.evaluation.results_table import to_markdown
from training.evaluation.risk_control import lower_bound
from training.evaluation.token_classes import exit_histogram
from training.exits.replay import ORACLE
from training.exits.served import prompt_ids
from training.exits.teacher_forcing import DEVICE

SAMPLES = 10
LINES_A_CONTEXT_FILE = 40
"""Fewer lines, fewer files of the paper's protocol, whose prompts are the longest."""
LEAST_SHARE = 32
"""Lines that are worth a process's start."""
Scored = list[tuple[Task, dict[str, dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The frozen lines of one language that are there, and how many are not, or changed."""

    lines: Sequence[HeldOutLine]
    missing: int


def summary(figures: Sequence[dict[str, Any]], layers: int) -> dict[str, Any]:
    """Return one configuration's figures over its completions: shares as 0 to 1.

    `agreement` is the mean over completions, whose lower bound `agreement_lower_95` is Hoeffding-Bentkus's.
    """
    exits = np.concatenate([row["exit_layers"] for row in figures])
    agrees = [np.asarray(row["agrees"], np.float64) for row in figures]
    shares = np.array([float(row.mean()) for row in agrees])
    scores = [row["scores"] for row in figures]
    means = {name: float(np.mean([s[name] for s in scores])) for name in NAMES if name in scores[0]}
    full = sum(row["full_layer_equivalents"] for row in figures)
    return means | {
        "agreement": float(shares.mean()),
        "agreement_lower_95": lower_bound(1 - shares),
        "agreement_by_token": float(np.concatenate(agrees).mean()),
        "completions": len(figures),
        "tokens": len(exits),
        "mean_exit_layer": float(exits.mean()),
        "early_share": float((exits < layers).mean()),
        "layer_equivalents_ratio": sum(row["layer_equivalents"] for row in figures) / full,
    }


def best_fixed_ratio(rows: Mapping[str, dict[str, Any]]) -> float:
    """Return the cost ratio of the cheapest fixed exit that agrees as often as `balanced`; 1.0 for full depth.

    All rows are of the same lines.
    """
    wanted = rows["balanced"]["agreement"]
    fixed = [row for name, row in rows.items() if name.startswith("fixed ") and row["agreement"] >= wanted]
    return min([1.0, *(float(row["layer_equivalents_ratio"]) for row in fixed)])


def of_language(engine: Engine, scored: Scored, held_out: HeldOut) -> dict[str, Any]:
    """Return a language's results: the contract's keys from `rest_of_line`, every protocol below `protocols`."""
    protocols = {
        protocol: _by_config([figures for task, figures in scored if task.protocol == protocol], engine.layers)
        for protocol in dict.fromkeys(task.protocol for task, _ in scored)
    }
    rows = protocols["rest_of_line"]
    lines = [figures for task, figures in scored if task.protocol == "rest_of_line" and task.is_compared]
    compared = _by_config(lines, engine.layers)  # three ratios of the same lines
    filled = [figures["balanced"] for task, figures in scored if task.protocol == "fill_in_the_middle"]
    classes = [name for row in filled for name in row["classes"]]
    exits = [exit_layer for row in filled for exit_layer in row["exit_layers"]]
    return {
        "lines": len(held_out.lines),
        "lines_missing": held_out.missing,
        "full_depth": rows["full_depth"],
        "preferences": {name: rows[name] for name in PREFERENCES},
        "best_fixed_ratio": best_fixed_ratio(compared),
        "oracle_ratio": compared[ORACLE]["layer_equivalents_ratio"],
        "balanced_ratio": compared["balanced"]["layer_equivalents_ratio"],
        "protocols": protocols,
        "exits_by_class": exit_histogram(classes, exits),
    }


def _by_config(completions: Sequence[dict[str, dict[str, Any]]], layers: int) -> dict[str, Any]:
    """Return a summary per configuration, over the completions that it was scored on."""
    names = dict.fromkeys(name for row in completions for name in row)
    return {name: summary([row[name] for row in completions if name in row], layers) for name in names}


def samples(scored: Scored) -> list[dict[str, Any]]:
    """Return random held-out completions as the server would make them by default; drawn by seed, not picked."""
    served = [(task, figures["balanced"]) for task, figures in scored if task.protocol == "fill_in_the_middle"]
    return [
        {
            "file": task.name,
            "before": task.before,
            "reference": task.reference,
            "model": row["text"],
            "exit_layers": row["exit_layers"],
        }
        for task, row in random.Random(0).sample(served, min(SAMPLES, len(served)))
    ]


def _score(checkpoint: Path, held_out: HeldOut, language: str, processes: int) -> Scored:
    """Share the lines among processes; the files of the paper's protocol too, so that none is met twice."""
    lines = list(held_out.lines)
    processes = max(1, min(processes, len(lines) // LEAST_SHARE))
    by_file: dict[str, list[HeldOutLine]] = {}
    for line in lines:
        by_file.setdefault(line.pointer.sha256, []).append(line)
    firsts = [in_file[0] for in_file in by_file.values()]
    count = min(CONTEXT_FILES, len(firsts), max(1, len(lines) // LINES_A_CONTEXT_FILE))
    files = random.Random(0).sample(firsts, count)
    shares = [(checkpoint, lines[i::processes], files[i::processes], language) for i in range(processes)]
    if processes == 1:
        return list(score_share(*shares[0]))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return [row for part in pool.map(score_share, *zip(*shares, strict=True)) for row in part]


def evaluate(checkpoint: Path, held_out: Mapping[str, HeldOut], runs: Path, processes: int = 1) -> dict[str, Any]:
    """Score the checkpoint, write results, report and plots under `runs`; return the results.

    `held_out` holds the lines per language, none of them empty. What is there of the same weights in other languages
    stays, so that a slow model can be scored in a run for each.
    """
    engine, tokenizer = load_engine(checkpoint, DEVICE), CodeTokenizer.of(checkpoint)
    first = next(iter(held_out))
    prompts = [prompt_ids(engine, tokenizer, line.position, LINE_TOKENS) for line in held_out[first].lines]
    speeds = speed.compare(engine, checkpoint, prompts, seed=0)  # minutes: a missing peer is found before hours are
    scored = {language: _score(checkpoint, lines, language, processes) for language, lines in held_out.items()}
    results = {
        "model": engine.manifest.name,
        "weights": open_source(checkpoint).fingerprint(),
        "manifest": _digest(engine.manifest),
        "precision": engine.precision,
        "layers": engine.layers,
        "exit_policy": engine.manifest.exit_policy,
        "configs": {
            language: {
                name: {key: value for key, value in dataclasses.asdict(config).items() if value != NEVER}
                for name, config in preferences(engine.manifest, language).items()
                if config.policy != "never"
            }
            for language in held_out
        },
        "languages": {name: of_language(engine, scored[name], lines) for name, lines in held_out.items()},
        "loss_per_exit": engine.manifest.training.get("metrics", {}).get("exits", {}),
        "threads": engine.model.threads,
        "speed": speeds,
        "samples": {name: samples(rows) for name, rows in scored.items()},
    }
    target = runs / engine.manifest.name
    target.mkdir(parents=True, exist_ok=True)
    results = beside_others(results, target / "results.json")
    (target / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    (target / "results.md").write_text(to_markdown(results), encoding="utf8")
    plots.draw(results, target)
    return results


def _digest(manifest: Manifest) -> str:
    """Return what tells a manifest's agent, tables and prompt format from another's."""
    facts = dataclasses.asdict(dataclasses.replace(manifest, training={}))
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def beside_others(results: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the results with those of other languages that `path` holds for the same model and precision."""
    try:
        earlier = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return results
    same = all(earlier.get(key) == results[key] for key in ("weights", "manifest", "precision"))
    return results | {key: earlier[key] | results[key] for key in ("languages", "configs", "samples") if same}


def contract(results: dict[str, Any]) -> dict[str, Any]:
    """Return what `--json` prints: the model and each language's main figures."""
    keys = ("lines", "lines_missing", "full_depth", "preferences", "best_fixed_ratio", "oracle_ratio")
    languages = {
        name: {key: row[key] for key in keys}
        | {"fill_in_the_middle": {n: row["protocols"]["fill_in_the_middle"][n] for n in ("full_depth", *PREFERENCES)}}
        for name, row in results["languages"].items()
    }
    return {"model": results["model"], "languages": languages}

"""The energy study's figures as JSON, Markdown and a plot, beside the paper's own."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy import stats

LEAST_WINDOW_S = 5.0
"""A shorter window is not called measured (design, I7)."""
NEW_TOKENS = 15
"""As in the paper."""
UNCACHED, FULL = "Hugging Face, no cache", "full depth"
REST = "rest"
PAPER = {
    "no cache": 530.0,
    "no cache, RL exits T = 0.92": 407.0,
    "cache": 113.5,
    "cache, fixed exit 22": 91.2,
    "cache, fixed exit 18": 76.0,
    "cache, fixed exit 8": 38.5,
}
"""Joules of a completion: GREEN-CODE (arXiv 2501.11006) and its repository, Llama-3.2-3B on JavaCorpus, context 0.3, 15
new tokens, float32, one GPU, gross, one run. The published savings are against the first; with the cache on there are
fixed exits only."""
PAPER_CODEBLEU = {
    "no cache": 0.402,
    "no cache, RL exits T = 0.92": 0.380,
    "cache": 0.402,
    "cache, fixed exit 22": 0.372,
    "cache, fixed exit 18": 0.380,
    "cache, fixed exit 8": 0.302,
}


@dataclass(frozen=True, slots=True)
class StudyWindow:
    """One method's replay in one round, or the round's rest."""

    method: str
    round: int
    completions: int
    seconds: float
    busy_s: float
    """Of the seconds, those in which this process had the device; the same where nothing else ran."""
    energy_j: float
    """NaN where they could not be counted."""
    energy_tier: str


def of_one_kind(windows: Sequence[StudyWindow], power_w: float) -> list[StudyWindow]:
    """Return the windows as counted; where any could not be, all of the methods' by the stated power."""
    if all(window.energy_tier != "modelled" for window in windows):
        return list(windows)
    return [
        replace(window, energy_j=power_w * window.busy_s, energy_tier="modelled")
        for window in windows
        if window.method != REST
    ]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of at least two values and its 95 % bounds by Student's t."""
    mean = statistics.fmean(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def summary(windows: Sequence[StudyWindow], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return each method's means with intervals, and its ratios to full depth by round; net joules where counted."""
    by_method: dict[str, dict[int, StudyWindow]] = {name: {} for name in (*names, REST)}
    for window in windows:
        by_method[window.method][window.round] = window
    base, rests = by_method[FULL], by_method.pop(REST)
    idle_w = {number: rest.energy_j / rest.seconds for number, rest in rests.items()}
    out = {}
    for name, rounds in by_method.items():
        each = [w.energy_j / w.completions for w in rounds.values()]
        out[name] = {
            "seconds": interval([w.seconds / w.completions for w in rounds.values()]),
            "busy_s": interval([w.busy_s / w.completions for w in rounds.values()]),
            "energy_j": interval(each),
            "net_j": interval(
                [(w.energy_j - idle_w[number] * w.seconds) / w.completions for number, w in rounds.items()]
            )
            if idle_w
            else None,
            "energy_tier": next(iter(rounds.values())).energy_tier,
            "token_j": interval([joules / NEW_TOKENS for joules in each]),
            "of_full_depth": interval(
                [
                    (w.energy_j / w.completions) / (base[number].energy_j / base[number].completions)
                    for number, w in rounds.items()
                    if number in base
                ]
            ),
            "windows": len(rounds),
        }
    return out


def write(study: dict[str, Any], folder: Path) -> None:
    """Write `energy-study.json`, `.md` and `.png`."""
    (folder / "energy-study.json").write_text(json.dumps(study, indent=1), encoding="utf8")
    (folder / "energy-study.md").write_text(to_markdown(study), encoding="utf8")
    draw(study, folder / "energy-study.png")


def to_markdown(study: dict[str, Any]) -> str:
    """Return the tables."""
    options = study["options"]
    paper = [
        [name, f"{joules:g}", f"{joules / PAPER['no cache']:.3f}", f"{PAPER_CODEBLEU[name]:.3f}"]
        for name, joules in PAPER.items()
    ]
    return "\n\n".join(
        [
            f"# Energy study of {study['model']}",
            f"Made by `python -m training energy-study --model {options['model']}` on {study['device']} "
            f"({study['device_name']}), {study['precision']}, {study['threads']} thread(s). Cold prompts of "
            f"{study['prompt_tokens']:.0f} tokens on average, {study['new_tokens']} new tokens, "
            f"{options['repeats']} windows of at least {options['window_s']:g} s a method, in turns, the order "
            f"shuffled by seed {options['seed']}; each cell is a completion's mean, with its 95 % interval. "
            f"{_joules_are(study)}",
            _table(*_methods(study)),
            "Edit similarity (with the rest of the line) and agreement (with this engine's full depth after "
            f"the same tokens) are over {study['quality_lines']} held-out Python lines; Hugging Face runs the same "
            "weights in float32.",
            *_modelled_time(study["modelled_time"]),
            "## The paper's own figures",
            _table(["method", "energy, J", "of no cache", "CodeBLEU"], paper),
            "GREEN-CODE, Llama-3.2-3B on JavaCorpus, context 0.3, 15 new tokens, float32 on one GPU, gross, one run. "
            "Its savings are published against a model whose cache is off; compare the ratios of the two tables, not "
            "their joules.",
            "![Energy of a completion as a share of Hugging Face without its cache](energy-study.png)\n",
        ]
    )


def _is_counted(study: dict[str, Any]) -> bool:
    return all(row["energy_tier"] != "modelled" for row in study["methods"].values())


def _joules_are(study: dict[str, Any]) -> str:
    if _is_counted(study):
        return "Joules are the device's counter over the window, gross; net is without each round's power at rest."
    return (
        f"There is no energy counter that was the study's alone: joules are a stated {study['power_w']:g} W times the "
        "busy seconds (this process' own; other programs' turns are in the plain ones alone), and say no more than "
        "they do."
    )


def _methods(study: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the methods' table; net joules are in it where they were counted."""
    rows = []
    for name, row in study["methods"].items():
        scores = study["quality"].get(name, {})
        cells = {
            "method": name,
            "ms": _span(row["seconds"], 1e3, 1),
            "busy ms": _span(row["busy_s"], 1e3, 1),
            "energy, J": _span(row["energy_j"], 1.0, 3),
            **({"net, J": _span(row["net_j"], 1.0, 3)} if _is_counted(study) else {}),
            "a token, mJ": _span(row["token_j"], 1e3, 2),
            "of full depth": _span(row["of_full_depth"], 1.0, 3),
            "edit similarity": _share(scores.get("edit_similarity")),
            "agreement": _share(scores.get("agreement")),
            "energy_tier": row["energy_tier"],
        }
        rows.append(cells)
    return list(rows[0]), [list(cells.values()) for cells in rows]


def _modelled_time(comparison: dict[str, float] | None) -> list[str]:
    if comparison is None:
        return []
    return [
        f"Modelled time (`greencode-lsp profile`) over observed, {comparison['completions']:.0f} completions of "
        f"held-out lines: median {comparison['ratio']:.3f}, {comparison['within_15_percent']:.0%} of them within 15 %; "
        f"the share saved is off by {comparison['saved_share_error']:.1%} of full depth."
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _span(bounds: Sequence[float], scale: float, digits: int) -> str:
    mean, low, high = (scale * value for value in bounds)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw(study: dict[str, Any], path: Path) -> None:
    """Draw both as shares of Hugging Face without its cache: ours with intervals, the paper's beside."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, (ours, theirs) = pyplot.subplots(
        1, 2, figsize=(10.5, 4.6), dpi=110, layout="constrained", sharex=True, width_ratios=(3, 2)
    )
    methods = study["methods"]
    base = methods[UNCACHED]["energy_j"][0]
    shares = {name: [value / base for value in row["energy_j"]] for name, row in methods.items()}
    least = min(shares[name][0] for name in shares) / 2
    _bars(ours, shares, f"{study['model']} on {study['device']}, {_tiers(methods)}")
    _bars(theirs, {name: [joules / PAPER["no cache"]] for name, joules in PAPER.items()}, "GREEN-CODE, as published")
    ours.set_xlim(least, 4)
    for axes in (ours, theirs):
        axes.set_xlabel("energy of a completion, share of\nHugging Face without its cache")
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)


def _tiers(methods: dict[str, Any]) -> str:
    return "/".join(sorted({f"energy_tier: {row['energy_tier']}" for row in methods.values()}))


def _bars(axes: Any, shares: dict[str, list[float]], title: str) -> None:
    names = list(shares)[::-1]
    for place, name in enumerate(names):
        value, *bounds = shares[name]
        colour = "tab:grey" if "cache" in name and "fixed" not in name and "RL" not in name else "tab:green"
        if name.startswith(("fixed", "cache, fixed")):
            colour = "tab:blue"
        axes.barh(place, value, color=colour, height=0.66)
        edge = value
        if bounds:
            axes.plot(bounds, [place, place], color="black", linewidth=1.5)
            edge = max(edge, bounds[1])
        axes.text(edge * 1.06, place, f"{value:.3f}", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_xscale("log")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10)

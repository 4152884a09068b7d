"""What README.md says of time, memory, rounding and energy, from `bench*.json`, `soak.json` and the like.

A bench is of one kind of processor, read off the instruction sets it names; kinds stand side by side, and those that
are missing are named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.evaluation.artefacts import Artefacts
from training.evaluation.kept_study import cells
from training.markdown import table

KINDS = {"AVX-512": "avx512f", "AVX2": "avx2", "NEON": "asimddp"}
"""Kind of processor -> the instruction set that tells it; the first that is there counts."""
Bench = Mapping[str, Any]
Cell = Callable[[Bench], str]


def kind_of(bench: Bench) -> str:
    """Return a bench's kind of processor."""
    return next((kind for kind, flag in KINDS.items() if flag in bench["isa"]), "other")


def speed(artefacts: Artefacts) -> str:
    """Return a table with a column per model and processor that were measured, and the kinds that were not."""
    order = [*KINDS, "other"]
    read = sorted(artefacts.read("bench*.json"), key=lambda pair: order.index(kind_of(pair[1])))
    if not read:
        return ""
    benches = [bench for _, bench in read]
    rows = [[label, *(cell(bench) or "-" for bench in benches)] for label, cell in ROWS if any(map(cell, benches))]
    missing = [kind for kind in KINDS if kind not in map(kind_of, benches)]
    parts = [table(["", *(f"`{model}`, {kind_of(bench)} ({bench['cpu']})" for model, bench in read)], rows)]
    precisions = dict.fromkeys(_precision(bench) for bench in benches)
    parts += [ROUNDED.format(precision) for precision in precisions if precision]
    if missing:
        parts.append(f"Not measured yet: {' and '.join(missing)}.")
    return "\n\n".join(parts)


ROUNDED = (
    "Qwen runs in `{}` here, which rounds further than its file (what that loses is below); llama.cpp runs the file as "
    "it is."
)


def _precision(bench: Bench) -> str:
    """Return the precision in which the GGUF file was run; empty where that is not stated."""
    names = bench.get("times_ms", {}).get("gguf", {})
    return next((name.removeprefix("greencode ") for name in names if name.startswith("greencode ")), "")


def _against_peers(weights: str, figure: str, ratios: Mapping[str, Sequence[str]]) -> Cell:
    """Return a cell of this engine's milliseconds and, for each peer, the share of its time."""

    def cell(bench: Bench) -> str:
        times_ms = bench.get("times_ms", {}).get(weights, {})
        ours = [
            figures[figure] for name, figures in times_ms.items() if name.startswith("greencode") and figure in figures
        ]
        shares = [(peer, _at(bench, path)) for peer, path in ratios.items()]
        texts = [_ms(min(ours))] if ours else []
        return ", ".join(texts + [f"{share:.2f} of {peer}" for peer, share in shares if share is not None])

    return cell


def _ratio(key: str) -> Cell:
    return lambda bench: "" if bench.get(key) is None else f"{bench[key]:.2f}"


def _balanced(bench: Bench) -> str:
    share, modelled = bench.get("default_vs_full"), bench.get("layer_equivalents_ratio")
    return "" if share is None else f"{share:.2f}" + ("" if modelled is None else f" ({modelled:.2f})")


def _scaled(key: str, unit: str, digits: int, scale: float = 1.0) -> Cell:
    return lambda bench: "" if bench.get(key) is None else f"{scale * bench[key]:.{digits}f} {unit}"


def _at(bench: Bench, path: Sequence[str]) -> float | None:
    value: Any = bench
    for key in path:
        value = (value or {}).get(key)
    return value if value is None else float(value)


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


_LLAMA_Q8, _HF = "llama.cpp (Q8_0)", "Hugging Face"
ROWS: tuple[tuple[str, Cell], ...] = (
    (
        "Qwen2.5-Coder-0.5B from its Q4_K_M file, one token",
        _against_peers("gguf", "step", {"llama.cpp": ("qwen", "step_vs_llamacpp_q4")}),
    ),
    (
        "the same, said by its shortlist",
        _against_peers("gguf", "step, shortlist", {"llama.cpp": ("qwen", "step_shortlist_vs_llamacpp_q4")}),
    ),
    (
        "the same, eight tokens in one step",
        _against_peers("gguf", "8-token step", {"llama.cpp": ("qwen", "step8_vs_llamacpp_q4")}),
    ),
    (
        "the same, a cold prompt of 448 tokens",
        _against_peers("gguf", "cold prompt", {"llama.cpp": ("qwen", "prompt_vs_llamacpp_q4")}),
    ),
    (
        "a model of 57 million weights in 8 bits, one token",
        _against_peers("random_weights", "step", {_LLAMA_Q8: ("full_vs_llamacpp_q8",), _HF: ("full_vs_hf",)}),
    ),
    (
        "the same, eight tokens in one step",
        _against_peers("random_weights", "8-token step", {_LLAMA_Q8: ("step8_vs_llamacpp_q8",)}),
    ),
    (
        "the same, a cold prompt of 512 tokens",
        _against_peers(
            "random_weights", "cold prompt", {_LLAMA_Q8: ("prompt_vs_llamacpp_q8",), _HF: ("prompt_vs_hf",)}
        ),
    ),
    ("the model: `balanced`, of its own full depth (by layer-equivalents)", _balanced),
    ("`accuracy` (lossless), of full depth", _ratio("verified_vs_full")),
    ("`accuracy`, of full depth, in text that was there before", _ratio("verified_vs_full_copied")),
    ("exits never taken, of one graph without exits", _ratio("never_exit_vs_no_exits")),
    ("an exit check", _scaled("exit_check_us", "microseconds", 0)),
    ("a second keystroke, of the first's time", _scaled("second_keystroke_vs_first", "%", 0, 100)),
    ("prompt tokens found in the cache while one types", _scaled("prompt_reused", "%", 1, 100)),
    ("server: start to `initialize`", _scaled("initialize_s", "s", 2)),
    ("start to the first completion", _scaled("first_completion_s", "s", 2)),
    ("resident memory", _scaled("rss_mb", "MB", 0)),
    ("`pip install .` downloads", _scaled("install_mb", "MB", 0)),
)


def typing(artefacts: Artefacts) -> str:
    """Return what typing at human speed was like, of every model that was soaked at full size."""
    rows, notes = [], []
    for _, soak in artefacts.read("soak.json"):
        figures = soak["parts"].get("typing") if soak["scale"] == 1 else None
        if figures is None:
            continue
        rows.append([f"`{soak['model']}`", soak["cpu"], *(read(figures) for _, read in TYPED)])
        notes += _stress(soak["model"], soak["parts"])
    head = ["model", "processor", *(label for label, _ in TYPED)]
    return "\n\n".join([table(head, rows), *notes]) if rows else ""


def _figure(name: str, form: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], str]:
    return lambda figures: "-" if figures.get(name) is None else form.format(scale * figures[name])


TYPED: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("keystrokes", _figure("keystrokes", "{:.0f}")),
    ("median answer", _figure("answer p50, ms", "{:.0f} ms")),
    ("not typed along: median", _figure("answers not typed through, p50, ms", "{:.0f} ms")),
    ("95th percentile", _figure("answers not typed through, p95, ms", "{:.0f} ms")),
    ("typed along: 95th percentile", _figure("typed-through answer p95, ms", "{:.1f} ms")),
    ("tokens computed in vain", _figure("wasted tokens, share", "{:.1f} %", 100)),
)


def _stress(model: str, parts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return sentences on cancels and on traffic, where they were part of the soak."""
    cancels, traffic, notes = parts.get("cancels"), parts.get("traffic"), []
    if cancels:
        decode, prefill = (cancels[f"cancel to idle in {where}, p95, ms"] for where in ("decode", "prefill"))
        notes.append(
            f"`{model}`: a cancel is heard within {decode:.1f} ms while decoding and {prefill:.1f} ms in the prompt "
            "(95th percentiles)."
        )
    if traffic:
        growth = traffic["growth of the server, share"]
        notes.append(f"{traffic['requests']:,.0f} requests grow the server's memory by {growth:.1%}.")
    return [" ".join(notes)] if notes else []


def precision(artefacts: Artefacts) -> str:
    """Return what rounding the weights loses, by model and precision."""
    measured = list(artefacts.read("precision.json"))
    names = list(dict.fromkeys(name for _, one in measured for name in one["precisions"]))
    rows = [
        [
            f"`{model}`",
            f"{one['tokens']:,}",
            *(f"{one['precisions'][n]['argmax_kept']:.3f}" if n in one["precisions"] else "-" for n in names),
        ]
        for model, one in measured
    ]
    if not rows:
        return ""
    intro = (
        "`python -m training precision --model FILE`: the share of tokens of the standard library whose likeliest "
        "successor is the one that the same file gives in float32:"
    )
    return f"{intro}\n\n{table(['model', 'tokens', *(f'`{name}`' for name in names)], rows)}"


def lossless(artefacts: Artefacts) -> str:
    """Return how often lossless decoding differs from full depth, by model and precision (I4)."""
    rows = [
        [
            f"`{model}`",
            f"`{name}`",
            f"{row['prompts']:,} of {row['tokens'] // row['prompts']} tokens",
            f"{row['mismatches']:,}",
            f"{row['largest_gap']:.3f}" if row["mismatches"] else "-",
        ]
        for model, measured in artefacts.read("lossless.json")
        for name, row in measured.items()
    ]
    if not rows:
        return ""
    head = ("model", "precision", "completions", "differ", "largest difference of the two tokens' logits")
    intro = "Lossless decoding (`accuracy`) against full depth; a difference has to be a near-tie of two tokens:"
    return f"{intro}\n\n{table(head, rows)}"


STUDIED = {
    "full depth": "full depth",
    "verified, preference 1": "`accuracy`",
    "preference 0.5": "`balanced`",
    "preference 0": "`energy`",
    "Hugging Face, cache": "Hugging Face `generate`",
    "Hugging Face, no cache": "the same without its cache",
}
"""Methods of the study -> what the README calls them."""


def energy_study(artefacts: Artefacts) -> str:
    """Return the joules of a cold completion by method; nothing of a study that does not say which engine it ran."""
    parts = []
    for folder, study in artefacts.read("energy-study.json"):
        if "engine" not in study:
            continue
        methods = study["methods"]
        rows = [
            [
                label,
                _spread(methods[name]["energy_j"], 2),
                _spread(methods[name]["of_full_depth"], 2),
                *_quality(study, name),
            ]
            for name, label in STUDIED.items()
            if name in methods
        ]
        tiers = " and ".join(sorted({row["energy_tier"] for row in methods.values()}))
        parts.append(
            f"`{study['model']}` on {study['device_name']}, cold prompts of {study['prompt_tokens']:.0f} tokens, "
            f"{study['new_tokens']} new ones; joules {tiers}, 95 % intervals ([all]"
            f"(training/runs/{folder}/energy-study.md)):\n\n"
            + table(("", "joules", "of full depth", "tokens kept", "edit similarity"), rows)
        )
    return "\n\n".join(parts)


def _spread(values: Sequence[float], digits: int) -> str:
    mean, low, high = values
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _quality(study: Mapping[str, Any], name: str) -> list[str]:
    quality = study["quality"].get(name, {})
    return [f"{quality[key]:.3f}" if key in quality else "-" for key in ("agreement", "edit_similarity")]


def kept(artefacts: Artefacts) -> str:
    """Return what a right character shown costs at each preference, of every model that was asked."""
    rows = []
    for _, study in artefacts.read("kept.json"):
        for language, ways in study["languages"].items():
            for name, row in ways.items():
                cost, share = cells(row)
                shown = f"{row['kept_characters']:,} of {row['shown_characters']:,}"
                rows.append(
                    [
                        f"`{study['model']}`",
                        f"{language.capitalize()} ({row['cursors']} lines)",
                        name,
                        shown,
                        cost,
                        share,
                    ]
                )
    if not rows:
        return ""
    head = ("model", "language", "preference", "characters kept of those shown", "a kept character", "of full depth")
    return (
        "`python -m training kept`: held-out lines as the server completes them, prompts read before. A character "
        "is kept that is right and before the first error; full depth copies nothing and ends no line early.\n\n"
        f"{table(head, rows)}"
    )

"""Results as Markdown: every policy by protocol, the paper's metrics, speed, and the samples as they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.evaluation.protocols import PREFERENCES
from training.markdown import table

TITLES = {
    "rest_of_line": "Rest of the line, only the text before the cursor given",
    "fill_in_the_middle": "Rest of the line, prompt as served (text after the cursor given too)",
}


def _code(text: str) -> str:
    """Return a code span that stays inside a table cell."""
    if not text:
        return "(nothing)"
    span = f"`` {text} ``" if "`" in text else f"`{text}`"
    return span.replace("|", "\\|").replace("\n", " ")


def _lines(rows: dict[str, Any], layers: int) -> str:
    cells = [
        [
            name.replace("_", " "),
            f"{row['exact_match']:.3f}",
            f"{row['edit_similarity']:.3f}",
            f"{row['agreement']:.3f} (>= {row['agreement_lower_95']:.3f})",
            f"{row['mean_exit_layer']:.1f} of {layers}",
            f"{row['layer_equivalents_ratio']:.3f}",
        ]
        for name, row in rows.items()
    ]
    head = ("policy", "exact match", "edit similarity", "agreement (95 % bound)", "mean exit layer", "cost ratio")
    counts = [int(row["completions"]) for row in rows.values()]
    compared = f"\n\nFixed exits and the policies' other thresholds: on {min(counts)} of the lines."
    return table(head, cells) + (compared if min(counts) < max(counts) else "")


def _context(rows: dict[str, Any]) -> str:
    names = ("codebleu", "rouge_l", "chrf", "bleu", "exact_match", "agreement", "layer_equivalents_ratio")
    cells = [[name.replace("_", " "), *(f"{row[key]:.3f}" for key in names)] for name, row in rows.items()]
    head = ("policy", "CodeBLEU", "ROUGE-L", "chrF", "BLEU", "exact match", "agreement", "cost ratio")
    return table(head, cells)


def _language(name: str, row: dict[str, Any], layers: int) -> str:
    parts = [f"## {name.capitalize()}", f"{row['lines']} held-out lines ({row['lines_missing']} missing)."]
    parts += [f"{TITLES[p]}:\n\n{_lines(row['protocols'][p], layers)}" for p in TITLES]
    if "context" in row["protocols"]:
        note = "The paper's protocol, 0.2 to 0.6 of a file given, 15 tokens, means of sentence scores:"
        parts.append(f"{note}\n\n{_context(row['protocols']['context'])}")
    balanced, oracle = row["balanced_ratio"], row["oracle_ratio"]
    if balanced >= oracle:  # else a shortlist spared what no exit can, and there is no such gap
        gap = row["best_fixed_ratio"] - oracle
        closed = (row["best_fixed_ratio"] - balanced) / gap if gap > 0 else 0.0
        parts.append(
            f"Best fixed exit that agrees as often as balanced: {row['best_fixed_ratio']:.3f}; oracle: {oracle:.3f}; "
            f"balanced, on the same lines, {balanced:.3f}: it closes {closed:.0%} of the gap between them."
        )
    parts.append(f"![quality](quality-{name}.png) ![exits](exits-{name}.png)")
    return "\n\n".join(parts)


def _speed(results: dict[str, Any]) -> str:
    speed = results["speed"]
    names = {
        "hugging_face": "Hugging Face `generate`, float32",
        "llama_cpp": "llama.cpp, the same file",
        "full_depth": "full depth",
        "with_exits": "as served (0.5)",
    }
    rows = [[names[name], f"{rate:.0f}"] for name, rate in speed["tokens_per_s"].items()]
    note = (
        f"{speed['new_tokens']} tokens after prompts of {speed['prompt_tokens']:.0f} on average, prompt included, "
        f"the engine as served, {results['threads']} thread(s), in turns, median of {speed['rounds']} rounds."
    )
    return f"## Speed\n\n{note}\n\n{table(('engine', 'tokens/s'), rows)}"


def _samples(language: str, samples: Sequence[dict[str, Any]]) -> str:
    rows = [
        [_code(s["before"]), _code(s["reference"]), _code(s["model"]), " ".join(map(str, s["exit_layers"]))]
        for s in samples
    ]
    head = ("before the cursor", "reference", "model", "exit layers")
    return f"## Random completions, {language}\n\nAt the default preference, drawn by seed.\n\n{table(head, rows)}"


def to_markdown(results: dict[str, Any]) -> str:
    """Return the whole report."""
    names = ", ".join(f"{name} {preference:g}" for name, preference in PREFERENCES.items())
    head = (
        f"# {results['model']}\n\nPolicy `{results['exit_policy']}`; preferences: {names}. Cost is decoding in "
        "layer-equivalents against full depth; agreement is the mean share of a completion's tokens that equal the "
        "full model's after the same tokens."
    )
    sections = [_language(name, row, results["layers"]) for name, row in results["languages"].items()]
    if results["loss_per_exit"]:
        sections.append("![loss per exit](loss.png)")
    sections.append(_speed(results))
    sections += [_samples(language, drawn) for language, drawn in results["samples"].items()]
    return head + "\n\n" + "\n\n".join(sections) + "\n"

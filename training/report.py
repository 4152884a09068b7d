"""Results as Markdown, for the README: tables by exit and by preference, speed, and the samples as they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str) -> str:
    """Return a code span that stays inside a table cell."""
    if not text:
        return "(nothing)"
    span = f"`` {text} ``" if "`" in text else f"`{text}`"
    return span.replace("|", "\\|")


def _exits(results: dict[str, Any]) -> str:
    forced = results["teacher_forced"]
    rows = [
        [
            str(row["exit_layer"]),
            f"{row['token_accuracy']:.3f}",
            f"{row['agreement']:.3f}",
            f"{row['agreement_without_whitespace']:.3f}",
        ]
        for row in forced["exits"]
    ]
    head = ("exit after layer", "token accuracy", "agreement with full depth", "the same without whitespace tokens")
    note = f"Teacher-forced on the rest of {results['lines']} held-out lines, {forced['tokens']:,} tokens"
    return f"{note} ({results['lines_missing']} lines missing).\n\n{_table(head, rows)}"


def _preferences(results: dict[str, Any]) -> str:
    rows = [
        [
            f"{name} ({row['preference']:g})",
            f"{row['mean_exit_layer']:.1f} of {results['layers']}",
            f"{row['early_share']:.2f}",
            f"{row['agreement']:.3f}",
            f"{row['layer_equivalents_ratio']:.3f}",
            f"{row['exact_match']:.3f}",
            f"{row['edit_similarity']:.3f}",
        ]
        for name, row in results["preferences"].items()
    ]
    head = ("preference", "mean exit layer", "early", "agreement", "cost ratio", "exact match", "edit similarity")
    return f"Free-running to the end of the line, policy `{results['exit_policy']}`.\n\n{_table(head, rows)}"


def _speed(results: dict[str, Any]) -> str:
    speed = results["speed"]
    names = {"hugging_face": "Hugging Face `generate`", "full_depth": "full depth", "with_exits": "with exits (0.5)"}
    rows = [[names[name], f"{rate:.0f}"] for name, rate in speed["tokens_per_s"].items()]
    note = (
        f"{speed['new_tokens']} tokens after prompts of {speed['prompt_tokens']:.0f} on average, prompt included, "
        f"float32, {results['threads']} thread(s), in turns, median of {speed['rounds']} rounds."
    )
    return f"{note}\n\n{_table(('engine', 'tokens/s'), rows)}"


def _samples(results: dict[str, Any]) -> str:
    rows = [
        [
            _code(sample["before"]),
            _code(sample["author"]),
            _code(sample["model"]),
            " ".join(map(str, sample["exit_layers"])),
        ]
        for sample in results["samples"]
    ]
    head = ("before the cursor", "author", "model", "exit layers")
    return f"Ten random held-out completions, drawn by seed.\n\n{_table(head, rows)}"


def to_markdown(results: dict[str, Any]) -> str:
    """Return the whole report."""
    sections = [_exits(results), _preferences(results), _speed(results), _samples(results)]
    return f"# {results['model']}\n\n" + "\n\n".join(sections) + "\n"

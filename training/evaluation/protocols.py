"""The three protocols of evaluation, and what a completion is scored for.

- `rest_of_line`: only what stands before the cursor is given; greedy to the end of the line (CodeXGLUE's line level).
- `fill_in_the_middle`: the prompt the server builds, suffix included; greedy to the end of the line. Both are healed.
- `context`: the paper's. The first 0.2 to 0.6 of a file's tokens (their end, where the window is shorter), then 15
  tokens, against the next 15 of the file (GREEN-CODE, arXiv 2501.11006).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from greencode_lsp.models.manifest import Manifest
from greencode_lsp.preference import decode_config
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig
from greencode_lsp.settings import Settings
from training.data.cursors import SourcePosition
from training.data.heldout import HeldOutLine
from training.evaluation import metrics
from training.evaluation.calibrate import LoadedCheckpoint
from training.evaluation.sweep import load_checkpoint
from training.evaluation.token_classes import token_class
from training.exits.replay import ORACLE, ReplayedCompletion, Tree
from training.exits.served import Served, serve

LINE_TOKENS = Settings().max_new_tokens
"""Generated at most for the rest of a line."""
CONTEXT_TOKENS = 15
FRACTIONS = (0.2, 0.3, 0.4, 0.5, 0.6)
CONTEXT_FILES = 12
CONTEXT_WINDOW = 2048
"""Of a longer context its end, as of one that is longer than the model's window: a CPU reads some 600 tokens/s."""
PREFERENCES = {"accuracy": 1.0, "balanced": 0.5, "energy": 0.0}
CURVE_POINTS = 6
"""Thresholds of a policy that are drawn beside those of the preferences."""
COMPARED_EVERY = 5
"""Fixed exits and the points of the curves are scored on each n-th line; preferences and the oracle on all."""


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt and its reference text."""

    protocol: str
    language: str
    prompt: Sequence[int]
    reference: str
    name: str
    """The file and place, for people."""
    before: str = ""
    """The line up to the cursor."""
    is_compared: bool = False
    """Scored under everything, not the preferences and the oracle alone."""

    served: Served | None = None
    """Of the first two protocols, whose completion ends with its line."""


def preferences(manifest: Manifest, language: str) -> dict[str, DecodeConfig]:
    """Return full depth and the configuration of each named preference, by name."""
    named = {n: decode_config(Settings(preference=p), manifest, language) for n, p in PREFERENCES.items()}
    return {"full_depth": DecodeConfig(), **named}


def compared(manifest: Manifest, language: str) -> dict[str, DecodeConfig]:
    """Return what the preferences are compared with: every fixed exit, and points of each policy's table."""
    out = {f"fixed {e}": DecodeConfig("fixed", e - 0.5, copies=True) for e in manifest.exits[:-1]}
    tables = manifest.calibration.get(language) or next(iter(manifest.calibration.values()), {})
    for policy in ("agent", "confidence"):
        rows = tables.get(policy, ())
        step = max(1, len(rows) // CURVE_POINTS)
        out |= {
            f"{policy} {row.threshold:.3f}": DecodeConfig(policy, row.threshold, copies=row.copies)
            for row in rows[::step]
        }
    return out


def tasks_of(loaded: LoadedCheckpoint, line: HeldOutLine, language: str, is_compared: bool) -> Iterator[Task]:
    """Yield a held-out line as the first two protocols ask it."""
    position = line.position
    where = f"{line.pointer.package} {line.pointer.version}, {line.pointer.file}:{line.pointer.line}"
    before = position.text[: position.offset]
    asked = ((before, "rest_of_line"), (position.text, "fill_in_the_middle"))
    reference, shown = position.rest_of_line.rstrip(), before.rsplit("\n", 1)[-1].lstrip()
    for text, protocol in asked:
        asked_at = SourcePosition(text, position.offset, language=language, path=line.pointer.file)
        served = serve(loaded.engine, loaded.tokenizer, asked_at, LINE_TOKENS, shape="line")
        yield Task(protocol, language, served.prompt_ids, reference, where, shown, is_compared, served)


def context_tasks(loaded: LoadedCheckpoint, lines: Sequence[HeldOutLine], language: str) -> Iterator[Task]:
    """Yield the paper's prompts, in the files of these lines."""
    texts = {f"{line.pointer.package}, {line.pointer.file}": line.position.text for line in lines}
    opening = loaded.tokenizer.fim(loaded.engine.manifest.fim).opening
    window = min(CONTEXT_WINDOW, loaded.engine.max_positions) - CONTEXT_TOKENS - 1
    for name, text in texts.items():
        ids = loaded.tokenizer.encode(text)
        for fraction in FRACTIONS:
            start = int(len(ids) * fraction)
            following = ids[start : start + CONTEXT_TOKENS]
            if start and len(following) == CONTEXT_TOKENS:
                prompt = [*opening, *ids[:start]][-window:]
                yield Task("context", language, prompt, loaded.tokenizer.decode(following), f"{name} at {fraction}")


def score(loaded: LoadedCheckpoint, task: Task) -> dict[str, dict[str, Any]]:
    """Complete a task under every configuration that is due; return figures by the configuration's name."""
    tree = Tree(loaded.engine, loaded.grower, task.prompt)
    manifest = loaded.engine.manifest
    due = preferences(manifest, task.language) | {ORACLE: DecodeConfig(ORACLE, 0.0, copies=True)}
    if task.is_compared:
        due |= compared(manifest, task.language)
    out: dict[str, dict[str, Any]] = {}
    for name, config in due.items():
        if task.served is not None:
            completion = tree.serve(task.served, config)
            text = task.served.first_line(completion.token_ids)
        else:
            completion = tree.complete(config, CONTEXT_TOKENS)
            text = loaded.tokenizer.decode(list(completion.token_ids))
        out[name] = _figures(completion) | {"text": text, "scores": _scores(task, text)}
        if name == "balanced":
            out[name]["classes"] = _classes(loaded.tokenizer, completion, task)
    return out


def _scores(task: Task, text: str) -> dict[str, float]:
    if task.served is not None:
        exact, edit = metrics.exact_match(text, task.reference), metrics.edit_similarity(text, task.reference)
        return {"exact_match": exact, "edit_similarity": edit}
    return metrics.all_scores(text, task.reference, task.language)


def _figures(completion: ReplayedCompletion) -> dict[str, Any]:
    return {
        "agrees": [int(agrees) for agrees in completion.agrees],
        "exit_layers": [step.exit_layer for step in completion.steps],
        "layer_equivalents": completion.work.layer_equivalents,
        "full_layer_equivalents": completion.work.full_depth_layer_equivalents,
    }


def _classes(tokenizer: CodeTokenizer, completion: ReplayedCompletion, task: Task) -> list[str]:
    """Return the class of each emitted token."""
    respelled = task.served.healed.dropped.decode("utf-8", "replace") if task.served else ""
    classes, text = [], task.before.removesuffix(respelled)
    for token in completion.token_ids:
        piece = tokenizer.decode([token])
        classes.append(token_class(piece, task.language, text))
        text += piece
    return classes


def score_share(checkpoint: Path, share: Sequence[HeldOutLine], files: Sequence[HeldOutLine], language: str) -> Any:
    """Score some lines and the files of others, in one process and thread: [(task, figures by configuration)]."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a model this small is slower on more, and the other core has its own share
    try:
        loaded = load_checkpoint(checkpoint, checkpoint, LINE_TOKENS)
        marked = ((line, index % COMPARED_EVERY == 0) for index, line in enumerate(share))
        tasks = [task for line, is_compared in marked for task in tasks_of(loaded, line, language, is_compared)]
        tasks += context_tasks(loaded, files, language)
        return [(replace(task, served=None), score(loaded, task)) for task in tasks]  # another process takes them
    finally:
        torch.set_num_threads(threads)

"""HumanEval infilling (Bavarian et al., arXiv 2207.14255): functions with a line, some lines or a span taken out.

    python -m training evaluate --model qwen2.5-coder-0.5b --infilling FILE --json
    python -m training evaluate --gguf FILE.gguf --infilling FILE --json       # the same through llama.cpp
    python -m training heldout --infilling FILE                                # one of held-out functions

FILE has a JSON object a line with `prompt`, `suffix` and `canonical_solution`; `.gz` is read too. The server's prompt,
healing and end of a completion, and as many lines of it as the solution has. Nothing that a model writes is run, so
`test` is not looked at: exact match and edit similarity are reported, not pass@1.
"""

from __future__ import annotations

import ast
import gzip
import json
import random
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from greencode_lsp.completion.filters import Shape
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.errors import CorpusError
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig
from training.data.cursors import SourcePosition
from training.evaluation.metrics import edit_similarity, exact_match
from training.evaluation.peer_lines import Logits, complete_lines
from training.evaluation.protocols import preferences
from training.exits.rollout import emit_served
from training.exits.served import serve
from training.exits.teacher_forcing import DEVICE

TOKENS_A_LINE = 64
MAX_TOKENS = 256
LANGUAGE = "python"
KEYS = ("prompt", "suffix", "canonical_solution")
WRITTEN_TASKS = 164
"""As many as HumanEval has functions."""
BODY_LINES = (4, 30)


@dataclass(frozen=True, slots=True)
class InfillingTask:
    """A function with a part taken out."""

    name: str
    position: SourcePosition
    """The cursor where the part was."""

    @property
    def reference(self) -> str:
        """The part."""
        return self.position.asked

    @property
    def lines(self) -> int:
        """Of the part."""
        return self.reference.count("\n") + 1

    @property
    def tokens(self) -> int:
        """At most generated."""
        return min(MAX_TOKENS, TOKENS_A_LINE * self.lines)


def read(path: Path, limit: int | None = None) -> list[InfillingTask]:
    """Return the tasks of a file, or the first ones. Raises CorpusError where it is not one of such a file's form."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf8") as file:
            tasks = [_task(json.loads(line), number) for number, line in enumerate(file, 1) if line.strip()]
    except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise CorpusError(
            f"{path} is no infilling file ({type(error).__name__}: {error}); it has a JSON object a line with the "
            f"texts {', '.join(KEYS)}."
        ) from error
    if not tasks:
        raise CorpusError(f"{path} holds no task; name another file.")
    return tasks[:limit]


def _task(row: dict[str, Any], number: int) -> InfillingTask:
    prefix, suffix, solution = (row[key] for key in KEYS)
    if not all(isinstance(text, str) for text in (prefix, suffix, solution)) or not solution.strip():
        raise TypeError(f"line {number} has something else than texts, or no solution")
    if solution.endswith("\n"):  # the newline stands in the document: an editor shows the cursor on an empty line
        solution, suffix = solution[:-1], "\n" + suffix
    position = SourcePosition(prefix + solution + suffix, len(prefix), language=LANGUAGE, hidden=solution)
    return InfillingTask(str(row.get("task_id", number)), position)


def complete(engine: Engine, tokenizer: CodeTokenizer, task: InfillingTask, config: DecodeConfig) -> str:
    """Return what the server would write, as many lines as were taken out."""
    shape: Shape = "line" if task.lines == 1 else "block"
    served = serve(engine, tokenizer, task.position, task.tokens, shape)
    emitted = [step.token_id for step in emit_served(engine, served, config)]
    return _first_lines(served.text(emitted), task.lines)


def evaluate(checkpoint: Path, tasks: Sequence[InfillingTask]) -> dict[str, Any]:
    """Return the scores at full depth and at each named preference."""
    engine, tokenizer = load_engine(checkpoint, DEVICE), CodeTokenizer.of(checkpoint)
    configs = preferences(engine.manifest, LANGUAGE)
    done: dict[DecodeConfig, dict[str, float]] = {}  # without exits all are full depth
    for config in configs.values():
        if config not in done:
            done[config] = _scores(tasks, [complete(engine, tokenizer, task, config) for task in tasks])
    full, *_ = configs
    return {
        "model": engine.manifest.name,
        "precision": engine.precision,
        "tasks": len(tasks),
        full: done[configs[full]],
        "preferences": {name: done[config] for name, config in configs.items() if name != full},
    }


def evaluate_peer(model: Logits, tokenizer: CodeTokenizer, tasks: Sequence[InfillingTask]) -> dict[str, float]:
    """Return the scores of another engine, with this project's prompts and healing, filters left out."""
    return _scores(tasks, [complete_lines(model, tokenizer, t.position, t.lines, t.tokens) for t in tasks])


def _scores(tasks: Sequence[InfillingTask], texts: Sequence[str]) -> dict[str, float]:
    pairs = [(text, task.reference) for task, text in zip(tasks, texts, strict=True)]
    return {
        "exact_match": float(np.mean([exact_match(*pair) for pair in pairs])),
        "edit_similarity": float(np.mean([edit_similarity(*pair) for pair in pairs])),
    }


def _first_lines(text: str, count: int) -> str:
    return "\n".join(text.split("\n")[:count])


def draw(texts: Sequence[str], count: int = WRITTEN_TASKS, seed: int = 0) -> list[dict[str, str]]:
    """Return rows of a file: a line of code taken out of each of so many functions of these texts."""
    rng = random.Random(seed)
    functions = [function for text in texts for function in _functions(text)]
    rows = []
    for number, (name, lines, body) in enumerate(rng.sample(functions, min(count, len(functions)))):
        taken = rng.choice([at for at in range(body, len(lines)) if lines[at].strip()])
        parts = lines[:taken], lines[taken : taken + 1], lines[taken + 1 :]
        prompt, solution, suffix = ("".join(line + "\n" for line in part) for part in parts)
        rows.append({"task_id": f"SingleLineInfilling/{name}/{number}", "entry_point": name})
        rows[-1] |= dict(zip(KEYS, (prompt, suffix, solution), strict=True))
    return rows


def _functions(text: str) -> Iterator[tuple[str, list[str], int]]:
    """Yield name, lines and the first line of the body, behind the docstring, of each function of a fair length."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and len(node.body) > 1:
            lines = textwrap.dedent("\n".join(text.split("\n")[node.lineno - 1 : node.end_lineno])).split("\n")
            body = node.body[1].lineno - node.lineno
            if BODY_LINES[0] <= len(lines) - body <= BODY_LINES[1]:
                yield node.name, lines, body

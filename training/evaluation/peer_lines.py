"""Held-out lines through llama.cpp on a GGUF file, with this project's prompts and healing (extra `bench`).

    python -m training evaluate --gguf FILE --limit 100 --languages python --json
    python -m training evaluate --gguf FILE --precision int8 --json      # this engine, every layer, by the same code

What a line is scored on is what the model writes of it, filters and early stopping left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.load import load_engine
from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.fim import document_name
from greencode_lsp.prompt.heal import Healed, heal
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.settings import Settings
from training.data.cursors import SourcePosition
from training.data.heldout import HeldOutLine
from training.evaluation.llamacpp_peer import LlamaCpp
from training.evaluation.metrics import edit_similarity, exact_match
from training.exits.teacher_forcing import DEVICE

PROMPT_TOKENS = Settings().max_prompt_tokens
LINE_TOKENS = Settings().max_new_tokens
"""At most, beside those that spell healed text again, as in the server."""
THREADS = 2


class Logits(Protocol):
    """A model that says what may follow."""

    def after(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits [V] of the id after `ids`."""
        ...


class LlamaLogits:
    """llama.cpp; what two prompts begin with is computed once."""

    def __init__(self, file: Path, threads: int = THREADS) -> None:
        self._peer, self._ids = LlamaCpp(file), list[int]()
        self._peer.set_threads(threads)

    def after(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """See `Logits`."""
        kept = 0
        while kept < min(len(self._ids), len(ids) - 1) and self._ids[kept] == ids[kept]:
            kept += 1
        self._peer.crop(kept)
        self._ids = list(ids)
        return self._peer.logits(ids[kept:], kept)


class EngineLogits:
    """The engine of this project, at full depth; what two prompts begin with is computed once."""

    def __init__(self, file: Path, precision: str) -> None:
        self._engine = load_engine(file, DEVICE, precision)

    def after(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """See `Logits`."""
        state = self._engine.state
        state.reuse(ids)
        logits: NDArray[np.float32] = state.full_depth_logits(1, lambda: False)[0]
        return logits


def complete_lines(
    model: Logits,
    tokenizer: CodeTokenizer,
    cursor: SourcePosition,
    lines: int = 1,
    tokens: int = LINE_TOKENS,
    *,
    healed: bool = True,
) -> str:
    """Return what the model writes at a cursor, greedily, up to the end of so many lines."""
    fim = tokenizer.fim({})
    name = document_name(cursor.path, cursor.language)
    ids = build_prompt(cursor.document, cursor.offset, tokenizer, fim, PROMPT_TOKENS, name)
    start = heal(ids, tokenizer) if healed else Healed(tuple(ids))
    tokens += len(ids) - len(start.prompt_ids)
    emitted: list[int] = []
    written = b""
    while len(emitted) < tokens and written.count(b"\n", len(start.dropped)) < lines:
        logits = model.after([*start.prompt_ids, *emitted])
        allowed = start.constraint(emitted) if start.constraint else None
        among = np.arange(len(logits)) if allowed is None else np.asarray(allowed)
        token_id = int(among[logits[among].argmax()])
        if token_id in fim.stop_ids:
            break
        emitted.append(token_id)
        written += tokenizer.token_bytes(token_id)
    return "\n".join(written[len(start.dropped) :].decode("utf-8", "replace").split("\n")[:lines])


def score(
    model: Logits, tokenizer: CodeTokenizer, lines: Sequence[HeldOutLine], language: str, *, healed: bool = True
) -> dict[str, Any]:
    """Return the means over the lines, 0 to 1, and the lines' number."""
    exact, similar = [], []
    for line in lines:
        cursor = replace(line.position, language=language, path=line.pointer.file)
        text = complete_lines(model, tokenizer, cursor, healed=healed)
        exact.append(exact_match(text, cursor.rest_of_line))
        similar.append(edit_similarity(text, cursor.rest_of_line))
    return {
        "lines": len(lines),
        "exact_match": float(np.mean(exact)),
        "edit_similarity": float(np.mean(similar)),
    }


def opened(file: Path, precision: str | None) -> tuple[Logits, str, str]:
    """Return llama.cpp on a file, or this engine in a precision; what it is called, and in the name of a result."""
    if precision is None:
        return LlamaLogits(file), "llama.cpp", "llamacpp"
    return EngineLogits(file, precision), f"greencode-lsp, {precision}", f"greencode-{precision}"


def evaluate(file: Path, held_out: Mapping[str, Sequence[HeldOutLine]], model: Logits, engine: str) -> dict[str, Any]:
    """Return what `evaluate --gguf` prints: the scores by language of one file in an engine."""
    tokenizer = CodeTokenizer.of(file)
    languages = {name: score(model, tokenizer, lines, name) for name, lines in held_out.items()}
    return {"model": file.stem, "engine": engine, "languages": languages}

"""`python -m training precision --model NAME`: what rounding the weights loses, against the same file in float32.

Over the first windows of standard-library files that hold enough tokens: the share of positions whose likeliest token
is float32's, and the mean loss of the text. Written to RUNS/NAME/precision.json.

Letters: T tokens of a window, V vocabulary.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.load import PRECISIONS, load_engine
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from training.exits.teacher_forcing import DEVICE
from training.whole_files import run_name

WINDOWS, WINDOW_TOKENS, SKIPPED_TOKENS = 10, 512, 600
"""So many tokens of so many files, after their beginnings."""
REFERENCE = "float32"
Window = Sequence[int]


def windows(tokenizer: CodeTokenizer, seed: int = 0) -> list[Window]:
    """Return runs of ids out of files of the standard library."""
    files = sorted(Path(statistics.__file__).parent.glob("*.py"))
    random.Random(seed).shuffle(files)
    encoded = (tokenizer.encode(path.read_text(encoding="utf8", errors="replace")) for path in files)
    stop = SKIPPED_TOKENS + WINDOW_TOKENS
    enough = (ids[SKIPPED_TOKENS:stop] for ids in encoded if len(ids) >= stop)
    return [ids for ids, _ in zip(enough, range(WINDOWS), strict=False)]


def measure(checkpoint: Path, precision: str, texts: Sequence[Window]) -> tuple[NDArray[np.int64], float]:
    """Return the likeliest id at every position, windows end to end, and the mean loss of the text."""
    engine = load_engine(checkpoint, DEVICE, precision)
    likeliest, losses = [], []
    for ids in texts:
        engine.state.crop(0)
        engine.state.feed(ids)
        logits = engine.state.full_depth_logits(len(ids), lambda: False)  # [T, V]
        likeliest.append(logits.argmax(-1))
        logits -= logits.max(-1, keepdims=True)
        next_logits = logits[np.arange(len(ids) - 1), ids[1:]]
        losses.append(float(np.mean(np.log(np.exp(logits[:-1]).sum(-1)) - next_logits)))
    return np.concatenate(likeliest), statistics.mean(losses)


def compare(checkpoint: Path, texts: Sequence[Window]) -> dict[str, dict[str, float]]:
    """Return by precision the share of likeliest tokens kept and the loss."""
    reference, loss = measure(checkpoint, REFERENCE, texts)
    by_precision = {REFERENCE: {"argmax_kept": 1.0, "loss": loss}}
    for precision in PRECISIONS[DEVICE]:
        if precision != REFERENCE:
            likeliest, loss = measure(checkpoint, precision, texts)
            by_precision[precision] = {"argmax_kept": float((likeliest == reference).mean()), "loss": loss}
    return by_precision


def main(checkpoint: Path, runs: Path) -> None:
    """Compare, print, write."""
    texts = windows(CodeTokenizer.of(checkpoint))
    comparison = {"tokens": sum(map(len, texts)), "precisions": compare(checkpoint, texts)}
    target = runs / run_name(checkpoint)
    target.mkdir(parents=True, exist_ok=True)
    (target / "precision.json").write_text(json.dumps(comparison, indent=1) + "\n", encoding="utf8")
    print(json.dumps(comparison))

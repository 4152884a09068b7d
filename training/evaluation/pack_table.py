"""A pack's threshold tables: completions as served, at cursors of packages that nothing was counted or fitted on.

Each is replayed by every threshold over one recorded tree (training/exits/replay.py), so that a dozen cost little more
than one. Each cursor's figures are a line of a file, and a run that was stopped goes on behind the last.

Letters: n completions.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from greencode_lsp.engine.drafts import ACCEPTANCE, SURE, UNLIKELY, WORTH
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.state import DecoderState
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import CalibrationRow
from greencode_lsp.preference import SHORTLIST
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import NEVER, DecodeConfig
from training.data.archives import disk_error
from training.data.corpus import read_source
from training.data.cursors import SourcePosition
from training.data.packages import Package
from training.evaluation.metrics import line_scores
from training.evaluation.resplits import STEPS, Losses
from training.evaluation.risk_control import DELTA, fixed_sequence
from training.exits.replay import Node, Tree
from training.exits.served import serve
from training.whole_files import note, write_text

THRESHOLDS = (4.0, 2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -20.0)
"""Log-odds of the shortlist's likeliest id, from conservative to aggressive: the last one always lets it speak."""
CONFIGS = (
    *(DecodeConfig(SHORTLIST, copies=True, shortlist=threshold) for threshold in THRESHOLDS),
    DecodeConfig("never", copies=True),
    DecodeConfig("never", self_speculative=True),
)
"""What is measured: the shortlist by threshold, then the full head alone, and the same lossless."""
NEW_TOKENS = 32
FIGURES = (
    *("agreement", "tokens", "layer_equivalents", "full_layer_equivalents", "shortlisted"),
    *("exact_match", "edit_similarity", "rouge_l", "codebleu"),
)
"""What is kept of a completion under one of CONFIGS; `shortlisted` tokens did without the full head."""


def cursors(packages: Sequence[Package], language: str, seed: int = 0) -> Iterator[SourcePosition]:
    """Yield cursors on lines of the packages' files, packages alike, without end."""
    rng = random.Random(f"{seed}:{language}")
    spoken = [package for package in packages if package.language == language and package.files]
    if not spoken:
        raise CorpusError(f"No package in {language} is left to judge the shortlist by; name more sources.")
    while True:
        package = rng.choice(spoken)
        path = rng.choice(package.files)
        text = read_source(package.root / path)
        lines = text.split("\n") if text else []
        numbers = [number for number, line in enumerate(lines) if line.strip()]
        if text is None or not numbers:
            continue
        number = rng.choice(numbers)
        line, start = lines[number], sum(len(before) + 1 for before in lines[:number])
        column = rng.randrange(len(line) - len(line.lstrip()), len(line.rstrip()))
        yield SourcePosition(text, start + column, package.name, language, path)


class EngineGrower:
    """See `Grower`: nodes by the very model that serves."""

    def __init__(self, engine: Engine) -> None:
        self._model = engine.model
        self._state = DecoderState(engine.model.open(), len(engine.exits))

    def node(self, prompt: Sequence[int], ids: tuple[int, ...]) -> Node:
        """Feed what the cache lacks and run all segments over it."""
        state = self._state
        state.reuse([*prompt, *ids])
        for index in range(state.last + 1):
            state.advance(index, lambda: False)
        normalised = np.stack([state.normalised(index) for index in range(state.last + 1)])  # [S, D]
        logits = self._model.head(normalised)  # [S, V]
        return Node(ids, normalised[:-1], logits, tuple(int(i) for i in logits.argmax(-1)))


def measure(
    engine: Engine, tokenizer: CodeTokenizer, grower: EngineGrower, cursor: SourcePosition
) -> list[list[float]]:
    """Return FIGURES of the completions at a cursor, one of each of CONFIGS."""
    served = serve(engine, tokenizer, cursor, NEW_TOKENS)
    tree = Tree(engine, grower, served.prompt_ids)
    reference = cursor.rest_of_line.rstrip()
    rows: list[list[float]] = []
    for config in CONFIGS:
        completion = tree.serve(served, config)
        work, count = completion.work, len(completion.steps)
        scores = line_scores(served.first_line(completion.token_ids), reference, cursor.language)
        # heads run for copies beyond the end count too, so that it is a little less than it was
        shortlisted = max(0, count - work.head_positions) if config.shortlist < NEVER else 0
        costs = (work.layer_equivalents, work.full_depth_layer_equivalents, shortlisted)
        rows.append([completion.agreement, count, *costs, *scores])
    return rows


def record(
    engine: Engine, tokenizer: CodeTokenizer, packages: Sequence[Package], language: str, count: int, path: Path
) -> list[list[list[float]]]:
    """Return the figures of `count` completions, [n, configs, figures], going on behind those that `path` holds.

    Raises CorpusError where the disk is full, and where `path` holds those of another pack.
    """
    names = sorted(f"{package.name} {package.version}" for package in packages)
    made_of: dict[str, Any] = {"pack": engine.manifest.files, "precision": engine.precision, "packages": names}
    made_of |= {
        "thresholds": THRESHOLDS,
        "configs": [str(c) for c in CONFIGS],
        "acceptance": (ACCEPTANCE, SURE, UNLIKELY, WORTH),
    }
    grower = EngineGrower(engine)
    try:
        note(
            path.with_suffix(".json"),
            made_of | {"new_tokens": NEW_TOKENS},
            "completions",
        )
        stored = path.read_text(encoding="utf8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in stored if line.endswith("]\n")]  # the last one may be half written
        write_text(path, "".join(whole))
        measured = [json.loads(line) for line in whole][:count]
        with path.open("a", encoding="utf8") as file:
            for index, cursor in enumerate(cursors(packages, language)):
                if index >= count:
                    break
                if index < len(measured):
                    continue
                measured.append(measure(engine, tokenizer, grower, cursor))
                file.write(json.dumps(measured[-1]) + "\n")
                file.flush()
                if index % 20 == 0:
                    print(f"{language}: {index + 1} of {count} completions", flush=True)
    except OSError as error:
        raise disk_error(error, str(path)) from error
    return measured


def tables_of(figures: Any, layers: int) -> dict[str, tuple[CalibrationRow, ...]]:
    """Return the tables of figures [n, configs, figures]; a row no cheaper than one before it is left out."""
    array = np.asarray(figures, np.float64)
    bounds = fixed_sequence([1 - array[:, i, 0] for i in range(len(THRESHOLDS))], DELTA)
    rows: list[CalibrationRow] = []
    least = 1.0
    for index, (threshold, bound) in enumerate(zip(THRESHOLDS, bounds, strict=True)):
        row = _row(array[:, index], bound, layers, shortlist=threshold)
        least = min(least, row.agreement)  # an aggressive row is not better: that is luck
        row = replace(row, agreement=least)
        if not rows or row.layer_equivalents_ratio < rows[-1].layer_equivalents_ratio:
            rows.append(row)
    copied, verified = array[:, -2], array[:, -1].sum(axis=0)
    (bound,) = fixed_sequence([1 - copied[:, 0]], DELTA)
    full = _row(copied, bound, layers)
    return {
        SHORTLIST: tuple(rows),
        "never": (replace(full, verified_ratio=round(float(verified[2] / verified[3]), 4)),),
    }


def losses_of(figures: Any, packages: Sequence[Package], language: str) -> Losses:
    """Return what each completion loses by the shortlist's thresholds, for `resplit`; `figures` are `record`'s."""
    array = np.asarray(figures, np.float64)
    places = islice(cursors(packages, language), len(array))
    steps = np.ceil((1 - array[:, : len(THRESHOLDS), 0]) * STEPS - 1e-6)
    return Losses(
        np.array([SHORTLIST] * len(THRESHOLDS)),
        np.array(THRESHOLDS),
        steps.astype(np.uint8),
        np.array([place.package for place in places]),
    )


def _row(figures: Any, bound: float, layers: int, **changes: Any) -> CalibrationRow:
    """Return the row of figures [n, figures]: means over completions, and over tokens of what each costs."""
    sums, means = figures.sum(axis=0), figures.mean(axis=0)
    return CalibrationRow(
        threshold=0.0,  # no token exits early
        agreement=round(float(means[0]), 4),
        agreement_lower_95=int(bound * 10_000) / 10_000,  # rounded down: it is a promise
        mean_exit_layer=float(layers),
        layer_equivalents_ratio=round(float(sums[2] / sums[3]), 4),
        early_share=round(float(sums[4] / sums[1]), 4),
        exact_match=round(float(means[5]), 4),
        edit_similarity=round(float(means[6]), 4),
        rouge_l=round(float(means[7]), 4),
        codebleu=round(float(means[8]), 4),
        completions=len(figures),
        copies=True,
        **changes,
    )

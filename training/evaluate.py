"""The checkpoint on the frozen held-out lines: what each exit knows, what each preference keeps, costs and takes.

    python -m training evaluate --preset mini        # 10 minutes on two cores; --limit N for less

Everything runs through the engine on the exported weights; the speed comparison runs transformers on the same weights
(dequantised) in the same process, in turns. Writes `training/runs/<model>/results.json` and `results.md`.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.preference import decode_config
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig, FixedControl, Step
from greencode_lsp.settings import Settings
from training import speed
from training.cursors import Cursor, prompt_ids
from training.forced import DEVICE, ForcedExits
from training.heldout import HeldOutLine
from training.report import to_markdown
from training.rollout import emit

LINE_TOKENS = 16
"""Tokens of the rest of a line that are scored, and as many that are generated."""
PREFERENCES = {"accuracy": 1.0, "balanced": 0.5, "energy": 0.0}
SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Subject:
    """The loaded checkpoint and its prompts, one per held-out line."""

    engine: Engine
    tokenizer: CodeTokenizer
    lines: Sequence[HeldOutLine]
    prompts: Sequence[Sequence[int]]
    line_ends: frozenset[int]
    """The tokens after which a line is complete."""


def _line_ends(tokenizer: CodeTokenizer) -> frozenset[int]:
    newlines = (i for i in range(tokenizer.vocab_size) if b"\n" in tokenizer.token_bytes(i))
    return tokenizer.special_ids | frozenset(newlines)


def score_exits(subject: Subject, folder: Path) -> dict[str, Any]:
    """Teacher-forced on the rest of each line: accuracy and agreement with full depth of every exit.

    A token is whitespace-only by what full depth says there.
    """
    targets = [subject.tokenizer.encode(line.rest_of_line)[:LINE_TOKENS] for line in subject.lines]
    forced = ForcedExits(folder, subject.engine.exits)
    found = [
        forced.tokens(forced.states(prompt, target))[0].numpy()
        for prompt, target in zip(subject.prompts, targets, strict=True)
    ]
    tokens: NDArray[np.int64] = np.concatenate(found, axis=1)  # [S, N]
    truth, full = np.concatenate(targets), tokens[-1]
    ordinary = np.array([bool(subject.tokenizer.decode([i]).strip()) for i in full])
    rows = [
        {
            "exit_layer": exit_layer,
            "token_accuracy": float((said == truth).mean()),
            "agreement": float((said == full).mean()),
            "agreement_without_whitespace": float((said == full)[ordinary].mean()),
        }
        for exit_layer, said in zip(subject.engine.exits, tokens, strict=True)
    ]
    return {"tokens": len(truth), "tokens_without_whitespace": int(ordinary.sum()), "exits": rows}


def _complete(subject: Subject, index: int, config: DecodeConfig) -> tuple[list[Step], str]:
    """Generate to the end of the line; return all steps, the one that ended it included, and the text before it."""
    steps = emit(subject.engine, subject.prompts[index], config, LINE_TOKENS, subject.line_ends)
    kept = [step.token_id for step in steps if step.token_id not in subject.tokenizer.special_ids]
    return steps, subject.tokenizer.decode(kept).split("\n", 1)[0].rstrip()


@dataclass(slots=True)
class _Tally:
    """Sums over the lines at one preference."""

    preference: float
    config: DecodeConfig
    agreeing: int = 0
    exact: int = 0
    similarity: float = 0.0
    layer_equivalents: float = 0.0
    full_layer_equivalents: float = 0.0
    exit_layers: list[int] = field(default_factory=list)

    def add(self, subject: Subject, index: int) -> None:
        """Complete one line and compare it with the author's and with full depth."""
        wanted = subject.lines[index].rest_of_line.rstrip()
        steps, text = _complete(subject, index, self.config)
        work, emitted = subject.engine.work, [step.token_id for step in steps]
        labels = subject.engine.full_depth_argmax(subject.prompts[index], emitted, FixedControl())
        self.agreeing += sum(a == b for a, b in zip(emitted, labels, strict=True))
        self.exit_layers += [step.exit_layer for step in steps]
        self.layer_equivalents += work.layer_equivalents
        self.full_layer_equivalents += work.full_depth_layer_equivalents
        self.exact += text == wanted
        self.similarity += SequenceMatcher(None, text, wanted, autojunk=False).ratio()

    def figures(self, lines: int, layers: int) -> dict[str, Any]:
        """Return shares as 0 to 1."""
        config = dataclasses.asdict(self.config) if np.isfinite(self.config.threshold) else {"policy": "never"}
        return {
            "preference": self.preference,
            "config": config,
            "tokens": len(self.exit_layers),
            "mean_exit_layer": float(np.mean(self.exit_layers)),
            "early_share": float(np.mean(np.asarray(self.exit_layers) < layers)),
            "agreement": self.agreeing / len(self.exit_layers),
            "layer_equivalents_ratio": self.layer_equivalents / self.full_layer_equivalents,
            "exact_match": self.exact / lines,
            "edit_similarity": self.similarity / lines,
        }


def score_preferences(subject: Subject, preferences: dict[str, float]) -> dict[str, Any]:
    """Free-running to the end of the line at each preference; a prompt's cache serves all of them."""
    manifest = subject.engine.manifest
    tallies = {n: _Tally(p, decode_config(Settings(preference=p), manifest, "python")) for n, p in preferences.items()}
    for index in range(len(subject.lines)):
        for tally in tallies.values():
            tally.add(subject, index)
    return {name: tally.figures(len(subject.lines), subject.engine.layers) for name, tally in tallies.items()}


def samples(subject: Subject) -> list[dict[str, Any]]:
    """Complete random held-out lines at the default preference; drawn by seed, not picked."""
    config = decode_config(Settings(), subject.engine.manifest, "python")
    out = []
    for index in random.Random(0).sample(range(len(subject.lines)), min(SAMPLES, len(subject.lines))):
        line = subject.lines[index]
        steps, text = _complete(subject, index, config)
        out.append(
            {
                "file": f"{line.pointer.package} {line.pointer.version}, {line.pointer.file}:{line.pointer.line}",
                "before": line.text[: line.offset].rsplit("\n", 1)[-1].lstrip(),
                "author": line.rest_of_line.rstrip(),
                "model": text,
                "exit_layers": [step.exit_layer for step in steps],
            }
        )
    return out


def evaluate(folder: Path, lines: Sequence[HeldOutLine], runs: Path, missing: int) -> dict[str, Any]:
    """Score the checkpoint, write `results.json` and `results.md` under `runs`, print the results as one JSON line.

    `missing` held-out lines could not be read, their packages absent or changed; the number is reported.
    """
    engine, tokenizer = load_engine(folder, DEVICE), CodeTokenizer.from_folder(folder)
    prompts = [prompt_ids(engine, tokenizer, Cursor(line.text, line.offset), LINE_TOKENS) for line in lines]
    subject = Subject(engine, tokenizer, lines, prompts, _line_ends(tokenizer))
    results = {
        "model": engine.manifest.name,
        "layers": engine.layers,
        "exit_policy": engine.manifest.exit_policy,
        "lines": len(lines),
        "lines_missing": missing,
        "threads": torch.get_num_threads(),
        "teacher_forced": score_exits(subject, folder),
        "preferences": score_preferences(subject, PREFERENCES),
        "speed": speed.compare(engine, folder, prompts, seed=0),
        "samples": samples(subject),
    }
    target = runs / engine.manifest.name
    target.mkdir(parents=True, exist_ok=True)
    (target / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    (target / "results.md").write_text(to_markdown(results), encoding="utf8")
    print(json.dumps(results))
    return results

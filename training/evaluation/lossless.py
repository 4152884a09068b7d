"""`python -m training lossless --model NAME --limit 1000`: how often lossless decoding differs from full depth (I4).

Over prompts out of the standard library, at every rounded precision of the CPU: greedy tokens of `accuracy` against
those of full depth, both with rows that round alike alone and among others where the precision can. Where the
arithmetic is batch-invariant nothing may differ; where it is not, a difference has to be a near-tie, so the gap between
the two tokens' logits is reported. Written to RUNS/NAME/lossless.json.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import PRECISIONS, load_engine
from greencode_lsp.preference import decode_config
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig, FixedControl
from greencode_lsp.settings import Settings
from training.exits.teacher_forcing import DEVICE

PROMPTS = 1000
SHORTEST, LONGEST = 48, 256
NEW_TOKENS = 32


def prompts(tokenizer: CodeTokenizer, count: int, seed: int = 0) -> list[list[int]]:
    """Return runs of SHORTEST to LONGEST ids at random places of the standard library's files."""
    rng = random.Random(seed)
    files = sorted(Path(statistics.__file__).parent.glob("*.py"))
    encoded = [tokenizer.encode(path.read_text(encoding="utf8", errors="replace")) for path in files]
    long_enough = [ids for ids in encoded if len(ids) > LONGEST]
    drawn = []
    for _ in range(count):
        ids = rng.choice(long_enough)
        start = rng.randrange(len(ids) - LONGEST)
        drawn.append(ids[start : start + rng.randint(SHORTEST, LONGEST)])
    return drawn


def gap(engine: Engine, prompt: Sequence[int], ours: Sequence[int], reference: Sequence[int]) -> float | None:
    """Return how much more likely the first differing reference token is than ours, in logits; None where none is."""
    for index, (token, expected) in enumerate(zip(ours, reference, strict=True)):
        if token != expected:
            state = engine.state
            state.crop(0)
            state.feed([*prompt, *reference[:index]])
            logits = state.full_depth_logits(1, lambda: False, batch_invariant=True)[0]
            return abs(float(logits[expected] - logits[token]))
    return None


def measure(engine: Engine, drawn: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return how many completions differ, of how many, and the largest gap between tokens that differ."""
    lossless = decode_config(Settings(preference=1.0), engine.manifest, "python")
    if not lossless.self_speculative:  # drafts cost more than they save here, and would be the same tokens all the same
        lossless = DecodeConfig("never", self_speculative=True)
    full_depth = DecodeConfig(batch_invariant=True)

    def tokens(prompt: Sequence[int], config: DecodeConfig) -> list[int]:
        return [step.token_id for step in engine.generate(prompt, FixedControl(config), max_new_tokens=NEW_TOKENS)]

    gaps = [gap(engine, prompt, tokens(prompt, lossless), tokens(prompt, full_depth)) for prompt in drawn]
    differing = [value for value in gaps if value is not None]
    return {
        "prompts": len(drawn),
        "tokens": len(drawn) * NEW_TOKENS,
        "mismatches": len(differing),
        "largest_gap": max(differing, default=0.0),
    }


def main(checkpoint: Path, runs: Path, limit: int | None = None) -> None:
    """Measure a checkpoint at every precision, write the result and print it."""
    drawn = prompts(CodeTokenizer.of(checkpoint), limit or PROMPTS)
    measured = {}
    rounded = [name for name in PRECISIONS[DEVICE] if name != "float32"]  # which serves tests
    for precision in rounded:
        engine = load_engine(checkpoint, DEVICE, precision)
        measured[precision] = measure(engine, drawn)
        print(precision, measured[precision], flush=True)
    target = runs.expanduser() / engine.manifest.name / "lossless.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf8")
    print(target)

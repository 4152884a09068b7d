"""What the layers cost: c(m)/c(1) of a segment over m positions, and the head in layers.

Measured on the engine's own segments behind a prompt of ordinary length, sizes interleaved, medians. Written to
`cost_curve` and `head_layers` of the manifest, which the agent's reward and every reported ratio use.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from greencode_lsp.engine.segments import Segments
from training.forced import load_segments

POSITIONS = (1, 2, 4, 8)
ROUNDS = 15
PROMPT_TOKENS = 192


@torch.inference_mode()
def measure(folder: Path, exits: tuple[int, ...], rounds: int = ROUNDS) -> tuple[dict[int, float], float]:
    """Return {m: c(m)/c(1)} and the head's cost for one position in layers."""
    family, segments = load_segments(folder, exits)
    prompt = min(PROMPT_TOKENS, family.kv_shape[1] - max(POSITIONS))
    segments.feed([0] * prompt)
    _run(segments)
    times_s: dict[int, list[float]] = {m: [] for m in POSITIONS}
    head_s: list[float] = []
    for _ in range(rounds + 2):  # two to warm up
        for m in POSITIONS:
            segments.feed([0] * m)
            start_s = time.perf_counter()
            outputs = _run(segments)
            times_s[m].append(time.perf_counter() - start_s)
            segments.crop(prompt)
        start_s = time.perf_counter()
        family.head(family.normalise(outputs[-1:])).argmax(-1).item()
        head_s.append(time.perf_counter() - start_s)
    layer_s = statistics.median(times_s[1][2:]) / exits[-1]
    # more positions never cost less: a dip is noise
    curve, floor = {}, 1.0
    for m in POSITIONS:
        floor = max(floor, statistics.median(times_s[m][2:]) / (layer_s * exits[-1]))
        curve[m] = round(floor, 3)
    return curve, round(statistics.median(head_s[2:]) / layer_s, 3)


def _run(segments: Segments) -> torch.Tensor:
    for index in range(len(segments)):
        outputs = segments.advance(index, lambda: False)
    return outputs

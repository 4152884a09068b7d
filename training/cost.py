"""What the layers cost: c(m)/c(1) of a segment over m positions, and the head in layers.

The same timings as `greencode-lsp calibrate` takes on a user's machine (engine/calibrate.py). Written to `cost_curve`
and `head_layers` of the manifest, which the agent's reward and every reported ratio use.
"""

from __future__ import annotations

from pathlib import Path

from greencode_lsp.engine.calibrate import ROUNDS, time_parts
from greencode_lsp.engine.load import load_engine
from training.forced import DEVICE


def measure(folder: Path, rounds: int = ROUNDS) -> tuple[dict[int, float], float]:
    """Return {m: c(m)/c(1)} and the head's cost for one position in layers."""
    engine = load_engine(folder, DEVICE)
    parts = time_parts(engine, folder, rounds)
    seconds = {m: sum(segment.seconds[m] for segment in parts.segments) for m in parts.segments[0].seconds}
    curve = {m: round(elapsed_s / seconds[1], 3) for m, elapsed_s in seconds.items()}
    return curve, round(parts.head.seconds[1] / seconds[1] * engine.layers, 3)

"""What the layers cost: c(m)/c(1) of a segment over m positions, and the head in layers.

The same timings as `greencode-lsp profile` takes on a user's machine (engine/timing.py). Written to `cost_curve`
and `head_layers` of the manifest, which the agent's reward and every reported ratio use.
"""

from __future__ import annotations

from pathlib import Path

from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.timing import ROUNDS, costs, time_checkpoint
from training.exits.teacher_forcing import DEVICE


def measure(folder: Path, rounds: int = ROUNDS) -> tuple[dict[int, float], float]:
    """Return {m: c(m)/c(1)} and the head's cost for one position in layers."""
    engine = load_engine(folder, DEVICE)
    return costs(time_checkpoint(engine, rounds))

"""What the layers cost: c(m)/c(1) of a segment over m positions, and the head in layers.

The same timings as `greencode-lsp profile` takes on a user's machine (engine/timing.py). Written to `cost_curve` and
`head_layers` of the manifest, which the agent's reward and every reported ratio use, and to
`exit_head_layers`, which is in the ratios of completions (engine/cost.py) and not in the reward.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.state import DecoderState
from greencode_lsp.engine.timing import ROUNDS, costs, time_checkpoint
from training.exits.teacher_forcing import DEVICE


def measure(folder: Path, rounds: int = ROUNDS) -> tuple[dict[int, float], float]:
    """Return {m: c(m)/c(1)} and the head's cost for one position in layers."""
    engine = load_engine(folder, DEVICE)
    return costs(time_checkpoint(engine, rounds))


def measure_exit_head(folder: Path, rounds: int = 64) -> float:
    """Return what reading an early exit through its own head and the norm costs for one position, in layers.

    Read right behind the exit's layers, as a policy finds it; layers are those of the last segment.
    """
    engine = load_engine(folder, DEVICE)
    state = DecoderState(engine.model.open(), len(engine.exits))
    layers = engine.exits[-1] - engine.exits[-2]
    read_s, layer_s = [], []
    for _ in range(rounds):
        state.feed([0])
        for index in range(state.last + 1):
            start_s = time.perf_counter()
            state.advance(index, lambda: False)
            ran_s = time.perf_counter()
            if index < state.last:
                state.normalised(index)
                read_s.append(time.perf_counter() - ran_s)
        layer_s.append((ran_s - start_s) / layers)
    return round(statistics.median(read_s) / statistics.median(layer_s), 3)

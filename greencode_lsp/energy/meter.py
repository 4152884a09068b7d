"""The meter's seam, and the one formula that shares energy by work (I7).

A completion's work, counted in layers run for one position (layer equivalents):

    W  = D + c P       D: decode work;  P: layer-positions of the prompt;  c: cost of one of them
    saved_j = energy_j (F - D) / W      F: decode work of the same tokens at full depth

Positions of the prompt run in large batches, so that one costs only a fraction c of a layer run for a single
position. The energy is shared in proportion to work: decoding takes the share D / W, full depth would have taken
F / D times that, and the prompt is charged to both sides. A negative saving (exits that cost more than they spared)
is reported as it is. Where the machine is profiled (energy/device_profile.py), W and what full depth takes are seconds.
"""

from __future__ import annotations

from typing import Protocol

from greencode_lsp.records import EnergyReading, Work

PREFILL_COST = {"cpu": 0.25, "cuda": 0.02}
"""c by device kind. Chosen, not fitted: a CPU reads small weights from its cache and gains little from batches, a GPU
is bound by reading the weights, once per batch."""


class EnergyWindow(Protocol):
    """The time of one completion, from `Meter.open` to `close`."""

    def close(self, work: Work) -> EnergyReading:
        """End the window and return the joules of `work`. Close every window, also of a cancelled generation."""
        ...


class Meter(Protocol):
    """A source of joules. Never raises: where a counter is absent or lost, the tier says so."""

    def open(self) -> EnergyWindow:
        """Begin the window of one completion."""
        ...


def modelled_work(work: Work, prefill_cost: float) -> float:
    """Return W, the work in layer equivalents."""
    return work.layer_equivalents + prefill_cost * work.prefill_layer_positions


def full_depth_work(work: Work, prefill_cost: float) -> float:
    """Return F + c P, the work of the same tokens at full depth."""
    return work.full_depth_layer_equivalents + prefill_cost * work.prefill_layer_positions


def saved_j(energy_j: float, cost: float, full_depth_cost: float) -> float:
    """Return the joules that full depth would have taken beyond `energy_j`; 0.0 where nothing ran."""
    return energy_j * (full_depth_cost - cost) / cost if cost else 0.0

"""Which model suits a machine: the best one whose suggestions come in time. Pure functions of sizes and times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from greencode_lsp.models.catalogue import CATALOGUE, CatalogueModel

TYPICAL_TOKENS = 12
"""Of a suggestion whose prompt is warm."""
PROMPT_TOKENS = 1.0
"""What is new in a warm prompt costs about as much as one token."""
BYTES_A_WEIGHT = ((300_000_000, 0.7), (0, 1.06))
"""Weights from here on -> bytes that a step reads for each: 4 and 8 bits mixed in large models, 8 in small ones."""
BYTES_A_CORE_S = 4.6e9
"""Weights read in a second by a core: 346 MB in 37 ms on two shared ones (ONNX Runtime, AVX2)."""
BUS_CORES = 4
"""Cores beyond these wait for the memory."""
MEMORY_SHARE = 0.5
"""Of the machine's memory, that a model may take."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a model is chosen for."""

    cores: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class ModelCandidate:
    """A model that could serve."""

    name: str
    """As `greencode.model` takes it."""
    quality: int
    suggestion_ms: float
    """Of a typical suggestion, profiled on this machine or estimated."""
    is_profiled: bool = False


def estimated_ms(weights: int, machine: Machine) -> float:
    """Return what a typical suggestion takes where nothing was timed, from the bytes that a token has to read."""
    bytes_a_weight = next(size for least, size in BYTES_A_WEIGHT if weights >= least)
    token_s = weights * bytes_a_weight / (BYTES_A_CORE_S * min(max(1, machine.cores), BUS_CORES))
    return 1000 * token_s * (TYPICAL_TOKENS + PROMPT_TOKENS)


def best(candidates: Iterable[ModelCandidate], target_ms: float) -> list[ModelCandidate]:
    """Return those that are in time, the best first; of equal quality the quicker."""
    in_time = (candidate for candidate in candidates if candidate.suggestion_ms <= target_ms)
    return sorted(in_time, key=lambda candidate: (-candidate.quality, candidate.suggestion_ms, candidate.name))


def fits(model: CatalogueModel, machine: Machine) -> bool:
    """Return True where the machine has the memory to serve the model beside everything else."""
    return model.memory_bytes <= MEMORY_SHARE * machine.memory_bytes


def better(
    served_quality: int, machine: Machine, target_ms: float, catalogue: Iterable[CatalogueModel] = CATALOGUE
) -> CatalogueModel | None:
    """Return the best model, free to use, that this machine could run in time and that beats what it serves now."""
    could = [
        model
        for model in catalogue
        if model.is_open
        and model.quality // 10 > served_quality // 10  # an instruct version is not replaced by its base
        and fits(model, machine)
        and estimated_ms(model.weights, machine) <= target_ms
    ]
    return max(could, key=lambda model: model.quality, default=None)

"""What a device profile is of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as it is served: another of the same name, or its other arithmetic, takes other times."""

    name: str
    exits: tuple[int, ...]
    precision: str

"""Exit packs for small random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.load import open_source
from greencode_lsp.models.draft_table import DraftTable
from greencode_lsp.models.manifest import Manifest
from training.exits.pack import write_pack

WIDTH = 24


def tensors_of(kind: str, hidden_size: int, seed: int = 0) -> dict[str, NDArray[np.float16]]:
    """Return the tensors of a random head of a kind."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {}
    if kind in ("affine", "mlp"):
        shapes |= {"map.weight": (hidden_size, hidden_size), "map.bias": (hidden_size,)}
    if kind in ("low-rank", "mlp"):
        shapes |= {"down.weight": (WIDTH, hidden_size), "up.weight": (hidden_size, WIDTH)}
    if kind == "low-rank":
        shapes["up.bias"] = (hidden_size,)
    if kind == "mlp":
        shapes["down.bias"] = (WIDTH,)
    return {name: rng.normal(0, 0.3, shape).astype(np.float16) for name, shape in shapes.items()}


def mapped(kind: str, tensors: dict[str, Any], hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a head makes of states [T, D], written as models/packs.py says it, in float64."""
    of = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    u = hidden.astype(np.float64)
    u = u / np.sqrt((u**2).mean(-1, keepdims=True) + 1e-6)
    if kind == "none":
        return hidden
    if kind == "affine":
        out = u @ of["map.weight"].T + of["map.bias"]
    elif kind == "low-rank":
        out = u + (u @ of["down.weight"].T) @ of["up.weight"].T + of["up.bias"]
    else:
        inner = u @ of["down.weight"].T + of["down.bias"]
        out = u @ of["map.weight"].T + of["map.bias"] + (inner / (1 + np.exp(-inner))) @ of["up.weight"].T
    mapped_states: NDArray[np.float32] = out.astype(np.float32)
    return mapped_states


def pack_for(
    checkpoint: Path,
    folder: Path,
    *,
    exits: tuple[int, ...] = (1, 2, 4),
    kinds: tuple[str, ...] = ("affine", "mlp"),
    shortlist: NDArray[np.int64] | None = None,
    drafts: DraftTable | None = None,
    **changes: Any,
) -> Path:
    """Write a pack for a published checkpoint; returns its folder."""
    source = open_source(checkpoint)
    heads = [tensors_of(kind, source.config["hidden_size"], seed) for seed, kind in enumerate(kinds)]
    fields = {"name": "random", "family": source.config["model_type"], "exits": exits, "weights": source.digest()}
    write_pack(folder, Manifest(**(fields | changes)), heads, shortlist, drafts)
    return folder

"""What decides on exits is believed where its shapes are the model's: agent, exit heads, shortlist, draft table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.errors import UnsupportedModelError
from greencode_lsp.models.checks import damaged

MAX_AGENT_WIDTH = 4096
MAX_AGENT_BYTES = 1 << 28
AGENT_TENSORS = ("w1", "b1", "w2", "b2", "w3", "b3")
MAX_EXITS_BYTES = 1 << 28
"""Of `exits.safetensors`: exit heads, shortlist, draft table."""
MAX_EXIT_WIDTH = 1 << 13
"""Inner size of an exit head, or its rank."""
SHORTLIST = "shortlist"
DRAFTS = {"drafts.keys": np.uint32, "drafts.ids": np.int32, "drafts.shares": np.uint8}
"""Tensors of a draft table."""
MAX_DRAFTS = 1 << 22
EXIT_HEADS = ("none", "affine", "low-rank", "mlp")


def check_agent(shapes: Mapping[str, tuple[int, ...]], hidden_size: int | None, exits: int) -> None:
    """Compare the shapes of `agent.safetensors` with the model's hidden size and its exits, the last included.

    Without a hidden size, that of the agent is taken. Raises ModelDamagedError.
    """
    first, second = shapes.get("w1", ()), shapes.get("w2", ())
    seen = (exits - 1) + 2 + hidden_size if hidden_size is not None else first[-1] if first else 0
    widths = (first[0] if len(first) == 2 else 0, second[0] if len(second) == 2 else 0)
    if not all(0 < width <= MAX_AGENT_WIDTH for width in widths):
        raise damaged(f"has an agent of layers {list(first)} and {list(second)}, which is none")
    wanted = {
        "w1": (widths[0], seen),
        "b1": (widths[0],),
        "w2": (widths[1], widths[0]),
        "b2": (widths[1],),
        "w3": (widths[1],),
        "b3": (1,),
    }
    for name, shape in wanted.items():
        if tuple(shapes.get(name, ())) != shape:
            raise damaged(f"has an agent with {name} in the shape {list(shapes.get(name, ()))}, not {list(shape)}")


def check_exit_heads(
    kinds: Sequence[str], shapes: Mapping[str, tuple[int, ...]], hidden_size: int, vocabulary: int
) -> None:
    """Compare the shapes of `exits.safetensors` with the kinds of head that a manifest states, by early exit.

    Raises UnsupportedModelError for a kind that is not known, ModelDamagedError for another shape, for a tensor that is
    missing and for one that has no place.
    """
    wanted: dict[str, tuple[int, ...]] = {}
    for index, kind in enumerate(kinds):
        if kind not in EXIT_HEADS:
            raise UnsupportedModelError(
                f"The exit head {kind[:40]!r} is not supported; {', '.join(EXIT_HEADS)} are. Update greencode-lsp."
            )
        at = f"exit.{index}."
        wanted |= {at + name: shape for name, shape in _exit_head(kind, at, shapes, hidden_size).items()}
    if SHORTLIST in shapes:
        shape = tuple(shapes[SHORTLIST])
        if len(shape) != 1 or not 0 < shape[0] <= vocabulary:
            raise damaged(f"has a shortlist in the shape {list(shape)} for a vocabulary of {vocabulary}")
        wanted[SHORTLIST] = shape
    if DRAFTS.keys() & shapes.keys():
        shape = tuple(shapes.get("drafts.keys", ()))
        if len(shape) != 1 or not 0 < shape[0] <= MAX_DRAFTS:
            raise damaged(f"has a draft table in the shape {list(shape)}")
        wanted |= dict.fromkeys(DRAFTS, shape)
    if wanted.keys() != shapes.keys():
        odd = min(wanted.keys() ^ shapes.keys())
        raise damaged(f"{'lacks' if odd in wanted else 'has no place for'} the tensor {odd} of its exits")
    for name, shape in wanted.items():
        if tuple(shapes[name]) != shape:
            raise damaged(f"has {name} in the shape {list(shapes[name])}, not {list(shape)}")


def _exit_head(
    kind: str, at: str, shapes: Mapping[str, tuple[int, ...]], hidden_size: int
) -> dict[str, tuple[int, ...]]:
    """Return the tensors of one head by their names below `at`; the inner size is the stored one, within bounds."""
    if kind == "none":
        return {}
    square = {"map.weight": (hidden_size, hidden_size), "map.bias": (hidden_size,)}
    if kind == "affine":
        return square
    first = tuple(shapes.get(at + "down.weight", ()))
    width = first[0] if len(first) == 2 else 0
    if not 0 < width <= MAX_EXIT_WIDTH:
        raise damaged(f"has {at}down.weight in the shape {list(first)}, which is that of no exit head")
    inner = {"down.weight": (width, hidden_size), "up.weight": (hidden_size, width)}
    if kind == "low-rank":
        return inner | {"up.bias": (hidden_size,)}
    return square | inner | {"down.bias": (width,)}


def check_shortlist(ids: NDArray[np.int64], vocabulary: int) -> None:
    """Raise ModelDamagedError unless the ids ascend, each once, within the vocabulary."""
    if ids[0] < 0 or ids[-1] >= vocabulary or not bool((np.diff(ids) > 0).all()):
        raise damaged(f"has a shortlist that is no ascending list of ids below {vocabulary}")


def check_drafts(tensors: Mapping[str, NDArray[Any]], vocabulary: int) -> None:
    """Raise ModelDamagedError unless a draft table's keys ascend, each once, and its ids are of the vocabulary."""
    for name, kind in DRAFTS.items():
        if tensors[name].dtype != kind:
            raise damaged(f"has {name} of {tensors[name].dtype}, not {np.dtype(kind)}")
    keys, ids = tensors["drafts.keys"], tensors["drafts.ids"]
    if not bool((keys[1:] > keys[:-1]).all()) or ids.min() < 0 or ids.max() >= vocabulary:
        raise damaged(f"has a draft table that is none for ids below {vocabulary}")


def check_numbers(name: str, values: NDArray[np.float32]) -> None:
    """Raise ModelDamagedError for NaN or infinity."""
    if not bool(np.isfinite(values).all()):
        raise damaged(f"holds NaN or infinity in {name}")

"""Writing an exit pack (greencode_lsp/models/packs.py): exit heads in float16, a shortlist, a manifest written last."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from greencode_lsp.errors import CorpusError
from greencode_lsp.files import atomic_write
from greencode_lsp.models.exit_checks import SHORTLIST
from greencode_lsp.models.manifest import Manifest, write_manifest
from greencode_lsp.models.packs import EXITS_FILE, PACK_VERSION
from training.data.archives import disk_error

Heads = Sequence[Mapping[str, NDArray[Any]]]
"""By early exit its tensors, under their names below `exit.<index>.`; empty for one without a head of its own."""


def kind_of(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the kind of a head that has these tensors."""
    if not tensors:
        return "none"
    if "down.weight" not in tensors:
        return "affine"
    return "mlp" if "map.weight" in tensors else "low-rank"


def write_pack(
    folder: Path, manifest: Manifest, heads: Heads = (), shortlist: NDArray[np.int64] | None = None
) -> Manifest:
    """Write a pack for the weights that `manifest.weights` names; return its manifest. A pack in its place goes.

    The folder appears when it is whole. Raises CorpusError where a tensor is not finite or the disk is full.
    """
    arrays = _arrays(heads)
    if shortlist is not None:
        arrays[SHORTLIST] = np.asarray(shortlist, np.int32)
    kinds = tuple(kind_of(tensors) for tensors in heads)
    manifest = replace(manifest, exit_heads=kinds, pack_version=PACK_VERSION)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        if arrays:
            atomic_write(part / EXITS_FILE, save(arrays), mode=0o644)
        write_manifest(part, manifest)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise disk_error(error, str(folder)) from error
    return manifest


def save_heads(folder: Path, heads: Heads) -> tuple[str, ...]:
    """Write the heads of a trained folder's exits into it; return their kinds, which its manifest is to state.

    Raises CorpusError where a tensor is not finite or the disk is full.
    """
    arrays = _arrays(heads)
    try:
        atomic_write(folder / EXITS_FILE, save(arrays), mode=0o644)
    except OSError as error:
        raise disk_error(error, str(folder)) from error
    return tuple(kind_of(tensors) for tensors in heads)


def _arrays(heads: Heads) -> dict[str, NDArray[Any]]:
    """Return the tensors of all heads by their names in a pack. Raises CorpusError where one is not finite."""
    arrays: dict[str, NDArray[Any]] = {}
    for index, tensors in enumerate(heads):
        arrays |= {f"exit.{index}.{name}": np.asarray(tensor, np.float16) for name, tensor in tensors.items()}
    broken = [name for name, tensor in arrays.items() if not np.isfinite(tensor).all()]
    if broken:
        raise CorpusError(f"{broken[0]} is not finite in float16; fit the exit again with a smaller learning rate.")
    return arrays

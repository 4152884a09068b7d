"""Writing an exit pack (greencode_lsp/models/packs.py): exit heads in float16 and tables, a manifest written last."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from greencode_lsp.errors import CorpusError
from greencode_lsp.files import atomic_write
from greencode_lsp.models.draft_table import DraftTable
from greencode_lsp.models.exit_checks import DRAFTS, SHORTLIST
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
    folder: Path,
    manifest: Manifest,
    heads: Heads = (),
    shortlist: NDArray[np.int64] | None = None,
    drafts: DraftTable | None = None,
) -> Manifest:
    """Write a pack for the weights that `manifest.weights` names; return its manifest. A pack in its place goes.

    The folder appears when it is whole. Raises CorpusError where a tensor is not finite or the disk is full.
    """
    arrays = _arrays(heads)
    if shortlist is not None:
        arrays[SHORTLIST] = np.asarray(shortlist, np.int32)
    arrays |= _stored(drafts)
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

    A draft table that is there stays.

    Raises CorpusError where a tensor is not finite or the disk is full.
    """
    _write(folder, _arrays(heads) | _read(folder, lambda name: name in DRAFTS))
    return tuple(kind_of(tensors) for tensors in heads)


def save_drafts(folder: Path, drafts: DraftTable | None) -> None:
    """Write a draft table into a trained folder, beside the heads that are there; None takes out the one that is.

    Raises CorpusError where the disk is full.
    """
    arrays = _read(folder, lambda name: name not in DRAFTS) | _stored(drafts)
    if arrays:
        _write(folder, arrays)
    else:
        (folder / EXITS_FILE).unlink(missing_ok=True)


def _read(folder: Path, is_wanted: Callable[[str], bool]) -> dict[str, NDArray[Any]]:
    """Return what the folder's file holds already, of the tensors that are wanted."""
    path = folder / EXITS_FILE
    stored = load_file(path) if path.exists() else {}
    return {name: array for name, array in stored.items() if is_wanted(name)}


def _write(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    try:
        atomic_write(folder / EXITS_FILE, save(dict(arrays)), mode=0o644)
    except OSError as error:
        raise disk_error(error, str(folder)) from error


def _stored(drafts: DraftTable | None) -> dict[str, NDArray[Any]]:
    """Return a draft table's tensors by their names in a pack."""
    if drafts is None:
        return {}
    return {name: getattr(drafts, name.removeprefix("drafts.")).astype(kind) for name, kind in DRAFTS.items()}


def _arrays(heads: Heads) -> dict[str, NDArray[Any]]:
    """Return the tensors of all heads by their names in a pack. Raises CorpusError where one is not finite."""
    arrays: dict[str, NDArray[Any]] = {}
    for index, tensors in enumerate(heads):
        arrays |= {f"exit.{index}.{name}": np.asarray(tensor, np.float16) for name, tensor in tensors.items()}
    broken = [name for name, tensor in arrays.items() if not np.isfinite(tensor).all()]
    if broken:
        raise CorpusError(f"{broken[0]} is not finite in float16; fit the exit again with a smaller learning rate.")
    return arrays

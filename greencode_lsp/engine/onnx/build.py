"""From a checkpoint to the folder of graphs that `OnnxModel` loads: made once, kept in the cache.

`segment-<s>.onnx` and `head.onnx` with their weights in `.data`, and what numpy looks up or multiplies itself as
`.npy`: `embedding` [V, W], or in 8 bits [V, B, block size] with `embedding_scale` and `embedding_zero` [V, B]; `norm`
and `norm_bias` [D]; `positions` [N, D]; `project_in` [D, W].
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.onnx.graph import save_exit_head, save_head, save_segment
from greencode_lsp.engine.onnx.model import HEAD, SHORTLIST, exit_name, segment_name
from greencode_lsp.engine.quantize import Precision, bits_of, read_blocks
from greencode_lsp.models.packs import ExitHeads, HeadSource, ShortlistSource
from greencode_lsp.models.weights import WeightSource


def build(
    architecture: Architecture, source: WeightSource, exits: tuple[int, ...], precision: Precision, folder: Path
) -> None:
    """Write the graphs and tables into a folder."""
    for index, (start, stop) in enumerate(pairwise((0, *exits))):
        path = folder / f"{segment_name(index)}.onnx"
        save_segment(architecture, source, precision, range(start, stop), path)
    save_head(architecture, source, precision, folder / f"{HEAD}.onnx")
    _save_embedding(architecture, source, precision, folder)
    tables = {"positions": architecture.positions, "project_in": architecture.project_in}
    if architecture.final_norm is not None:
        tables["norm"] = architecture.final_norm + ".weight"
        if not architecture.has_rms_norm:
            tables["norm_bias"] = architecture.final_norm + ".bias"
    for name, tensor in tables.items():
        if tensor is not None:
            np.save(folder / f"{name}.npy", source.float32(tensor))


def build_heads(
    architecture: Architecture, source: WeightSource, heads: ExitHeads, precision: Precision, folder: Path
) -> None:
    """Write what exit heads and a shortlist add to a model.

    `exit-<i>.onnx` for an early exit with a head of its own, `shortlist.onnx` and its ids in `shortlist.npy`.
    """
    for index, kind in enumerate(heads.kinds):
        if kind != "none":
            path = folder / f"{exit_name(index)}.onnx"
            save_exit_head(architecture, HeadSource(heads, source), precision, index, path)
    if heads.shortlist is not None:
        rows = ShortlistSource(source, architecture.head, heads.shortlist)
        save_head(architecture, rows, precision, folder / f"{SHORTLIST}.onnx")
        np.save(folder / f"{SHORTLIST}.npy", heads.shortlist)


def _save_embedding(architecture: Architecture, source: WeightSource, precision: Precision, folder: Path) -> None:
    bits = bits_of(precision, "embedding")
    if bits is None:
        np.save(folder / "embedding.npy", source.float32(architecture.embedding))
        return
    blocks = read_blocks(source, architecture.embedding, bits)
    for name, array in (("", blocks.values), ("_scale", blocks.scale), ("_zero", blocks.zero)):
        np.save(folder / f"embedding{name}.npy", array)

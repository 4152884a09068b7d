"""The cache folder of graphs: built once per checkpoint, precision and version."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import onnxruntime

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.quantize import Precision
from greencode_lsp.models.store import data_home
from greencode_lsp.models.weights import WeightSource

FORMAT_VERSION = 1
"""Of the folder: one more whenever the same checkpoint would give other files."""


def cache_key(source: WeightSource, exits: tuple[int, ...], precision: Precision) -> str:
    """Return the name of the folder: all that its contents depend on."""
    cut = "-".join(str(layer) for layer in exits)
    return f"{source.digest()[:32]}_{precision}_{cut}_v{FORMAT_VERSION}_ort{onnxruntime.__version__}"


def graphs(architecture: Architecture, source: WeightSource, exits: tuple[int, ...], precision: Precision) -> Path:
    """Return the folder of a checkpoint's graphs, built where it is not there yet."""
    home = Path(os.environ.get("GREENCODE_CACHE") or data_home() / "cache")
    folder = home / cache_key(source, exits, precision)
    if not folder.exists():
        from greencode_lsp.engine.onnx.build import build  # imports onnx, which loading does without

        home.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=home))
        build(architecture, source, exits, precision, part)
        try:
            part.rename(folder)
        except OSError:
            shutil.rmtree(part)
    return folder

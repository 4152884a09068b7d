"""Where graphs are kept: built once per checkpoint, exits, precision and version, in the user's private cache."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from greencode_lsp.cache_folder import CacheFolder
from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.onnx.model import OnnxModel
from greencode_lsp.engine.quantize import Precision
from greencode_lsp.errors import EngineError
from greencode_lsp.models.weights import WeightSource

FORMAT_VERSION = 1
"""Of the folder: one more whenever the same checkpoint would give other files."""
CACHE_NAME = "graphs"


def cache_key(source: WeightSource, exits: tuple[int, ...], precision: Precision) -> str:
    """Return the name of the folder: all that its contents depend on."""
    cut = "-".join(str(layer) for layer in exits)
    return f"{source.fingerprint()[:32]}.{precision}.{cut}.v{FORMAT_VERSION}.ort{onnxruntime.__version__}"


def load(
    architecture: Architecture, source: WeightSource, exits: tuple[int, ...], precision: Precision, threads: int
) -> OnnxModel:
    """Return the decoder, its graphs built where they are not there yet.

    A folder that ONNX Runtime refuses is built again, once. Raises CacheError where it cannot be kept, EngineError
    where the graphs are refused though they are new.
    """
    cache, key = CacheFolder(CACHE_NAME), cache_key(source, exits, precision)
    known = cache.read(key)
    if known is not None:
        try:
            return OnnxModel(known, architecture, exits, threads)
        except (EngineError, OSError, ValueError):  # damaged behind a right size
            cache.remove(key)

    def make(folder: Path) -> None:
        from greencode_lsp.engine.onnx.build import build  # imports onnx, which loading does without

        build(architecture, source, exits, precision, folder)

    return OnnxModel(cache.build(key, make), architecture, exits, threads)

"""Where graphs are kept: built once per checkpoint, exits, precision and version, in the user's private cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import onnxruntime

from greencode_lsp.cache_folder import CacheFolder
from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.onnx.model import OnnxModel
from greencode_lsp.engine.quantize import Precision
from greencode_lsp.errors import EngineError
from greencode_lsp.models.packs import ExitHeads
from greencode_lsp.models.weights import WeightSource

FORMAT_VERSION = 1
"""Of a folder of graphs: one more whenever the same checkpoint would give other files."""
HEADS_VERSION = 2
"""Of a folder of exit heads, likewise."""
CACHE_NAME = "graphs"
HEADS_NAME = "exit-heads"
Opened = TypeVar("Opened")


def cache_key(source: WeightSource, exits: tuple[int, ...], precision: Precision) -> str:
    """Return the name of the folder: all that its contents depend on."""
    cut = "-".join(str(layer) for layer in exits)
    return f"{source.fingerprint()[:32]}.{precision}.{cut}.v{FORMAT_VERSION}.ort{onnxruntime.__version__}"


def load(
    architecture: Architecture,
    source: WeightSource,
    exits: tuple[int, ...],
    precision: Precision,
    threads: int,
) -> OnnxModel:
    """Return the decoder, its graphs built where they are not there yet.

    A folder that ONNX Runtime refuses is built again, once. Raises CacheError where it cannot be kept, EngineError
    where the graphs are refused though they are new.
    """

    def make(folder: Path) -> None:
        from greencode_lsp.engine.onnx.build import build  # imports onnx, which loading does without

        build(architecture, source, exits, precision, folder)

    key = cache_key(source, exits, precision)
    return _opened(CacheFolder(CACHE_NAME), key, make, lambda at: OnnxModel(at, architecture, exits, threads))


def load_heads(model: OnnxModel, source: WeightSource, heads: ExitHeads, precision: Precision) -> None:
    """Load what exit heads and a shortlist add to a model, built where it is not there yet; raises as `load`."""

    def make(folder: Path) -> None:
        from greencode_lsp.engine.onnx.build import build_heads

        build_heads(model.architecture, source, heads, precision, folder)

    of = f"{heads.digest[:24]}.{source.fingerprint()[:24]}.{precision}"
    key = f"{of}.v{HEADS_VERSION}.ort{onnxruntime.__version__}"
    _opened(CacheFolder(HEADS_NAME), key, make, model.add_heads)


def _opened(cache: CacheFolder, key: str, make: Callable[[Path], None], open_: Callable[[Path], Opened]) -> Opened:
    """Return what `open_` makes of an entry, which is built where it is missing, and again where it is refused."""
    known = cache.read(key)
    if known is not None:
        try:
            return open_(known)
        except (EngineError, OSError, ValueError):  # damaged behind a right size
            cache.remove(key)
    return open_(cache.build(key, make))

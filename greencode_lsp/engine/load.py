"""From a checkpoint to an engine: sources, devices, precisions, policies."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from safetensors import SafetensorError

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.checkpoint import Weights
from greencode_lsp.engine.engine import Engine, Model
from greencode_lsp.engine.families import describe
from greencode_lsp.engine.policy import (
    AGENT_FILE,
    AgentPolicy,
    ConfidencePolicy,
    ExitPolicy,
    FixedPolicy,
    NeverPolicy,
    policies_of,
)
from greencode_lsp.engine.quantize import Precision
from greencode_lsp.errors import DeviceError, EngineError, ModelDamagedError
from greencode_lsp.models import packs
from greencode_lsp.models.checks import CheckedWeights
from greencode_lsp.models.manifest import Manifest, read_manifest
from greencode_lsp.models.packs import ExitHeads
from greencode_lsp.models.weights import WeightSource
from greencode_lsp.preference import SHORTLIST
from greencode_lsp.records import FixedControl

if TYPE_CHECKING:  # neither library where it is not used
    from greencode_lsp.engine.onnx.model import OnnxModel
    from greencode_lsp.engine.torch.model import TorchModel

CHUNK_S, CHUNK_STEPS = 0.02, 8
"""A cancel is heard at least about so often during prefill: in seconds, or in steps of a token where these are slow."""
CHUNKS = (8, 16, 32, 64, 128, 256)
TIMED_POSITIONS = 64
PRECISIONS = {"cpu": ("int8", "mixed", "int4", "float32"), "cuda": ("bfloat16", "float32")}
LARGE_WEIGHTS = 300_000_000
"""From here on the CPU's default has 4 bits where a layer is widest: a step's time is that of reading the weights."""
GPU_EXTRA = "pip install 'greencode-lsp[gpu]'"
GGUF_SUFFIX = ".gguf"
Backend = Literal["onnx", "torch"]
DEFAULT_BACKENDS: dict[str, Backend] = {"cpu": "onnx", "cuda": "torch"}
logger = logging.getLogger(__name__)


def has_torch() -> bool:
    """Return whether torch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None


def has_gpu() -> bool:
    """Return whether there is an NVIDIA GPU with its driver, without torch."""
    import pynvml

    try:
        pynvml.nvmlInit()
        is_there = bool(pynvml.nvmlDeviceGetCount() > 0)
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return False
    return is_there


def _has_cuda() -> bool:
    if not (has_gpu() and has_torch()):
        return False
    from greencode_lsp.engine.torch.device import is_cuda_usable  # seconds, and only where there is a GPU for it

    return is_cuda_usable()


def pick_device(device: str) -> str:
    """Return `cpu` or `cuda`. Raises DeviceError where the device is unknown or absent."""
    if device == "auto":
        return "cuda" if _has_cuda() else "cpu"
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"There is no device {device!r}; set greencode.device to auto, cpu or cuda.")
    if device == "cuda" and not has_torch():
        raise DeviceError(f"CUDA needs torch, which is not installed: {GPU_EXTRA}, or set greencode.device to cpu.")
    if device == "cuda" and not _has_cuda():
        raise DeviceError("No CUDA device is usable here; set greencode.device to auto or cpu.")
    return device


def pick_precision(precision: str, device: str, weights: int = 0) -> str:
    """Return how a model of so many weights computes: of `auto` what the device is fastest in. Raises DeviceError."""
    if precision == "auto":
        if device == "cuda":
            return "bfloat16"
        return "mixed" if weights >= LARGE_WEIGHTS else "int8"
    if precision not in PRECISIONS[device]:
        raise DeviceError(
            f"The precision {precision!r} does not run on {device}; set greencode.precision to auto, "
            f"{' or '.join(PRECISIONS[device])}."
        )
    return precision


def is_gguf(checkpoint: Path) -> bool:
    """Return whether a checkpoint is a GGUF file: any file, as stores name theirs by digest, or by its name."""
    return checkpoint.is_file() or (checkpoint.suffix.lower() == GGUF_SUFFIX and not checkpoint.is_dir())


def open_source(checkpoint: Path) -> WeightSource:
    """Return the weights of a folder, or of a GGUF file. Raises ModelNotFoundError, ModelDamagedError."""
    if not is_gguf(checkpoint):
        return CheckedWeights(Weights(checkpoint))
    from greencode_lsp.models.gguf import GGUFWeights  # with its library: only where it is needed

    return CheckedWeights(GGUFWeights(checkpoint))


def load_model(
    source: WeightSource,
    exits: tuple[int, ...],
    precision: str,
    device: str = "cpu",
    backend: Backend | None = None,
    threads: int | None = None,
) -> Model:
    """Return the decoder of some weights, for a device and precision that have been picked.

    `backend` is onnx on the CPU and torch on CUDA; torch in float32 on the CPU is the reference. `threads` are those of
    ONNX Runtime, the same for all models of a process: the first decides.
    """
    architecture = describe(source.config)
    backend = backend or DEFAULT_BACKENDS[device]
    try:
        if backend == "onnx":
            return _on_onnx(architecture, source, exits, cast("Precision", precision), threads)
        from greencode_lsp.engine.torch.model import TorchModel  # not on the CPU's path

        return TorchModel(architecture, source, exits, device, precision)
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError, SafetensorError) as error:
        raise ModelDamagedError(f"The model's config does not describe its weights ({error!r}).") from error


def _on_onnx(
    architecture: Architecture, source: WeightSource, exits: tuple[int, ...], precision: Precision, threads: int | None
) -> Model:
    from greencode_lsp.engine.onnx import cache
    from greencode_lsp.engine.onnx.model import check_supported
    from greencode_lsp.engine.onnx.threads import usable_threads

    check_supported(architecture)
    return cache.load(architecture, source, exits, precision, threads or usable_threads())


def _add_heads(model: Model, source: WeightSource, heads: ExitHeads, precision: str, *, is_onnx: bool) -> None:
    """Load exit heads and a shortlist, in the precision of the model."""
    if is_onnx:
        from greencode_lsp.engine.onnx import cache

        cache.load_heads(cast("OnnxModel", model), source, heads, cast("Precision", precision))
    else:
        cast("TorchModel", model).add_heads(heads)


def load_engine(
    checkpoint: Path,
    device: str = "auto",
    precision: str = "auto",
    backend: Backend | None = None,
    threads: int | None = None,
    pack: Path | None = None,
) -> Engine:
    """Load a checkpoint: a folder with exits and an agent, or a published folder or file with its exit pack, if any.

    Without a pack every token of a published one runs at full depth. `pack` is one that is not yet where packs lie.

    Raises ModelNotFoundError, ModelDamagedError, UnsupportedModelError, EngineError or DeviceError, each naming what to
    fix.
    """
    manifest = None if is_gguf(checkpoint) else read_manifest(checkpoint)
    source = open_source(checkpoint)
    architecture = describe(source.config)
    device = pick_device(device)
    weights = architecture.layers * architecture.layer_weights + architecture.head_weights
    precision = pick_precision(precision, device, weights)
    extras = checkpoint
    if manifest is None:
        name = checkpoint.stem if is_gguf(checkpoint) else checkpoint.name
        own = packs.find(source) if pack is None else packs.Pack(pack, packs.read_pack(pack, source.digest()))
        manifest = Manifest(name=name, family=architecture.family, exits=(architecture.layers,))
        if own is not None:
            manifest, extras = replace(own.manifest, name=name), own.folder
        else:
            logger.info("%s has no exit pack: every token runs at full depth", checkpoint.name)
    _check(extras, manifest, architecture, source)
    heads = packs.read_exit_heads(extras, manifest, architecture.hidden_size, architecture.vocabulary)
    policies = _policies(extras, manifest, architecture.hidden_size)
    model = load_model(source, manifest.exits, precision, device, backend, threads)
    if heads:
        _add_heads(model, source, heads, precision, is_onnx=(backend or DEFAULT_BACKENDS[device]) == "onnx")
    engine = Engine(model, manifest, policies, device, precision, heads.drafts)
    try:  # shapes that do not fit each other show here, not in the user's first completion
        engine.full_depth_argmax([0], [0], FixedControl())
    except (IndexError, RuntimeError, EngineError) as error:
        raise ModelDamagedError(f"The weights in {checkpoint} do not fit its config ({error}).") from error
    engine.sequences.chunk_positions = _chunk_positions(engine)
    return engine


def _check(checkpoint: Path, manifest: Manifest, architecture: Architecture, source: WeightSource) -> None:
    layers = architecture.layers
    if manifest.exits[-1:] != (layers,) or list(manifest.exits) != sorted(set(manifest.exits)):
        raise ModelDamagedError(f"{checkpoint} states exits {manifest.exits} for {layers} layers; export it again.")
    if any(name.startswith(f"{architecture.layers_at}{layers}.") for name in source.names()):
        raise ModelDamagedError(f"{checkpoint} holds more than the {layers} layers its config states; fetch it again.")


def _policies(checkpoint: Path, manifest: Manifest, hidden_size: int) -> dict[str, ExitPolicy]:
    policies: dict[str, ExitPolicy] = {
        "never": NeverPolicy(),
        "fixed": FixedPolicy(),
        "confidence": ConfidencePolicy(),
        SHORTLIST: NeverPolicy(),
    }
    if os.path.lexists(checkpoint / AGENT_FILE):
        policies |= policies_of(AgentPolicy.load(checkpoint / AGENT_FILE, manifest.exits, hidden_size))
    missing = {name for table in manifest.calibration.values() for name in table} - set(policies)
    if missing:
        raise ModelDamagedError(
            f"{checkpoint} is calibrated for {', '.join(sorted(missing))}, which it lacks; export it again."
        )
    return policies


def _chunk_positions(engine: Engine) -> int:
    """Return how many prompt positions the widest segment runs in about CHUNK_S, or CHUNK_STEPS steps, here."""
    widest = max(after - before for before, after in pairwise((0, *engine.exits))) / engine.layers

    def widest_s(count: int) -> float:
        start_s = time.perf_counter()
        engine.full_depth_argmax([0] * count, [0], FixedControl())
        return (time.perf_counter() - start_s) * widest

    step_s = widest_s(1)
    count = min(TIMED_POSITIONS, engine.max_positions - 1)
    position_s = widest_s(count) / count
    room_s = max(CHUNK_S, CHUNK_STEPS * step_s)
    return max(size for size in CHUNKS if size == CHUNKS[0] or size * position_s <= room_s)

"""From a checkpoint folder to an engine: families, devices, policies."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from greencode_lsp.engine.checkpoint import Weights, read_config
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.family import Family
from greencode_lsp.engine.graphs import GraphedFamily
from greencode_lsp.engine.llama import Llama
from greencode_lsp.engine.native.decoder import NativeDecoder, supports
from greencode_lsp.engine.opt import Opt
from greencode_lsp.engine.policy import (
    AGENT_FILE,
    AgentPolicy,
    ConfidencePolicy,
    ExitPolicy,
    FixedPolicy,
    NeverPolicy,
)
from greencode_lsp.engine.sequences import KVMode
from greencode_lsp.engine.threads import tune
from greencode_lsp.errors import DeviceError, ModelDamagedError, UnsupportedModelError
from greencode_lsp.models.manifest import Manifest, read_manifest
from greencode_lsp.records import FixedControl

MAX_POSITIONS = 4096
"""Positions cached at most, however many the checkpoint allows."""

CHUNK_S = 0.02
"""A cancel is heard at least about so often during prefill."""
CHUNKS = (8, 16, 32, 64, 128, 256)
TIMED_POSITIONS = 64
NUMERICS = {"cpu": ("int8", "float32"), "cuda": ("bfloat16", "float32")}

_FAMILIES: dict[str, type[Llama] | type[Opt]] = {"llama": Llama, "opt": Opt}


def pick_device(device: str) -> str:
    """Return `cpu` or `cuda`. Raises DeviceError where the device is unknown or absent."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"There is no device {device!r}; set greencode.device to auto, cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("No CUDA device is usable here; set greencode.device to auto or cpu.")
    return device


def pick_numeric(numeric: str, device: str) -> str:
    """Return `int8`, `float32` or `bfloat16`: of `auto` what the device is fastest in. Raises DeviceError."""
    if numeric == "auto":
        return "bfloat16" if device == "cuda" else "int8"
    if numeric not in NUMERICS[device]:
        raise DeviceError(
            f"The numeric mode {numeric!r} does not run on {device}; set greencode.numeric to auto, "
            f"{' or '.join(NUMERICS[device])}."
        )
    return numeric


def load_family(folder: Path, config: dict[str, Any], device: str, numeric: str, kv: KVMode = "exact") -> Family[Any]:
    """Read the weights, for a device and a numeric mode that have been picked."""
    kind = str(config.get("model_type"))
    if kind not in _FAMILIES:
        raise UnsupportedModelError(
            f"The model family {kind!r} is not supported; {' and '.join(_FAMILIES)} are. Set greencode.model."
        )
    dtype = torch.bfloat16 if numeric == "bfloat16" else torch.float32
    try:
        max_positions = min(int(config["max_position_embeddings"]), MAX_POSITIONS)
        weights = Weights(folder, dtype, device, int8=numeric == "int8")
        family = _FAMILIES[kind](config, weights, max_positions)
        if device == "cuda":
            return GraphedFamily(family)
        return NativeDecoder(family) if kv == "exact" and supports(family) else family
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError, SafetensorError) as error:
        raise ModelDamagedError(f"{folder / 'config.json'} does not describe the weights ({error!r}).") from error


def load_engine(folder: Path, device: str = "auto", numeric: str = "auto", kv: KVMode = "exact") -> Engine:
    """Load a checkpoint folder: a published Hugging Face one (full depth only) or one with exits and an agent.

    Raises ModelNotFoundError, ModelDamagedError, UnsupportedModelError or DeviceError, each naming what to mend.
    """
    manifest = read_manifest(folder)
    config = read_config(folder)
    device = pick_device(device)
    numeric = pick_numeric(numeric, device)
    family = load_family(folder, config, device, numeric, kv)
    if manifest is None:
        manifest = Manifest(name=folder.name, family=str(config["model_type"]), exits=(family.layers,))
    if manifest.exits[-1:] != (family.layers,) or list(manifest.exits) != sorted(set(manifest.exits)):
        raise ModelDamagedError(f"{folder} states exits {manifest.exits} for {family.layers} layers; export it again.")
    policies: dict[str, ExitPolicy] = {
        "never": NeverPolicy(),
        "fixed": FixedPolicy(),
        "confidence": ConfidencePolicy(),
    }
    if (folder / AGENT_FILE).exists():
        policies["agent"] = AgentPolicy.load(folder / AGENT_FILE, manifest.exits)
    missing = {name for table in manifest.calibration.values() for name in table} - set(policies)
    if missing:
        raise ModelDamagedError(
            f"{folder} is calibrated for {', '.join(sorted(missing))}, which it lacks; export it again."
        )
    engine = Engine(family, manifest, policies, numeric, kv)
    try:  # shapes that do not fit each other show here, not in the user's first completion
        engine.full_depth_argmax([0], [0], FixedControl())
    except (IndexError, RuntimeError) as error:
        raise ModelDamagedError(f"The weights in {folder} do not fit its config.json ({error}).") from error
    if device == "cpu":
        tune(lambda: engine.full_depth_argmax([0], [0], FixedControl()))
    engine.sequences.chunk_positions = _chunk_positions(engine)
    return engine


def _chunk_positions(engine: Engine) -> int:
    """Return how many prompt positions the widest segment runs in about CHUNK_S here."""
    count = min(TIMED_POSITIONS, engine.max_positions - 1)
    start_s = time.perf_counter()
    engine.full_depth_argmax([0] * count, [0], FixedControl())
    widest = max(after - before for before, after in pairwise((0, *engine.exits)))
    position_s = (time.perf_counter() - start_s) / count * widest / engine.layers
    return max(size for size in CHUNKS if size == CHUNKS[0] or size * position_s <= CHUNK_S)

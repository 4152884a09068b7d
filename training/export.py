"""`python -m training export`: a trained Hugging Face folder -> a checkpoint folder (design, section 6).

Matrices are stored as int8 with one float32 scale per row, which quarters the file; the engine turns them back into
floats on load. `dequantise` writes the ordinary folder again: "the same weights" for transformers and benchmarks.
`greencode.json` is written last.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from greencode_lsp.engine.checkpoint import SCALE_SUFFIX, Weights, read_config
from greencode_lsp.models.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from training.preset import Preset
from training.tokenizer import SPECIAL_TOKENS

WEIGHTS_FILE = "model.safetensors"
MAX_SHARD_BYTES = 15_000_000


def quantise_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 [out, in] and float32 scales [out] with matrix = int8 * scale, to half a step per entry."""
    scale = (matrix.abs().amax(dim=1).clamp_min(1e-8) / 127).float()
    return torch.round(matrix.float() / scale[:, None]).to(torch.int8), scale


def _quantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            out[name], out[name + SCALE_SUFFIX] = quantise_rows(tensor)
        else:
            out[name] = tensor.float()
    return out


def _save_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write shards of at most MAX_SHARD_BYTES; a scale stays in the file of its matrix."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name in sorted(n for n in tensors if not n.endswith(SCALE_SUFFIX)):
        group = {n: tensors[n].contiguous() for n in (name, name + SCALE_SUFFIX) if n in tensors}
        group_size = sum(t.numel() * t.element_size() for t in group.values())
        if size + group_size > MAX_SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1] |= group
        size += group_size
    for index, shard in enumerate(shards, 1):
        name = WEIGHTS_FILE if len(shards) == 1 else f"model-{index:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, str(folder / name), metadata={"format": "pt"})


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip()


def _recipe(preset: Preset, work: Path) -> dict[str, Any]:
    """Collect what people want to know: corpus with licences, stages, the last metrics, the commit."""
    metrics = work / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf8").splitlines() if metrics.exists() else []
    return {
        "preset": preset.name,
        "commit": _commit(),
        "lite": {"exit_weight": preset.lite.exit_weight, "last_layer_weight": 1.0, "sampling": "paper, one per step"},
        "tokens_seen": sum(stage.steps * stage.rows * stage.context for stage in preset.lite.stages),
        "metrics": json.loads(lines[-1]) if lines else {},
        "corpus": json.loads((work / "corpus.json").read_text(encoding="utf8")),
    }


def export(preset: Preset, work: Path, trained: Path, out: Path) -> Path:
    """Write the checkpoint folder without agent and calibration, which later steps add; returns `out`."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    for path in sorted(trained.glob("model*.safetensors")):
        tensors |= load_file(str(path))
    _save_shards(_quantised(tensors), out)
    for name, source in (("config.json", trained), ("tokenizer.json", work)):
        shutil.copyfile(source / name, out / name)
    manifest = Manifest(
        name=preset.name,
        family="llama",
        exits=tuple(preset.model.exits),
        weight_format="int8",
        languages=("python",),
        fim=dict(SPECIAL_TOKENS),
        training=_recipe(preset, work),
    )
    write_manifest(out, manifest)
    return out


def dequantise(folder: Path, out: Path) -> Path:
    """Write the folder with float32 weights, as transformers reads it; returns `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with Weights(folder, torch.float32, "cpu") as weights:
        tensors = {name: weights(name).contiguous() for name in weights.names()}
    save_file(tensors, str(out / WEIGHTS_FILE), metadata={"format": "pt"})
    for path in folder.iterdir():
        if (path.suffix == ".json" and path.name != MANIFEST_NAME) or path.name == "agent.safetensors":
            shutil.copyfile(path, out / path.name)
    config = read_config(folder) | {"dtype": "float32"}
    (out / "config.json").write_text(json.dumps(config, indent=1), encoding="utf8")
    manifest = read_manifest(folder)
    if manifest is not None:
        write_manifest(out, dataclasses.replace(manifest, weight_format="as stored"))
    return out

"""`python -m training export`: a trained Hugging Face folder -> a checkpoint folder.

    python -m training export --preset mini                     # WORK/lite -> WORK/out
    python -m training export --dequantise FOLDER OUT           # "the same weights" for transformers and benchmarks

Matrices are stored as int8 with one float32 scale per row, or in blocks of 4 bits where the preset says so; the engine
computes with them as they are. Tensors are read, converted and written shard by shard, `greencode.json` last.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from greencode_lsp.engine.checkpoint import SCALE_SUFFIX, ZERO_SUFFIX, Weights, read_config
from greencode_lsp.engine.policy import AGENT_FILE
from greencode_lsp.engine.quantize import paired_zeros, pairs, round_to_blocks
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from greencode_lsp.models.packs import EXITS_FILE
from greencode_lsp.models.weights import BLOCK_SIZE
from training.checkpoint import bpe
from training.checkpoint.bpe import fim_marks
from training.checkpoint.tensor_files import save_shards
from training.preset import LiteOptions, Preset
from training.whole_files import whole_folder

MAX_SHARD_BYTES = 15_000_000
"""Of the folders that are bundled."""
MAX_FLOAT_SHARD_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """One of the tensors that a bundled folder holds for a tensor."""

    end: str
    """Of its name."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    convert: Callable[[NDArray[np.float32]], NDArray[Any]]


def quantise_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 [O, K] and float32 scales [O] with matrix = int8 * scale, to half a step per entry."""
    scale = row_scales(matrix)
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale


def row_scales(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the float32 scales [O] that spread each row's largest entry over 127 steps."""
    largest = np.maximum(matrix.max(1), -matrix.min(1))  # no second matrix, as abs() would make
    scales: NDArray[np.float32] = (np.maximum(largest, 1e-8) / 127).astype(np.float32)
    return scales


def stored(name: str, shape: tuple[int, ...], narrow: Collection[str] = ()) -> list[Part]:
    """Return what a bundled folder holds for a tensor: the one place that decides how weights are stored.

    Matrices of the modules called `narrow` are stored in 4 bits, where their rows are whole blocks, others in 8.
    """
    if len(shape) != 2:
        return [Part("", shape, torch.float32, lambda vector: vector)]
    if name.split(".")[-2] in narrow and shape[1] % BLOCK_SIZE == 0:
        return _four_bits(shape[0], shape[1] // BLOCK_SIZE)
    values = Part("", shape, torch.int8, lambda matrix: quantise_rows(matrix)[0])
    return [values, Part(SCALE_SUFFIX, shape[:1], torch.float32, row_scales)]


def _four_bits(rows: int, blocks: int) -> list[Part]:
    return [
        Part("", (rows, blocks, BLOCK_SIZE // 2), torch.uint8, lambda m: pairs(round_to_blocks(m, 4).values)),
        Part(SCALE_SUFFIX, (rows, blocks), torch.float16, lambda m: round_to_blocks(m, 4).scale.astype(np.float16)),
        Part(ZERO_SUFFIX, (rows, -(-blocks // 2)), torch.uint8, lambda m: paired_zeros(round_to_blocks(m, 4).zero)),
    ]


def _save_stored(trained: Path, out: Path, narrow: Collection[str] = ()) -> None:
    """Write the shards, a tensor in memory at a time."""
    weights = Weights(trained)
    parts = {n + part.end: (n, part) for n in weights.names() for part in stored(n, weights.shape(n), narrow)}

    def read(stored_name: str) -> Tensor:
        name, part = parts[stored_name]
        return torch.from_numpy(part.convert(weights.float32(name)))

    save_shards(out, {name: (part.shape, part.dtype) for name, (_, part) in parts.items()}, read, MAX_SHARD_BYTES)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip()


def _tokens_seen(steps: int, options: LiteOptions) -> int:
    """Return the positions of the first so many optimiser steps."""
    seen = 0
    for stage in options.stages:
        seen += min(steps, stage.steps) * stage.rows * stage.context
        steps = max(0, steps - stage.steps)
    return seen


def _recipe(preset: Preset, work: Path, trained: Path, corpus: dict[str, Any]) -> dict[str, Any]:
    """Collect what people want to know: corpus with licences, stages, the last metrics, the commit."""
    metrics = work / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf8").splitlines() if metrics.exists() else []
    options = preset.lite
    last = json.loads(lines[-1]) if lines else {}
    name, _, step = trained.name.partition("-")  # a running training's checkpoint, or the ended one's folder
    steps = int(step) if name == "checkpoint" else last.get("step", options.steps)
    lite = {"schedule": options.schedule, "exit_weight": options.exit_weight, "start": options.start}
    return {
        "preset": preset.name,
        "commit": _commit(),
        "lite": lite,
        "tokens_seen": _tokens_seen(steps, options),
        "metrics": last,
        "corpus": corpus,
    }


def _languages(corpus: dict[str, Any]) -> tuple[str, ...]:
    """Return the languages present, most text first; a corpus that names none is Python."""
    characters: dict[str, int] = {}
    for row in corpus["packages"]:
        language = row.get("language", "python")
        characters[language] = characters.get(language, 0) + row["characters"]
    return tuple(sorted(characters, key=lambda language: -characters[language]))


def export(preset: Preset, work: Path, trained: Path, out: Path) -> Path:
    """Write the checkpoint folder without agent and calibration, which later steps add; returns `out`.

    Raises CorpusError where the trained model and the work folder's tokenizer do not belong together, and for a full
    disk: what was in `out` stays then.
    """
    config = read_config(trained)
    vocabulary = bpe.load(work).get_vocab()
    if len(vocabulary) > config["vocab_size"]:
        raise CorpusError(
            f"{work / 'tokenizer.json'} has {len(vocabulary)} tokens, {trained} {config['vocab_size']}: "
            "they belong to different runs."
        )
    corpus = json.loads((work / "corpus.json").read_text(encoding="utf8"))
    manifest = Manifest(
        name=preset.name,
        family=config["model_type"],
        exits=tuple(preset.model.exits),
        weight_format="int8 and 4 bits" if preset.four_bits else "int8",
        languages=_languages(corpus),
        fim=fim_marks(vocabulary.get),
        training=_recipe(preset, work, trained, corpus),
    )
    try:
        with whole_folder(out) as part:
            _save_stored(trained, part, preset.four_bits)
            for name, source in (("config.json", trained), ("tokenizer.json", work)):
                shutil.copyfile(source / name, part / name)
            write_manifest(part, manifest)
    except (OSError, SafetensorError) as error:
        raise CorpusError(f"{out} could not be written ({error}); free some space and run again.") from error
    return out


def dequantise(folder: Path, out: Path) -> Path:
    """Write the folder with float32 weights, as transformers reads it; returns `out`."""
    manifest, config = read_manifest(folder), read_config(folder)
    out.mkdir(parents=True, exist_ok=True)
    weights = Weights(folder)
    layout = {name: (weights.shape(name), torch.float32) for name in weights.names()}
    save_shards(out, layout, lambda name: torch.from_numpy(weights.float32(name)), MAX_FLOAT_SHARD_BYTES)
    for path in folder.iterdir():
        is_ours = path.name == MANIFEST_NAME or path.name.endswith(".index.json")
        if (path.suffix == ".json" and not is_ours) or path.name in (AGENT_FILE, EXITS_FILE):
            shutil.copyfile(path, out / path.name)
    (out / "config.json").write_text(json.dumps(config | {"dtype": "float32"}, indent=1), encoding="utf8")
    if manifest is not None:
        write_manifest(out, dataclasses.replace(manifest, weight_format="as stored"))
    return out

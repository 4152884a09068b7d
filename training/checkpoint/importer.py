"""`python -m training import FOLDER OUT`: an older published folder, or a GGUF file -> safetensors and tokenizer.json.

    python -m training import ~/opt-2.7b ~/opt-2.7b-safe

`pytorch_model.bin`, whole or in shards with an index, is read weights-only (a pickle that asks for anything else is
refused) and memory-mapped; `vocab.json` and `merges.txt` become `tokenizer.json`. The folder appears when it is whole.
"""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Tokenizer

from greencode_lsp.engine.checkpoint import read_config
from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError, UnsupportedModelError
from greencode_lsp.models.manifest import FAMILIES
from training.checkpoint.tensor_files import save_shards
from training.whole_files import whole_folder

MAX_SHARD_BYTES = 500_000_000
_TIED_BY_DEFAULT = {"llama": False, "qwen2": False, "opt": True}
_COPIED = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


def import_folder(folder: Path, out: Path) -> Path:
    """Write `out` from `folder`, or from a file `*.gguf`; returns `out`.

    Raises ModelNotFoundError for a file that is missing (or an `out` that exists), ModelDamagedError for weights that
    cannot be read safely, UnsupportedModelError for another family.
    """
    if out.exists():
        raise ModelNotFoundError(f"{out} exists already; name a folder that does not.")
    with whole_folder(out) as part:
        if folder.suffix == ".gguf":
            from training.checkpoint.gguf_import import import_gguf  # an extra's

            import_gguf(folder, part)
        else:
            _import_published(folder, part)
    return out


def _import_published(folder: Path, part: Path) -> None:
    config = read_config(folder)
    if config.get("model_type") not in FAMILIES:
        raise UnsupportedModelError(
            f"The model family {config.get('model_type')!r} is not supported; {' and '.join(FAMILIES)} are."
        )
    _write_weights(folder, config, part)
    _write_tokenizer(folder, part)
    for name in ("config.json", *(n for n in _COPIED if (folder / n).exists())):
        shutil.copyfile(folder / name, part / name)


def _write_weights(folder: Path, config: dict[str, Any], out: Path) -> None:
    stored = sorted(folder.glob("model*.safetensors*"))  # with their index
    for path in stored:
        shutil.copyfile(path, out / path.name)
    if stored:
        return
    tensors: dict[str, Tensor] = {}
    for path in _bins(folder):
        tensors |= _read_bin(path)
    named = _as_transformers_names_them(tensors, config)
    layout = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in named.items()}
    save_shards(out, layout, lambda name: named[name].clone(), MAX_SHARD_BYTES)


def _bins(folder: Path) -> list[Path]:
    index = folder / "pytorch_model.bin.index.json"
    if not index.exists():
        return [folder / "pytorch_model.bin"]
    try:
        return [
            folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf8"))["weight_map"].values()))
        ]
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelDamagedError(f"{index} cannot be read ({error!r}); fetch it again.") from error


def _read_bin(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a pickle, memory-mapped where its format allows, and nothing but tensors."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"{path} is missing; fetch the folder again.") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise ModelDamagedError(f"{path} holds no plain weights ({reason}); fetch it again.") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ModelDamagedError(f"{path} holds no plain weights; fetch it again.")
    return loaded


def _as_transformers_names_them(tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors under today's names: older files lack the prefix `model.`, repeat tied heads, hold buffers."""
    prefix = "" if any(name.startswith("model.") for name in tensors) else "model."
    tied = config.get("tie_word_embeddings", _TIED_BY_DEFAULT[config["model_type"]])
    named = {}
    for name, tensor in tensors.items():
        if name.endswith("rotary_emb.inv_freq") or (tied and name == "lm_head.weight"):
            continue
        named[name if name.startswith("lm_head.") else prefix + name] = tensor
    return named


def _write_tokenizer(folder: Path, out: Path) -> None:
    if (folder / "tokenizer.json").exists():
        shutil.copyfile(folder / "tokenizer.json", out / "tokenizer.json")
        return
    if not ((folder / "vocab.json").exists() and (folder / "merges.txt").exists()):
        raise ModelNotFoundError(f"{folder} has neither tokenizer.json nor vocab.json and merges.txt; add them.")
    try:
        GPT2Tokenizer.from_pretrained(str(folder)).backend_tokenizer.save(str(out / "tokenizer.json"))
    except Exception as error:  # the tokenizers library raises nothing more special
        raise ModelDamagedError(f"The tokenizer in {folder} cannot be read ({error}); fetch it again.") from error

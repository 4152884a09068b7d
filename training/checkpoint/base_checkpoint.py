"""The checkpoint that a LITE training goes on from: the bundled one, a folder, a GGUF file, or a name on the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoModelForCausalLM

from greencode_lsp.engine.checkpoint import read_config
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import FAMILIES, read_manifest
from greencode_lsp.models.store import BUNDLED, bundled_folder
from training.checkpoint import bpe
from training.checkpoint.export import dequantise
from training.checkpoint.importer import import_folder
from training.checkpoint.trim import trim_folder, trim_folder_to
from training.preset import ModelOptions
from training.whole_files import whole_folder

TRIMMED = "trimmed"
"""Folder of the work folder: the start with the corpus's vocabulary, made by the corpus step."""
_FILES = ["*.json", "*.safetensors", "pytorch_model*.bin", "merges.txt"]


def start_folder(start: str, work: Path) -> Path:
    """Return a folder that transformers reads, with a tokenizer.json; made in the work folder where it has to be."""
    if (work / TRIMMED).is_dir():
        return work / TRIMMED
    folder = bundled_folder() if start == BUNDLED else Path(start).expanduser()
    if folder.suffix == ".gguf":
        return _made(folder, work / "start", import_folder)
    if not folder.is_dir():
        folder = _fetched(start)
    manifest = read_manifest(folder)
    if manifest is not None and manifest.weight_format.startswith("int8"):
        return _made(folder, work / "start", dequantise)
    if not any(folder.glob("model*.safetensors")) or not (folder / "tokenizer.json").exists():
        return _made(folder, work / "start", import_folder)
    return folder


def fitted_start(start: str, texts: Iterable[str], vocab_size: int, work: Path) -> Path:
    """Return the folder, its vocabulary trimmed to `vocab_size` by the texts where it has more entries."""
    shutil.rmtree(work / TRIMMED, ignore_errors=True)
    folder = start_folder(start, work)
    if read_config(folder)["vocab_size"] <= vocab_size:
        return folder
    with whole_folder(work / TRIMMED) as part:
        kept = trim_folder(folder, texts, vocab_size, part)
    print(f"{vocab_size:,} of {read_config(folder)['vocab_size']:,} tokens; {kept:.2%} of the text is cut as before")
    return work / TRIMMED


def _made(folder: Path, made: Path, make: Callable[[Path, Path], Path]) -> Path:
    """Make the folder unless it is there, whole and of the same source: of several processes the first makes it."""
    mark = made / "made-from.txt"
    newest_ns = max(path.stat().st_mtime_ns for path in (folder.iterdir() if folder.is_dir() else [folder]))
    source = f"{folder.resolve()} {newest_ns}"
    if not mark.exists() or mark.read_text(encoding="utf8") != source:
        shutil.rmtree(made, ignore_errors=True)
        make(folder, made)
        mark.write_text(source, encoding="utf8")
    return made


def _fetched(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CorpusError(f"[lite] start = {name!r} is no folder, and the hub does not give it ({error}).") from error


def load_start(start: str, options: ModelOptions, work: Path) -> Any:
    """Return the model in float32. Raises CorpusError where its tokenizer or depth is not the run's."""
    folder = start_folder(start, work)
    tokenizer = bpe.load(work)
    if tokenizer.get_vocab_size() < bpe.load(folder).get_vocab_size():  # rows that were made on another machine
        with whole_folder(work / TRIMMED) as part:
            trim_folder_to(folder, tokenizer, part)
        folder = work / TRIMMED
    config = read_config(folder)
    if config.get("model_type") not in FAMILIES:
        raise CorpusError(
            f"{folder} is of the family {config.get('model_type')!r}; {' and '.join(FAMILIES)} can start."
        )
    if config["num_hidden_layers"] != options.exits[-1]:
        raise CorpusError(
            f"{folder} has {config['num_hidden_layers']} layers, the last exit of the preset is {options.exits[-1]}."
        )
    _check_tokenizer(folder, work)
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    if report["missing_keys"]:
        raise CorpusError(f"{folder} lacks {', '.join(sorted(report['missing_keys'])[:3])}; fetch it again.")
    return model


def _check_tokenizer(folder: Path, work: Path) -> None:
    """Raise CorpusError where the rows were made with a tokenizer that is not the checkpoint's."""
    theirs, ours = (json.loads(bpe.load(at).to_str()) for at in (folder, work))
    if any(theirs[part] != ours[part] for part in ("model", "pre_tokenizer", "added_tokens")):
        raise CorpusError(
            f"{work / 'tokenizer.json'} is not the tokenizer of {folder}; make the corpus with the checkpoint's own."
        )

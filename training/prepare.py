"""`python -m training corpus`: sources -> tokenizer.json, rows of ids per stage, validation rows, corpus manifest.

    python -m training corpus --preset mini --work ~/.cache/greencode-lsp/mini

Everything lands in the work folder; `corpus.json` is written last, so that its presence means complete.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from greencode_lsp.errors import CorpusError
from training import tokenizer as tokenizers
from training.corpus import SourceFile, discover, files_of, split_of
from training.heldout import eval_packages
from training.preset import Preset
from training.samples import pack

TOKENIZER_FILES = 4_000
VALIDATION_ROWS = 64


def prepare(preset: Preset, work: Path) -> dict[str, Any]:
    """Build the work folder's corpus unless it is complete; returns the corpus manifest."""
    done = work / "corpus.json"
    if done.exists():
        manifest: dict[str, Any] = json.loads(done.read_text(encoding="utf8"))
        return manifest
    work.mkdir(parents=True, exist_ok=True)
    options = preset.corpus
    packages = [p for p in discover(options.sources) if p.name not in eval_packages()]
    train = list(files_of([p for p in packages if split_of(p.name) == "train"], options.max_package_bytes))
    validation = list(files_of([p for p in packages if split_of(p.name) == "validation"], options.max_validation_bytes))
    if not train:  # one package only: split its files
        train, validation = validation[::2], validation[1::2]
    if not train or not validation:
        raise CorpusError("The corpus has no training or no validation files; name more sources.")
    random.Random(0).shuffle(train)
    random.Random(0).shuffle(validation)
    tokenizer = tokenizers.build((f.text for f in train[:TOKENIZER_FILES]), options.vocab_size)
    tokenizer.save(str(work / "tokenizer.json"))
    counts = _pack_rows(preset, work, train, validation)
    with (work / "validation.jsonl").open("w", encoding="utf8") as file:
        for source in validation:
            file.write(json.dumps({"package": source.package.name, "path": source.path, "text": source.text}) + "\n")
    manifest = _manifest(train, validation) | counts
    done.write_text(json.dumps(manifest, indent=1), encoding="utf8")
    return manifest


def _pack_rows(preset: Preset, work: Path, train: list[SourceFile], validation: list[SourceFile]) -> dict[str, int]:
    """Write `stage<i>.npy` [N, context + 1] and `validation.npy`; later stages read on where earlier ones stopped."""
    tokenizer = tokenizers.load(work)
    texts = (f.text for f in train)
    total = 0
    for index, stage in enumerate(preset.lite.stages):
        rows = pack(texts, tokenizer, stage.context, stage.tokens, seed=index)
        needed = stage.steps * stage.rows
        if len(rows) == 0:
            raise CorpusError(f"The corpus ran out before stage {index + 1}; name more sources.")
        total += min(len(rows), needed) * stage.context
        np.save(work / f"stage{index}.npy", np.resize(rows, (needed, rows.shape[1])))
    context = preset.lite.stages[-1].context
    held = pack((f.text for f in validation), tokenizer, context, VALIDATION_ROWS * (context + 1), seed=99)
    np.save(work / "validation.npy", held)
    return {"train_tokens_unique": total, "validation_tokens": int(held.size)}


def _manifest(train: list[SourceFile], validation: list[SourceFile]) -> dict[str, Any]:
    """Name, version, licence, split, files and characters of every package used."""
    rows = []
    for split, files in (("train", train), ("validation", validation)):
        characters = Counter[str]()
        for source in files:
            characters[source.package.name] += len(source.text)
        packages = {f.package.name: f.package for f in files}
        rows += [
            {"package": p.name, "version": p.version, "licence": p.licence, "split": split, "characters": characters[n]}
            for n, p in sorted(packages.items())
        ]
    return {"packages": rows}

"""`python -m training corpus`: sources -> tokenizer.json, rows of ids per stage, validation rows, corpus manifest.

    python -m training corpus --preset mini --work ~/.cache/greencode-lsp/mini

Everything lands in the work folder; `corpus.json` is written last, so that its presence means complete.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from greencode_lsp.errors import CorpusError
from training.checkpoint import bpe
from training.data.archives import disk_error
from training.data.corpus import Selection, SourceFile, files_of, find, split_of
from training.data.heldout import held_out_texts, trainable
from training.data.packages import is_permissive
from training.data.samples import pack_sequences, samples_of
from training.data.screen import Screen
from training.preset import CorpusOptions, Preset, Stage
from training.whole_files import write_json

TOKENIZER_FILES = 4_000
VALIDATION_SEQUENCES = 64


@dataclass(frozen=True, slots=True)
class Texts:
    """The files that were chosen, shuffled, and the count of files refused by reason."""

    train: list[SourceFile]
    validation: list[SourceFile]
    refused: Counter[str] = field(default_factory=Counter)


def prepare(preset: Preset, work: Path, heldout_sources: Sequence[str] = ("installed",)) -> dict[str, Any]:
    """Build the work folder's corpus unless it is complete; returns the corpus manifest.

    Raises CorpusError where sources are missing or empty, the disk is full, or the folder holds another corpus.
    """
    done, options = work / "corpus.json", _options(preset)
    if done.exists():
        manifest: dict[str, Any] = json.loads(done.read_text(encoding="utf8"))
        if manifest.get("options", options) != options:
            raise CorpusError(f"{work} holds a corpus of other options of {preset.name}; name another --work.")
        return manifest
    selection = find(preset.corpus.sources)
    texts = choose(selection, preset.corpus, heldout_sources)
    try:
        work.mkdir(parents=True, exist_ok=True)
        manifest = _write(preset, work, texts) | _account(selection, texts) | {"options": options}
        write_json(done, manifest)
    except OSError as error:
        raise disk_error(error, str(work)) from error
    return manifest


def _options(preset: Preset) -> dict[str, Any]:
    """Return what of a preset a corpus depends on."""
    stages = [asdict(stage) for stage in preset.lite.stages]
    return {"corpus": asdict(preset.corpus), "stages": stages, "start": preset.lite.start}


def choose(selection: Selection, options: CorpusOptions, heldout_sources: Sequence[str]) -> Texts:
    """Return the files to train on and to validate on.

    No package is on both sides, and nothing is like a held-out file that `heldout_sources` hold.
    """
    screen, refused = Screen(), Counter[str]()
    for language in sorted({package.language for package in selection.packages}):
        for text in held_out_texts(list(heldout_sources), language):
            screen.show(text)
    packages = trainable(selection.packages)
    # validation first: a training file like one of them is the copy that goes
    judged = [p for p in packages if split_of(p) == "validation"]
    validation = list(files_of(judged, options.max_validation_bytes, screen, refused))
    learnt = [p for p in packages if split_of(p) == "train"]
    train = list(files_of(learnt, options.max_package_bytes, screen, refused))
    if len(packages) == 1:  # split its files
        files = train or validation
        train, validation = files[::2], files[1::2]
    if not train or not validation:
        raise CorpusError("The corpus has no training or no validation files; name more sources.")
    random.Random(0).shuffle(train)
    random.Random(0).shuffle(validation)
    return Texts(train, validation, refused)


def _write(preset: Preset, work: Path, texts: Texts) -> dict[str, Any]:
    tokenizer = _tokenizer(preset, work, texts)
    tokenizer.save(str(work / "tokenizer.json"))
    counts = _write_sequences(preset, work, texts, tokenizer)
    with (work / "validation.jsonl").open("w", encoding="utf8") as file:
        for source in texts.validation:
            package = source.package
            row = {"package": package.name, "language": package.language, "path": source.path, "text": source.text}
            file.write(json.dumps(row) + "\n")
    return counts


def _tokenizer(preset: Preset, work: Path, texts: Texts) -> Tokenizer:
    """Fit the tokenizer; a training that goes on from a checkpoint takes that checkpoint's, trimmed to the size."""
    sample, size = (f.text for f in texts.train[:TOKENIZER_FILES]), preset.corpus.vocab_size
    if preset.lite.start:
        from training.checkpoint.base_checkpoint import fitted_start  # imports transformers: seconds

        return bpe.load(fitted_start(preset.lite.start, sample, size, work))
    return bpe.build(sample, size)


def parts_of(files: Sequence[SourceFile], stages: Sequence[Stage]) -> list[Sequence[SourceFile]]:
    """Return each stage's share of the files, in proportion to its tokens, so that none reads what another read."""
    ends = np.cumsum([0, *(stage.tokens for stage in stages)]) / sum(stage.tokens for stage in stages) * len(files)
    bounds = [round(end) for end in ends]
    return [files[start:end] for start, end in pairwise(bounds)]


def sequences_of(
    files: Sequence[SourceFile], tokenizer: Tokenizer, context: int, max_tokens: int, seed: int
) -> tuple[NDArray[Any], Counter[str]]:
    """Return rows [N, context + 1] of at most `max_tokens`, and the tokens encoded by language."""
    rng = random.Random(seed)
    samples: list[NDArray[Any]] = []
    counts = Counter[str]()
    for file in files:
        for sample in samples_of(file.text, tokenizer, context, rng):
            samples.append(sample)
            counts[file.package.language] += len(sample)
        if counts.total() >= max_tokens + context:
            break
    return pack_sequences(samples, context, max_tokens, rng), counts


def _write_sequences(preset: Preset, work: Path, texts: Texts, tokenizer: Tokenizer) -> dict[str, Any]:
    """Write `stage<i>.npy` [N, context + 1], each stage from files of its own, and `validation.npy`."""
    unique, by_language = 0, Counter[str]()
    stages = preset.lite.stages
    for index, (stage, files) in enumerate(zip(stages, parts_of(texts.train, stages), strict=True)):
        rows, counts = sequences_of(files, tokenizer, stage.context, stage.tokens, seed=index)
        if len(rows) == 0:
            raise CorpusError(f"The corpus has too little text for stage {index + 1}; name more sources.")
        np.save(work / f"stage{index}.npy", rows)
        unique += rows.shape[0] * stage.context
        by_language += counts
    context = stages[-1].context
    held, _ = sequences_of(texts.validation, tokenizer, context, VALIDATION_SEQUENCES * (context + 1), seed=99)
    np.save(work / "validation.npy", held)
    return {
        "train_tokens_unique": unique,
        "train_tokens_by_language": dict(sorted(by_language.items())),
        "validation_tokens": int(held.size),
    }


def _account(selection: Selection, texts: Texts) -> dict[str, Any]:
    """Name, version, licence, language, split and characters of every package used, and what was left out."""
    rows: list[dict[str, Any]] = []
    for split, files in (("train", texts.train), ("validation", texts.validation)):
        characters = Counter[str]()
        for source in files:
            characters[source.package.name] += len(source.text)
        packages = {f.package.name: f.package for f in files}
        rows += [
            {
                "package": name,
                "version": package.version,
                "licence": package.licence,
                "language": package.language,
                "split": split,
                "characters": characters[name],
            }
            for name, package in sorted(packages.items())
        ]
    return {
        "packages": rows,
        "copyleft": sorted({r["package"] for r in rows if not is_permissive(r["licence"])}),
        "packages_left_out": [{"package": p.name, "licence": p.licence} for p in selection.left_out],
        "files_left_out": dict(sorted(texts.refused.items())),
    }

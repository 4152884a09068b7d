"""A work folder that trains in a second: a tiny tokenizer, rows with a pattern to learn, a preset of four layers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from training.checkpoint import bpe
from training.preset import ModelOptions, Preset, Stage, load_preset

VOCAB = 300
TEXT = "def add(first, second):\n    return first + second\n\nfor index in range(10):\n    print(index)\n"
STAGES = [Stage(context=16, rows=4, tokens=640), Stage(context=32, rows=2, tokens=256)]
SHAPE = ModelOptions(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=64,
    exits=[1, 2, 4],
)


def preset(shape: ModelOptions = SHAPE, stages: list[Stage] = STAGES, **lite: Any) -> Preset:
    """Return nano with the toy's shape; 10 + 4 optimiser steps."""
    nano = load_preset("nano")
    options = {"stages": stages, "eval_every_steps": 5, "exit_position_stride": 2, "warmup_steps": 2, **lite}
    return dataclasses.replace(
        nano,
        corpus=dataclasses.replace(nano.corpus, vocab_size=VOCAB),
        model=shape,
        lite=dataclasses.replace(nano.lite, **options),
    )


def work_folder(folder: Path, recipe: Preset) -> Path:
    """Write what `training corpus` leaves behind; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = [TEXT + f"name_{i} = {i * 37}\n" for i in range(200)]
    bpe.build(text, VOCAB).save(str(folder / "tokenizer.json"))
    random = np.random.default_rng(0)
    longest = max(stage.context for stage in recipe.lite.stages)
    for index, stage in enumerate(recipe.lite.stages):
        np.save(folder / f"stage{index}.npy", _rows(random, stage.steps * stage.rows, stage.context))
    np.save(folder / "validation.npy", _rows(random, 4, longest))
    row = {"package": "toy", "version": "1", "licence": "MIT", "split": "train", "characters": 100}
    (folder / "corpus.json").write_text(json.dumps({"packages": [row | {"language": "java"}]}))
    return folder


def _rows(random: np.random.Generator, count: int, context: int) -> np.ndarray[Any, Any]:
    """Return rows that count upwards from a random start: a pattern a model learns at once."""
    starts = random.integers(0, VOCAB, (count, 1))
    return ((starts + np.arange(context + 1)) % VOCAB).astype(np.uint16)

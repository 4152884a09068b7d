"""Exit heads of a trained checkpoint: what little LITE training has not taught its exits is fitted afterwards.

LITE makes every exit speak through the one norm and LM head. After few tokens of it an early state is still turned away
from what the head reads; an affine map of its own per exit (models/packs.py) turns it back, for a tenth of a layer. The
maps are fitted on cached states of the exported weights over the packages that the model has learnt from, distilled on
its own distribution. Packages of the agent's half say when to stop and how good they are, the calibration's are left.
The last layer stays as it is, bit by bit.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from greencode_lsp.engine.families import describe
from greencode_lsp.engine.load import open_source
from greencode_lsp.engine.policy import AGENT_FILE
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import read_manifest, write_manifest
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from training.data.corpus import discover, split_of
from training.data.cursors import half_of
from training.data.heldout import trainable
from training.data.packages import Package
from training.exits import cost_curve
from training.exits.fit import Agreement, Data, Distiller, Reader, TrainableHead, agreement
from training.exits.pack import save_heads
from training.exits.states import Note, Part, StateCache, StateRecorder, States, corpus_digest, parts_of, record
from training.preset import HeadOptions, Preset


def agents_packages(work: Path) -> set[str]:
    """Return the names of the validation packages that the agent may learn from; the calibration's are the others."""
    with (work / "validation.jsonl").open(encoding="utf8") as file:
        rows = [json.loads(line) for line in file]
    return {row["package"] for row in half_of(rows, "agent")}


def learnt_from(packages: Sequence[Package], agents: Collection[str]) -> list[Package]:
    """Return the packages whose states are cached: those that were trained on, and the agent's, which judge."""
    return [p for p in packages if split_of(p) == "train" or p.name in agents]


def served_exits(options: HeadOptions, exits: tuple[int, ...]) -> tuple[int, ...]:
    """Return which of a checkpoint's exits are served, and its last layer. Raises CorpusError for one it has not."""
    *early, last = exits
    unknown = sorted(set(options.exits) - set(early))
    if unknown:
        raise CorpusError(f"[heads] serves exits {unknown}, and the checkpoint has {early}; name some of these.")
    return (*sorted(set(options.exits or early)), last)


def fit(preset: Preset, work: Path, out: Path) -> dict[str, Any]:
    """Fit the heads of the checkpoint folder `out`, write them there; return what they bring, exit by exit.

    The states are kept in WORK/states and gone on with. A table or an agent measured without the heads goes.
    """
    manifest = read_manifest(out)
    assert manifest is not None, "exported before"
    manifest = replace(manifest, exits=served_exits(preset.heads, manifest.exits))
    parts = parts_of(learnt_from(trainable(discover(preset.corpus.sources)), agents_packages(work)))
    recorder = StateRecorder(out, manifest.exits, "auto")
    cache = StateCache(work / "states")
    note = Note(recorder.digest, recorder.precision, manifest.exits, corpus_digest(parts), 0)
    record(cache, recorder, CodeTokenizer.of(out), parts, preset.heads.tokens, note)
    source = open_source(out)
    states = {part: cache.read(part) for part in parts}
    architecture = describe(source.config)
    said = np.bincount(states["train"].top_ids[:, 0], minlength=architecture.vocabulary)
    frequent = np.argsort(-said, kind="stable").astype(np.int64)
    distiller = Distiller(Reader.of(architecture, source), frequent, np.arange(architecture.vocabulary))
    notes: dict[str, Any] = {"kind": preset.heads.kind, "positions": {part: len(s) for part, s in states.items()}}
    fitted: list[TrainableHead] = []
    for index, layer in enumerate(manifest.exits[:-1]):
        head = _fitted(distiller, preset.heads, states, index)
        before, after = (_judged(distiller, h, states, index) for h in (nn.Identity(), head))
        print(f"exit {layer}: {before} without a head, {after} with it", flush=True)
        notes[str(layer)] = {"without": asdict(before), "with": asdict(after)}
        fitted.append(head)
    (out / AGENT_FILE).unlink(missing_ok=True)
    kinds = save_heads(out, [head.tensors() for head in fitted])
    training = {name: about for name, about in manifest.training.items() if name not in ("agent", "calibration")}
    manifest = replace(
        manifest,
        exit_heads=kinds,
        calibration={},
        exit_policy="never",
        exit_policies={},
        training=training | {"heads": notes},
    )
    write_manifest(out, manifest)
    write_manifest(out, replace(manifest, exit_head_layers=cost_curve.measure_exit_head(out)))
    return notes


def _fitted(distiller: Distiller, options: HeadOptions, states: dict[Part, States], index: int) -> TrainableHead:
    train, validation = (Data.of(states[part], index) for part in ("train", "validation"))
    return distiller.fit(options.kind, options.direction, train, validation, options.epochs, options.learning_rate)


def _judged(distiller: Distiller, head: nn.Module, states: dict[Part, States], index: int) -> Agreement:
    """Return how an exit agrees on packages that nothing was fitted or chosen on."""
    said = []
    for part in ("validation", "judged"):
        ids, odds = distiller.say(head, Data.of(states[part], index))
        said.append((odds, ids == states[part].top_ids[:, 0]))
    return agreement(said[0], said[1])

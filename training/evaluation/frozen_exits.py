"""`python -m training exits --model qwen2.5-coder-0.5b`: an exit pack for a public model that stays as it is.

    states of its layers over code, cached -> a shortlist, counted -> heads of its exits, distilled and reported -> a
    draft table, counted -> the pack with shortlist and draft table -> its thresholds, of completions as served

The states, the shortlist's counts, what the heads bring and the completions are kept in WORK and gone on from; the
draft table is counted again, in minutes. The model's own weights are read, never changed or copied.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.families import describe
from greencode_lsp.engine.load import load_engine, open_source
from greencode_lsp.engine.state import Vector
from greencode_lsp.engine.timing import costs, time_checkpoint
from greencode_lsp.models.draft_table import DraftTable
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.preference import SHORTLIST
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from training.data.corpus import discover
from training.data.heldout import trainable
from training.data.packages import Package
from training.evaluation import pack_table
from training.exits import draft_counts, fit, shortlist
from training.exits.fit import Agreement, Data, Direction, Distiller, Kind, Reader, agreement
from training.exits.pack import write_pack
from training.exits.states import DEVICE, Note, Part, StateCache, StateRecorder, States, corpus_digest, parts_of, record
from training.preset import DraftOptions
from training.whole_files import run_name, write_json

SHARES = (0.5, 0.67, 0.75, 0.83, 0.92)
"""Depths of the exits whose states are cached."""
FITTED = 3
"""Of those the deepest are fitted."""
VARIANTS: tuple[tuple[Kind, Direction], ...] = (
    *(("affine", "least squares"), ("affine", "forward"), ("affine", "reverse")),
    *(("mlp", "forward"), ("low-rank", "forward")),
)
CAUGHT_UP = 0.25
"""A layer run later over positions that were skipped, several at a time, costs so much of one run at once."""


@dataclass(frozen=True, slots=True)
class FrozenOptions:
    """What is asked for."""

    checkpoint: Path
    work: Path
    out: Path
    sources: tuple[str, ...] = ("permissive.toml",)
    tokens: int = 150_000
    """Positions whose states are cached."""
    counted_tokens: int = 40_000_000
    drafts: DraftOptions = field(default_factory=lambda: DraftOptions(tokens=30_000_000))
    shortlist: int = 32_768
    completions: int = 400
    """A language, that the threshold table is measured on."""


@dataclass(frozen=True, slots=True)
class FittedExit:
    """The best head of an exit."""

    layer: int
    variant: str
    agreement: Agreement
    saved: float
    """Share of the cost of full depth with the shortlist alone that this exit spares, its own checks included."""


@dataclass(frozen=True, slots=True)
class FrozenModel:
    """The frozen model and what it is fitted with."""

    checkpoint: Path
    architecture: Architecture
    tokenizer: CodeTokenizer
    digest: str
    precision: str
    exits: tuple[int, ...]


def candidates(layers: int) -> tuple[int, ...]:
    """Return the exits that are looked at, the last layer included."""
    return (*sorted({round(share * layers) for share in SHARES} - {0, layers}), layers)


def cache_states(options: FrozenOptions, parts: dict[Part, list[Package]]) -> FrozenModel:
    """Cache the states, or find that they are there; return the model they are of."""
    source = open_source(options.checkpoint)
    architecture = describe(source.config)
    exits = candidates(architecture.layers)
    recorder = StateRecorder(options.checkpoint, exits, "auto")
    tokenizer = CodeTokenizer.of(options.checkpoint)
    note = Note(recorder.digest, recorder.precision, exits, corpus_digest(parts), 0)
    record(StateCache(options.work / "states"), recorder, tokenizer, parts, options.tokens, note)
    return FrozenModel(options.checkpoint, architecture, tokenizer, recorder.digest, recorder.precision, exits)


def count_ids(options: FrozenOptions, model: FrozenModel, packages: Sequence[Package], name: str, tokens: int) -> Any:
    """Return counts by language, counted once."""
    path = options.work / f"{name}.npz"
    if not path.exists():
        counts = shortlist.count_languages(packages, model.tokenizer, model.architecture.vocabulary, tokens)
        part = path.with_suffix(".part.npz")
        np.savez(part, **counts)  # type: ignore[arg-type]  # its stub takes a flag for an array
        part.replace(path)
    return dict(np.load(path))


def fit_exits(
    options: FrozenOptions, model: FrozenModel, counts: Mapping[str, Any], ids: NDArray[np.int64]
) -> list[FittedExit]:
    """Return the best head of each of the deepest exits, variants compared on packages that none was fitted on.

    What a run before found of the same model and shortlist is taken from WORK.
    """
    made_of = hashlib.sha256(
        ids.tobytes() + repr((VARIANTS, FITTED, model.digest, model.precision)).encode()
    ).hexdigest()
    path = options.work / f"exits-{made_of[:16]}.json"
    if path.exists():
        rows = json.loads(path.read_text(encoding="utf8"))
        return [FittedExit(**row | {"agreement": Agreement(**row["agreement"])}) for row in rows]
    cache = StateCache(options.work / "states")
    train, validation, judged = (cache.read(part) for part in ("train", "validation", "judged"))
    reader = Reader.of(model.architecture, open_source(model.checkpoint))
    frequent = np.argsort(-np.sum([c / max(1, c.sum()) for c in counts.values()], axis=0)).astype(np.int64)
    distiller = Distiller(reader, frequent, ids)
    early = model.exits[:-1]
    fitted = [_fit_exit(distiller, model, early.index(e), (train, validation, judged)) for e in early[-FITTED:]]
    write_json(path, [asdict(exit_) for exit_ in fitted])
    return fitted


def _fit_exit(
    distiller: Distiller, model: FrozenModel, index: int, states: tuple[States, States, States]
) -> FittedExit:
    train, validation, judged = states
    layer, of_train, of_validation = model.exits[index], Data.of(train, index), Data.of(validation, index)
    tried: list[tuple[str, Agreement, fit.TrainableHead]] = []
    for kind, direction in VARIANTS:
        head = distiller.fit(kind, direction, of_train, of_validation)
        chosen_on = _said(distiller, head, of_validation, validation)
        tried.append((f"{kind}, {direction}", agreement(chosen_on, chosen_on), head))
    name = fit.best([(name, share) for name, share, _ in tried])
    head = next(head for kind, _, head in tried if kind == name)
    chosen_on = _said(distiller, head, of_validation, validation)
    shares = agreement(chosen_on, _said(distiller, head, Data.of(judged, index), judged))
    saved = saved_share(model.architecture, layer, len(distiller.shortlist), shares.safe_share)
    print(f"exit {layer}, {name}: {shares}, saves {saved:.3f}", flush=True)
    return FittedExit(layer, name, shares, saved)


def _said(
    distiller: Distiller, head: fit.TrainableHead, data: Data, states: States
) -> tuple[Vector, NDArray[np.bool_]]:
    ids, odds = distiller.say(head, data)
    return odds, ids == states.top_ids[:, 0]


def saved_share(architecture: Architecture, layer: int, shortlisted: int, out: float) -> float:
    """Return what an exit asked by confidence on the shortlist saves of a token at full depth with the shortlist.

    Each token pays the exit's own head and the shortlist there; those that stay pay the shortlist again at the end, and
    what is skipped is run later, several positions at a time.
    """
    short = architecture.hidden_size * shortlisted / architecture.layer_weights
    own = architecture.hidden_size**2 / architecture.layer_weights
    full = architecture.layers + short
    left = architecture.layers - layer
    return 1 - (layer + own + short + (1 - out) * (left + short) + out * left * CAUGHT_UP) / full


def make_pack(
    options: FrozenOptions, model: FrozenModel, ids: NDArray[np.int64], drafts: DraftTable | None
) -> Manifest:
    """Write the pack with shortlist and draft table; return its manifest, still without thresholds.

    No early exit is in it: the policy that serves a pack asks the shortlist alone, and a segment more costs its call.
    """
    architecture = model.architecture
    manifest = Manifest(
        name=options.out.name,
        family=architecture.family,
        exits=(architecture.layers,),
        exit_policy=SHORTLIST,
        head_layers=round(architecture.head_weights / architecture.layer_weights, 3),
        shortlist_layers=round(architecture.hidden_size * len(ids) / architecture.layer_weights, 3),
        weights=model.digest,
    )
    return write_pack(options.out, manifest, [], ids, drafts)


def calibrate(options: FrozenOptions, model: FrozenModel, manifest: Manifest, judged: Sequence[Package]) -> Engine:
    """Measure the pack's threshold table and costs by the pack itself; return the engine that runs it."""
    engine = load_engine(model.checkpoint, DEVICE, pack=options.out)
    engine.use_costs(*costs(time_checkpoint(engine)))  # before anything is counted
    tables = {}
    for language in sorted({package.language for package in judged}):
        path = options.work / f"table-{language}.jsonl"
        figures = pack_table.record(engine, model.tokenizer, judged, language, options.completions, path)
        tables[language] = pack_table.tables_of(figures, model.architecture.layers)
        pack_table.losses_of(figures, judged, language).save(options.work / f"losses-{language}.npz")
    timed = engine.manifest
    engine.manifest = replace(
        manifest,
        calibration=tables,
        cost_curve=timed.cost_curve,
        head_layers=timed.head_layers,
        shortlist_layers=timed.shortlist_layers,
    )
    return engine


def run(options: FrozenOptions) -> dict[str, Any]:
    """Make the pack; print and return what it brings."""
    options.work.mkdir(parents=True, exist_ok=True)
    parts = parts_of(trainable(discover(list(options.sources))))
    model = cache_states(options, parts)
    counts = count_ids(options, model, parts["train"], "counts", options.counted_tokens)
    judged_counts = count_ids(options, model, parts["judged"], "judged-counts", options.counted_tokens // 10)
    cache, vocabulary = StateCache(options.work / "states"), model.architecture.vocabulary
    counts["model"] = np.bincount(cache.read("train").top_ids[:, 0], minlength=vocabulary)
    ids = shortlist.choose(counts, shortlist.forced_ids(model.tokenizer), options.shortlist)
    judged = cache.read("judged")
    said = np.bincount(judged.top_ids[judged.served, 0], minlength=vocabulary)
    coverage = {name: round(shortlist.coverage(ids, c), 4) for name, c in (judged_counts | {"model": said}).items()}
    print(f"{len(ids):,} ids cover {coverage} of packages that were not counted", flush=True)
    exits = fit_exits(options, model, counts, ids)
    drafts = draft_counts.count(parts["train"], model.tokenizer, options.drafts)
    manifest = make_pack(options, model, ids, drafts)
    manifest = calibrate(options, model, manifest, parts["judged"]).manifest
    report: dict[str, Any] = {
        "model": run_name(model.checkpoint),
        "weights": model.digest,
        "precision": model.precision,
        "states": {part: len(cache.read(part)) for part in ("train", "validation", "judged")},
        "counted_tokens": {name: int(c.sum()) for name, c in counts.items()},
        "shortlist": len(ids),
        "coverage": coverage,
        "draft_contexts": 0 if drafts is None else len(drafts.keys),
        "exits": [
            {"layer": e.layer, "variant": e.variant, "saved": round(e.saved, 4), **asdict(e.agreement)} for e in exits
        ],
        "in_pack": list(manifest.exits),
    }
    write_pack(options.out, replace(manifest, training=report), [], ids, drafts)
    return report


def main(options: FrozenOptions, runs: Path) -> None:
    """Run; write the report to RUNS/NAME/exits.json, and beside it what each completion lost."""
    report = run(options)
    target = runs / run_name(options.checkpoint)
    target.mkdir(parents=True, exist_ok=True)
    (target / "exits.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf8")
    for losses in options.work.glob("losses-*.npz"):
        shutil.copy(losses, target)
    print(json.dumps(report))

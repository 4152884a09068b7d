"""States of a frozen model over code, made once by the serving engine and kept on disk: what exit heads are fitted to.

A window is a document cut at a cursor, as the server would prompt it, with what stands there as its continuation. Kept
in shards of some windows each, so that a run that was stopped goes on at its first missing shard.

Letters: N positions, S exits (the last layer not counted), D hidden size, K likeliest ids, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from greencode_lsp.engine.families import describe
from greencode_lsp.engine.load import load_model, open_source, pick_precision
from greencode_lsp.engine.state import DecoderState, Runner, Vector
from greencode_lsp.errors import CorpusError
from greencode_lsp.files import atomic_write
from greencode_lsp.models.packs import UNIT_EPS
from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.fim import Fim, document_name
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from training import whole_files
from training.data.archives import disk_error
from training.data.corpus import read_source, split_of
from training.data.cursors import SourcePosition
from training.data.packages import Package

Part = Literal["train", "validation", "judged"]
ROUND: tuple[Part, ...] = (*(("train",) * 6), "validation", "judged")
"""Parts of the shards of one round, in turns, so that a run that ends early has some of each."""
SHARD_WINDOWS = 8
PROMPT_TOKENS, CONTINUED_TOKENS = 384, 128
LEAST_CHARACTERS = 512
"""Of a file that windows are cut from."""
SKIPPED = 16
"""Positions at a window's start, which know too little to be learnt from."""
LIKELIEST = 16
NOTE_NAME = "states.json"
DEVICE = "cpu"


@dataclass(frozen=True, slots=True)
class States:
    """Positions of some windows."""

    hidden: NDArray[np.float16]
    """[N, S, D] states after each early exit's layers, of unit mean square."""
    final: NDArray[np.float16]
    """[N, D] what the LM head reads at full depth."""
    top_ids: NDArray[np.int32]
    """[N, K] the full model's likeliest ids, best first."""
    top_logits: Vector
    """[N, K]"""
    log_sum: Vector
    """[N] log of the sum of exp of all logits."""
    served: NDArray[np.bool_]
    """[N] whether the position is of the continuation, where the server predicts."""
    window: NDArray[np.int32]
    """[N] number of the window."""

    def __len__(self) -> int:
        return len(self.log_sum)


@dataclass(frozen=True, slots=True)
class Note:
    """What the states are of; a run goes on only with the same."""

    weights: str
    """SHA-256."""
    precision: str
    exits: tuple[int, ...]
    """Layers, the last included."""
    corpus: str
    """SHA-256 over the packages' names and versions, by part."""
    seed: int
    windows: int = 2
    """Version of what a window is: since the second, the rest of the line is hidden from the prompt."""


class _HiddenRunner(Runner, Protocol):
    """A `Runner` that shows states before any norm."""

    def hidden(self, segment: int, start: int, stop: int) -> Vector:
        """Return [k, D] as the segment's layers left them."""
        ...


def unit(hidden: Vector) -> Vector:
    """Return states [..., D] scaled to a mean square of one: what an exit head reads."""
    scaled: Vector = hidden / np.sqrt(np.mean(np.square(hidden), axis=-1, keepdims=True) + UNIT_EPS)
    return scaled


@dataclass(frozen=True, slots=True)
class Window:
    """A prompt and its continuation."""

    ids: list[int]
    prompt_tokens: int


class StateCache:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, part: Part, number: int) -> Path:
        """Return where a shard lies."""
        return self.folder / f"{part}-{number:05}.safetensors"

    def note(self, note: Note) -> None:
        """Write what the states are of. Raises CorpusError where they are of something else."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            whole_files.note(self.folder / NOTE_NAME, asdict(note), "states")
        except OSError as error:
            raise disk_error(error, str(self.folder)) from error

    def write(self, part: Part, number: int, states: States) -> None:
        """Write a shard; it appears whole or not at all. Raises CorpusError where the disk is full."""
        arrays = {f.name: np.ascontiguousarray(getattr(states, f.name)) for f in fields(States)}
        self._write(self.path(part, number), save(arrays))

    def _write(self, path: Path, data: bytes) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data)
        except OSError as error:
            raise disk_error(error, str(path)) from error

    def read(self, part: Part) -> States:
        """Return all states of a part. Raises CorpusError where there are none."""
        shards = [load_file(path) for path in sorted(self.folder.glob(f"{part}-*.safetensors"))]
        if not shards:
            raise CorpusError(f"{self.folder} holds no {part} states; run the command that caches them again.")
        return States(**{f.name: np.concatenate([shard[f.name] for shard in shards]) for f in fields(States)})


def parts_of(packages: Sequence[Package]) -> dict[Part, list[Package]]:
    """Return the packages of each part: no package is in two; those kept from training are judged by, every other.

    Raises CorpusError where a part has none.
    """
    kept = sorted((p for p in packages if split_of(p) == "validation"), key=lambda p: (p.language, p.name))
    members_of: dict[Part, list[Package]] = {
        "train": [p for p in packages if split_of(p) == "train"],
        "validation": kept[1::2],
        "judged": kept[::2],
    }
    empty = [part for part, members in members_of.items() if not members]
    if empty:
        raise CorpusError(f"No package is left for the {empty[0]} states; name more sources.")
    return members_of


def corpus_digest(parts: dict[Part, list[Package]]) -> str:
    """Return what changes when the packages do."""
    named = {part: sorted((p.name, p.version) for p in members) for part, members in parts.items()}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def windows(packages: Sequence[Package], tokenizer: CodeTokenizer, fim: Fim, seed: str) -> Iterator[Window]:
    """Yield windows at random cursors of random files, languages in turns, without end."""
    rng = random.Random(seed)
    by_language: dict[str, list[Package]] = {}
    for package in packages:
        by_language.setdefault(package.language, []).append(package)
    while True:
        for members in by_language.values():
            package = rng.choice(members)
            path = rng.choice(package.files) if package.files else ""
            text = read_source(package.root / path) if path else None
            if text is not None and len(text) > LEAST_CHARACTERS:
                offset, name = rng.randrange(1, len(text)), str(path)
                yield window_at(SourcePosition(text, offset, package.name, package.language, name), tokenizer, fim)


def window_at(at: SourcePosition, tokenizer: CodeTokenizer, fim: Fim) -> Window:
    """Return the prompt that the server builds at a cursor, and the rest of the line, which the prompt has not."""
    name = document_name(at.path, at.language)
    prompt = build_prompt(at.document, at.offset, tokenizer, fim, PROMPT_TOKENS, name)
    continued = tokenizer.encode(at.rest_of_line + "\n")[:CONTINUED_TOKENS]
    return Window([*prompt, *continued], len(prompt))


class StateRecorder:
    """A frozen model at full depth over windows."""

    def __init__(self, checkpoint: Path, exits: tuple[int, ...], precision: str, threads: int | None = None) -> None:
        source = open_source(checkpoint)
        architecture = describe(source.config)
        weights = architecture.layers * architecture.layer_weights + architecture.head_weights
        self.precision = pick_precision(precision, DEVICE, weights)
        self.digest = source.digest()
        self.model = load_model(source, exits, self.precision, DEVICE, threads=threads)
        self._state = DecoderState(self.model.open(), len(exits))

    def record(self, window: Window, number: int) -> States:
        """Run all layers over a window; return its positions but the first."""
        state = self._state
        state.crop(0)
        state.feed(window.ids)
        for index in range(state.last + 1):
            state.advance(index, lambda: False)
        runner, first, stop = cast(_HiddenRunner, state.runner), SKIPPED, len(window.ids) - 1
        hidden = np.stack([unit(runner.hidden(s, first, stop)) for s in range(state.last)], axis=1)
        final = runner.normalised(state.last, first, stop)
        top_ids, top_logits, log_sum = likeliest(self.model.head(final))
        position = np.arange(first, stop)
        return States(
            hidden.astype(np.float16),
            final.astype(np.float16),
            top_ids,
            top_logits,
            log_sum,
            position >= window.prompt_tokens - 1,
            np.full(len(position), number, np.int32),
        )


def likeliest(logits: Vector) -> tuple[NDArray[np.int32], Vector, Vector]:
    """Return the likeliest ids [N, K] and their logits, best first, and the log of all exponentials' sum [N]."""
    count = min(LIKELIEST, logits.shape[1])
    ids = np.argpartition(logits, -count, axis=1)[:, -count:]
    values = np.take_along_axis(logits, ids, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    ids, values = np.take_along_axis(ids, order, axis=1), np.take_along_axis(values, order, axis=1)
    log_sum = values[:, 0] + np.log(np.exp(logits - values[:, :1]).sum(axis=1))
    return ids.astype(np.int32), values, log_sum


def joined(parts: Sequence[States]) -> States:
    """Return the positions of several, one after the other."""
    return States(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(States)})


def record(
    cache: StateCache,
    recorder: StateRecorder,
    tokenizer: CodeTokenizer,
    parts: dict[Part, list[Package]],
    tokens: int,
    note: Note,
) -> dict[str, int]:
    """Write shards until `tokens` positions are there, going on where a run was stopped; return them by part."""
    cache.note(note)
    fim = tokenizer.fim({})
    counts: dict[str, int] = dict.fromkeys(("train", "validation", "judged"), 0)
    streams = {part: windows(members, tokenizer, fim, f"{note.seed}:{part}") for part, members in parts.items()}
    numbers = dict.fromkeys(parts, 0)
    while sum(counts.values()) < tokens:
        for part in ROUND:
            number = numbers[part]
            numbers[part] += 1
            chosen = [next(streams[part]) for _ in range(SHARD_WINDOWS)]
            path, start_s = cache.path(part, number), time.monotonic()
            if not path.exists():
                first = number * SHARD_WINDOWS
                cache.write(part, number, joined([recorder.record(w, first + i) for i, w in enumerate(chosen)]))
            stored: Any = load_file(path)
            counts[part] += len(stored["log_sum"])
            print(f"{path.name}: {counts} in {time.monotonic() - start_s:.0f} s", flush=True)
            if sum(counts.values()) >= tokens:
                break
    return counts

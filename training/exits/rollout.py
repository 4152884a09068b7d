"""Experience for the exit agent: the model run once, its state at every exit stored (GREEN-CODE, section III-C).

    python -m training rollout --preset mini        # 12 minutes on one core

A completion runs free, by the full model or by an agent's own choices, or follows the reference text before the cursor;
in any case the stored label is the full-depth token after the same tokens. Arrays lie in one folder as `.npy`, written
as they come and read memory-mapped: neither needs the memory that all of them would fill.

Letters: N tokens of all completions, S exits, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.engine import Engine
from greencode_lsp.errors import CorpusError
from greencode_lsp.records import DecodeConfig, FixedControl, Step
from training.exits.served import Served
from training.exits.teacher_forcing import TeacherForcing
from training.whole_files import whole_folder

FULL_DEPTH = DecodeConfig("never", batch_invariant=True)
LANGUAGES = ("python", "java")
"""Rows hold a language as its index here."""
COPIED_TOKENS = 4096
"""Rows copied at a time from one folder to another."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What the model saw and said; rows of one completion are adjacent and in order."""

    hidden: NDArray[np.float16]
    """[N, S - 1, D] states through the final norm, as a policy is shown them."""
    confidence: NDArray[np.float32]
    """[N, S - 1] log-odds of each early exit's own token."""
    choices: NDArray[np.int32]
    """[N, S] the token each exit would emit."""
    labels: NDArray[np.int32]
    """[N] the full-depth token: the last column of `choices`."""
    completion: NDArray[np.int32]
    """[N] which completion a token belongs to, counted from 0."""
    position: NDArray[np.int32]
    """[N] tokens emitted before it in its completion."""
    language: NDArray[np.int8]
    """[N] index into LANGUAGES."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> NDArray[np.bool_]:
        """[N, S] whether an exit's token is the full model's."""
        return np.equal(self.choices, np.asarray(self.labels)[:, None])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each completion."""
        return np.diff(np.append(np.flatnonzero(np.asarray(self.position) == 0), len(self)))

    def select(self, which: slice | NDArray[np.bool_]) -> Rollouts:
        """Return some of the tokens; unless they are whole completions they make none any more."""
        return Rollouts(*(getattr(self, item.name)[which] for item in fields(self)))

    @classmethod
    def load(cls, folder: Path) -> Rollouts:
        """Map the arrays of a folder into memory. Raises CorpusError where there are none."""
        try:
            return cls(*(np.load(folder / f"{item.name}.npy", mmap_mode="r") for item in fields(cls)))
        except (FileNotFoundError, ValueError) as error:
            raise CorpusError(f"There are no rollouts in {folder}; run `python -m training rollout` first.") from error


class Writer:
    """Appends rollouts to a folder, which takes its name when all is written: an interrupted one does not count.

    Rows go to `<folder>.part` as they come. Raises CorpusError where the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = self._part = folder
        self.tokens = self._completions = 0
        self._files: dict[str, IO[bytes]] = {}
        self._rows: dict[str, NDArray[Any]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Writer:
        self._part = self._stack.enter_context(whole_folder(self._folder))
        for item in fields(Rollouts):
            self._files[item.name] = self._stack.enter_context((self._part / f"{item.name}.npy").open("wb"))
        return self

    def append(self, part: Rollouts) -> None:
        """Write the rows; their completions are numbered on."""
        completion = np.cumsum(np.asarray(part.position) == 0, dtype=np.int32) - 1 + self._completions
        try:
            for name, file in self._files.items():
                rows = completion if name == "completion" else getattr(part, name)
                if not self.tokens:
                    self._rows[name] = rows[:0]
                    self._head(name)
                file.write(np.ascontiguousarray(rows).tobytes())
        except OSError as error:
            raise CorpusError(f"The rollouts cannot be written to {self._part}: {error.strerror}.") from error
        self.tokens += len(part)
        self._completions = int(completion[-1]) + 1

    def copy(self, stored: Rollouts) -> None:
        """Append rollouts too large for the memory."""
        for start in range(0, len(stored), COPIED_TOKENS):
            self.append(stored.select(slice(start, start + COPIED_TOKENS)))

    def _head(self, name: str) -> None:
        """Write the array's header; numpy keeps room in it for the number of rows to grow."""
        rows, file = self._rows[name], self._files[name]
        file.seek(0)
        shape = (self.tokens, *rows.shape[1:])
        descr = np.lib.format.dtype_to_descr(rows.dtype)
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if not self.tokens:
                raise CorpusError(f"There are no tokens to store in {self._folder}; the prompts are too short.")
            for name in self._files:
                self._head(name)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What stands before the completion."""

    ids: Sequence[int]
    language: str = "python"


@dataclass(frozen=True, slots=True)
class Setup:
    """What completions are made with."""

    engine: Engine
    teacher_forcing: TeacherForcing
    """The same checkpoint."""
    new_tokens: int
    """Tokens per completion."""
    stop_ids: frozenset[int]


def emit(
    engine: Engine, prompt: Sequence[int], config: DecodeConfig, new_tokens: int, stop_ids: frozenset[int]
) -> list[Step]:
    """Generate; a stop id ends the completion and counts as emitted, since ending is a choice too."""
    generation = engine.generate(prompt, FixedControl(config), max_new_tokens=new_tokens, likely_last_ids=stop_ids)
    return _until(generation, lambda steps: steps[-1].token_id in stop_ids)


def emit_served(engine: Engine, served: Served, config: DecodeConfig) -> list[Step]:
    """Generate what the server would, up to and with the token that ends it."""
    limits: dict[str, Any] = {"max_new_tokens": served.new_tokens, "constraint": served.constraint}
    limits["likely_last_ids"] = served.likely_last_ids
    generation = engine.generate(served.prompt_ids, FixedControl(config), **limits)
    return _until(generation, lambda steps: served.is_over([step.token_id for step in steps]))


def _until(generation: Iterator[Step], is_over: Callable[[list[Step]], bool]) -> list[Step]:
    steps: list[Step] = []
    with closing(cast("Any", generation)):
        for step in generation:
            steps.append(step)
            if is_over(steps):
                break
    return steps


def roll(
    setup: Setup, prompts: Iterable[Prompt], config: DecodeConfig = FULL_DEPTH, with_reference: bool = False
) -> Iterator[Rollouts]:
    """Complete every prompt as `config` decodes; yield what each exit would have said, prompt by prompt.

    With `with_reference`, the prompt's own text comes before, as `follow` has it: one pass stores both.
    """
    for prompt in prompts:
        emitted = [step.token_id for step in emit(setup.engine, prompt.ids, config, setup.new_tokens, setup.stop_ids)]
        yield _record(setup, prompt, _reference_start(setup, prompt) if with_reference else len(prompt.ids), emitted)


def follow(setup: Setup, prompts: Iterable[Prompt]) -> Iterator[Rollouts]:
    """Yield what each exit would have said along each prompt's own text, taken as the completions.

    One pass and no generation: the cheapest tokens there are.
    """
    for prompt in prompts:
        start = _reference_start(setup, prompt)
        if start < len(prompt.ids):
            yield _record(setup, prompt, start, ())


def _reference_start(setup: Setup, prompt: Prompt) -> int:
    """Return the index of the first token that has one before it since the last special token."""
    return max((i for i, token in enumerate(prompt.ids) if token in setup.stop_ids), default=-1) + 2


def _record(setup: Setup, prompt: Prompt, start: int, emitted: Sequence[int]) -> Rollouts:
    """Run the prompt's tokens from `start` and those emitted through every exit.

    The former are cut into completions of `new_tokens`, the latter are one.
    """
    reference = prompt.ids[start:]
    states = setup.teacher_forcing.states(prompt.ids[:start], [*reference, *emitted])  # [S, T, D]
    tokens, log_odds = setup.teacher_forcing.tokens(states)
    choices = tokens.T.astype(np.int32)
    position = np.concatenate([np.arange(len(reference)) % setup.new_tokens, np.arange(len(emitted))]).astype(np.int32)
    return Rollouts(
        hidden=states[:-1].transpose(1, 0, 2).astype(np.float16),
        confidence=log_odds[:-1].T,
        choices=choices,
        labels=choices[:, -1],
        completion=np.cumsum(position == 0, dtype=np.int32) - 1,
        position=position,
        language=np.full(len(position), LANGUAGES.index(prompt.language), np.int8),
    )

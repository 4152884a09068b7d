"""Experience for the exit agent: the model run once, its state at every exit stored (GREEN-CODE, section III-C).

    python -m training rollout --preset mini        # 3 minutes on two cores

A completion runs free, by the full model or by an agent's own choices; either way the stored label is the full-depth
token after the same emitted tokens. Arrays lie in one folder as `.npy`, read memory-mapped.

Letters: N tokens of all completions, S exits, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.policy import ConfidencePolicy, ExitState, Vector
from greencode_lsp.errors import CorpusError
from greencode_lsp.records import DecodeConfig, FixedControl, Step

FULL_DEPTH = DecodeConfig("never")


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What the model saw and said; rows of one completion are adjacent and in order."""

    hidden: NDArray[np.float32]
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

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, folder: Path) -> None:
        """Write one `.npy` per array."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            np.save(folder / f"{item.name}.npy", getattr(self, item.name))

    @classmethod
    def load(cls, folder: Path) -> Rollouts:
        """Map the arrays of a folder into memory. Raises CorpusError where there are none."""
        try:
            return cls(*(np.load(folder / f"{item.name}.npy", mmap_mode="r") for item in fields(cls)))
        except FileNotFoundError as error:
            raise CorpusError(f"There are no rollouts in {folder}; run `python -m training rollout` first.") from error

    @classmethod
    def joined(cls, parts: Sequence[Rollouts]) -> Rollouts:
        """Lay several rollouts end to end, completions renumbered."""
        arrays: dict[str, NDArray[Any]] = {
            item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)
        }
        arrays["completion"] = np.cumsum(arrays["position"] == 0, dtype=np.int32) - 1
        return cls(**arrays)


class Recorder:
    """A policy that never exits and notes what each early exit would have said."""

    def __init__(self) -> None:
        self.hidden: list[list[Vector]] = []
        self.choices: list[list[int]] = []
        self.confidence: list[list[float]] = []
        self._confidence = ConfidencePolicy()

    def exit_logit(self, state: ExitState) -> float:
        """Store the state, its token and its confidence."""
        if state.exit_index == 0:
            self.hidden.append([])
            self.choices.append([])
            self.confidence.append([])
        self.hidden[-1].append(state.hidden.copy())
        self.choices[-1].append(int(state.logits().argmax()))
        self.confidence[-1].append(self._confidence.exit_logit(state))
        return -np.inf


def emit(
    engine: Engine, prompt: Sequence[int], config: DecodeConfig, new_tokens: int, stop_ids: frozenset[int]
) -> list[Step]:
    """Generate; a stop id ends the completion and counts as emitted, since ending is a choice too."""
    steps: list[Step] = []
    generation = engine.generate(prompt, FixedControl(config), max_new_tokens=new_tokens)
    with closing(cast("Any", generation)):
        for step in generation:
            steps.append(step)
            if step.token_id in stop_ids:
                break
    return steps


def _record(engine: Engine, prompt: Sequence[int], emitted: Sequence[int]) -> Rollouts:
    """Run the emitted tokens again at full depth and note every exit on the way."""
    recorder = Recorder()
    engine.policies["record"] = recorder

    def forced(so_far: Sequence[int]) -> list[int]:
        return [emitted[len(so_far)]]

    control = FixedControl(DecodeConfig("record"))
    try:
        for _ in engine.generate(prompt, control, max_new_tokens=len(emitted), constraint=forced):
            pass
    finally:
        del engine.policies["record"]
    labels = np.asarray(engine.full_depth_argmax(prompt, emitted, control), np.int32)
    early = np.asarray(recorder.choices, np.int32).reshape(len(emitted), len(engine.exits) - 1)
    return Rollouts(
        hidden=np.asarray(recorder.hidden, np.float32),
        confidence=np.asarray(recorder.confidence, np.float32),
        choices=np.concatenate([early, labels[:, None]], axis=1),
        labels=labels,
        completion=np.zeros(len(emitted), np.int32),
        position=np.arange(len(emitted), dtype=np.int32),
    )


def roll(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    stop_ids: frozenset[int],
    config: DecodeConfig = FULL_DEPTH,
) -> Rollouts:
    """Complete every prompt as `config` decodes and store what each exit would have said."""
    return Rollouts.joined(list(_completions(engine, prompts, new_tokens, stop_ids, config)))


def _completions(
    engine: Engine, prompts: Sequence[Sequence[int]], new_tokens: int, stop_ids: frozenset[int], config: DecodeConfig
) -> Iterator[Rollouts]:
    for prompt in prompts:
        emitted = [step.token_id for step in emit(engine, prompt, config, new_tokens, stop_ids)]
        yield _record(engine, prompt, emitted)

"""Experience for the exit agent: the model run once, its state at every exit stored (GREEN-CODE, section III-C).

    python -m training rollout --preset mini        # 3 minutes on two cores

A completion runs free, by the full model or by an agent's own choices, or follows the author's text before the cursor;
in any case the stored label is the full-depth token after the same tokens. Arrays lie in one folder as `.npy`, read
memory-mapped.

Letters: N tokens of all completions, S exits, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.engine import Engine
from greencode_lsp.errors import CorpusError
from greencode_lsp.records import DecodeConfig, FixedControl, Step
from training.forced import ForcedExits

FULL_DEPTH = DecodeConfig("never")
AUTHOR_TOKENS = 192
"""Tokens of a prompt's own text that are stored beside its completion: experience that costs nothing more."""


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

    def __len__(self) -> int:
        return len(self.labels)

    def every(self, nth: int) -> Rollouts:
        """Return each n-th token; they make no completions any more."""
        return Rollouts(*(getattr(self, item.name)[::nth] for item in fields(self)))

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


@dataclass(frozen=True, slots=True)
class Setup:
    """What completions are made with."""

    engine: Engine
    forced: ForcedExits
    """The same checkpoint."""
    new_tokens: int
    """Tokens per completion."""
    stop_ids: frozenset[int]


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


def roll(
    setup: Setup, prompts: Sequence[Sequence[int]], config: DecodeConfig = FULL_DEPTH, author_tokens: int = 0
) -> Rollouts:
    """Complete every prompt as `config` decodes and store what each exit would have said.

    The last `author_tokens` of each prompt's own text come before, as completions that the author wrote: one pass
    stores both.
    """
    parts = []
    for prompt in prompts:
        emitted = [step.token_id for step in emit(setup.engine, prompt, config, setup.new_tokens, setup.stop_ids)]
        start = max(_text_start(prompt, setup.stop_ids) + 1, len(prompt) - author_tokens)
        author = prompt[start:]
        positions = [*(i % setup.new_tokens for i in range(len(author))), *range(len(emitted))]
        parts.append(_record(setup.forced, prompt[:start], [*author, *emitted], positions))
    return Rollouts.joined(parts)


def _text_start(prompt: Sequence[int], special_ids: frozenset[int]) -> int:
    """Return the index after the last special token: where the text before the cursor begins."""
    return max((i for i, token in enumerate(prompt) if token in special_ids), default=-1) + 1


def _record(forced: ForcedExits, prompt: Sequence[int], target: Sequence[int], positions: Sequence[int]) -> Rollouts:
    """Run the target's tokens through every exit; a completion begins wherever the position is 0."""
    states = forced.states(prompt, target)  # [S, T, D]
    tokens, log_odds = forced.tokens(states)
    choices = tokens.T.numpy().astype(np.int32)
    position = np.asarray(positions, np.int32)
    return Rollouts(
        hidden=states[:-1].transpose(0, 1).numpy().astype(np.float16),
        confidence=log_odds[:-1].T.numpy(),
        choices=choices,
        labels=choices[:, -1],
        completion=np.cumsum(position == 0, dtype=np.int32) - 1,
        position=position,
    )

"""Rollouts made by hand, for tests that need no model, and a policy that does as it is asked to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

import numpy as np

from greencode_lsp.engine.policy import ExitState, observation
from greencode_lsp.engine.state import Vector
from greencode_lsp.models.manifest import Manifest
from training.exits.rollout import Rollouts

MANIFEST = Manifest("toy", "llama", exits=(2, 4, 6), cost_curve={1: 1.0, 2: 1.5}, head_layers=1.0)


def rollouts(right: Sequence[Sequence[Sequence[bool]]], hidden_size: int = 3) -> Rollouts:
    """Completions of tokens of early exits, each said to be right or wrong; the state tells which."""
    flat = np.array([token for completion in right for token in completion], dtype=bool)  # [N, S - 1]
    hidden = np.zeros((*flat.shape, hidden_size), np.float16)
    hidden[..., 0] = flat
    labels = np.zeros(len(flat), np.int32)
    return Rollouts(
        hidden=hidden,
        confidence=np.where(flat, 1.0, -1.0).astype(np.float32),
        choices=np.concatenate([(~flat).astype(np.int32), labels[:, None]], axis=1),
        labels=labels,
        completion=np.repeat(np.arange(len(right), dtype=np.int32), [len(c) for c in right]),
        position=np.concatenate([np.arange(len(c), dtype=np.int32) for c in right]),
        language=np.zeros(len(flat), np.int8),
    )


def joined(parts: Iterable[Rollouts]) -> Rollouts:
    """Lay several rollouts end to end, completions renumbered."""
    whole = list(parts)
    arrays = {i.name: np.concatenate([getattr(part, i.name) for part in whole]) for i in fields(Rollouts)}
    arrays["completion"] = np.cumsum(arrays["position"] == 0, dtype=np.int32) - 1
    return Rollouts(**arrays)


class Scripted:
    """Exits each token at a given exit and notes what it was shown."""

    def __init__(self, exit_indices: Sequence[int]) -> None:
        self.exit_indices, self.seen = exit_indices, list[Vector]()

    def exit_logit(self, state: ExitState) -> float:
        self.seen.append(observation(state.hidden, state.exit_index, len(state.exits), state.pending, state.position))
        return 1.0 if state.exit_index == self.exit_indices[state.position] else -1.0

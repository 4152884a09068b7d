"""Every exit over given tokens in one pass (teacher forcing): what rollouts store and the evaluation scores.

By invariant I1 these are the states a generation with exits has at the same positions.

Letters: S exits, T tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.engine import Model
from greencode_lsp.engine.state import DecoderState, Vector

DEVICE = "cpu"
"""Costs and threshold tables hold for the precision they were measured in; this is the one that every machine has."""


class TeacherForcing:
    """A checkpoint's exits, run over tokens that something else has chosen."""

    def __init__(self, model: Model, exits: tuple[int, ...]) -> None:
        self._model, self._state = model, DecoderState(model.open(), len(exits))

    def states(self, prompt: Sequence[int], target: Sequence[int]) -> Vector:
        """Return normalised states [S, T, D] at the positions that predict each of the target's tokens."""
        state = self._state
        state.crop(0)
        state.feed([*prompt, *target[:-1]])
        for index in range(state.last + 1):
            state.advance(index, lambda: False, batch_invariant=True)
        start, stop = len(state) - len(target), len(state)
        return np.stack([state.runner.normalised(index, start, stop) for index in range(state.last + 1)])

    def tokens(self, states: Vector) -> tuple[NDArray[np.int64], Vector]:
        """Return each state's likeliest token and its log-odds, [S, T] each, for states [S, T, D]."""
        by_exit = [self._tokens_of_exit(state) for state in states]  # one exit at a time: [T, V] is large enough
        return np.stack([token for token, _ in by_exit]), np.stack([odds for _, odds in by_exit])

    def _tokens_of_exit(self, state: Vector) -> tuple[NDArray[np.int64], Vector]:
        logits = self._model.head(state)  # [T, V]
        token, every = logits.argmax(-1), np.arange(len(logits))
        logits -= logits[every, token][:, None]  # in place: [T, V] again would cost time
        np.exp(logits, out=logits)
        logits[every, token] = 0.0
        return token, -np.log(logits.sum(-1) + 1e-12)

"""Trees made by hand: one line of right tokens of two characters, whose early exits are right or wrong as told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.training_fakes import MANIFEST
from training.exits.trees import CUT, OVER, Trees

EXITS = len(MANIFEST.exits)
CHARACTERS = 2
"""Of each token."""


def trees(right: Sequence[Sequence[Sequence[bool]]], odds: float = 3.0) -> Trees:
    """Completions of tokens of early exits; where one is wrong, what follows it is not recorded."""
    rows = [(number, position, token) for number, c in enumerate(right) for position, token in enumerate(c)]
    agrees = np.array([[*token, True] for _, _, token in rows])
    position = np.array([position for _, position, _ in rows], np.int16)
    lengths = [len(completion) for completion in right]
    is_last = np.array([position == lengths[number] - 1 for number, position, _ in rows])
    following = np.where(is_last, OVER, np.arange(1, len(rows) + 1))
    shown = np.zeros((len(rows), EXITS, 2), np.int16)
    shown[..., 0] = CHARACTERS * (position[:, None] + agrees)
    shown[..., 1] = CHARACTERS * ~agrees
    here = np.stack([CHARACTERS * position, 0 * position], axis=1)
    return Trees(
        hidden=np.repeat(agrees[:, :, None], 2, axis=2).astype(np.float16),
        log_odds=np.where(agrees, odds, -odds).astype(np.float32),
        choices=(~agrees).astype(np.int32),
        child=np.where(agrees, following[:, None], CUT).astype(np.int32),
        shown=shown,
        stopped=np.repeat(here[:, None], EXITS, axis=1).astype(np.int16),
        here=here.astype(np.int16),
        position=position,
        completion=np.array([number for number, _, _ in rows], np.int32),
        package=np.arange(len(right), dtype=np.int32),
        language=np.zeros(len(right), np.int8),
        wanted=np.array([CHARACTERS * length for length in lengths], np.int16),
    )

"""Every exit over given tokens in one pass: what rollouts store and the evaluation scores.

By the design's invariant I1 these are the states a generation with exits has at the same positions.

Letters: S exits, T tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from greencode_lsp.engine.checkpoint import read_config
from greencode_lsp.engine.family import Family
from greencode_lsp.engine.load import load_family, pick_numeric
from greencode_lsp.engine.segments import Segments

DEVICE = "cpu"
"""Costs and calibration hold for the numeric mode they were measured in; this is the one that every machine has."""


def load_segments(folder: Path, exits: tuple[int, ...], numeric: str = "auto") -> tuple[Family[Any], Segments]:
    """Load a checkpoint's blocks alone, to be run by hand."""
    numeric = pick_numeric(numeric, DEVICE)
    family = load_family(folder, read_config(folder), DEVICE, numeric)
    with torch.inference_mode():
        return family, Segments(family, exits)


class ForcedExits:
    """A checkpoint's exits, run over tokens that something else has chosen."""

    def __init__(self, folder: Path, exits: tuple[int, ...]) -> None:
        self._family, self._segments = load_segments(folder, exits)

    @torch.inference_mode()
    def states(self, prompt: Sequence[int], target: Sequence[int]) -> Tensor:
        """Return normalised states [S, T, D] at the positions that predict each of the target's tokens."""
        self._segments.crop(0)
        self._segments.feed([*prompt, *target[:-1]])
        runs = (self._segments.advance(i, lambda: False) for i in range(len(self._segments)))
        return self._family.normalise(torch.stack([outputs[-len(target) :] for outputs in runs]))

    @torch.inference_mode()
    def tokens(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return each state's likeliest token and its log-odds, [S, T] each, for states [S, T, D]."""
        found = [self._tokens_of_exit(state) for state in states]  # one exit at a time: [T, V] is large enough
        return torch.stack([token for token, _ in found]), torch.stack([odds for _, odds in found])

    def _tokens_of_exit(self, state: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._family.head(state).float()  # [T, V]
        top, token = logits.max(-1, keepdim=True)
        others = logits.sub_(top).exp_().scatter_(-1, token, 0.0).sum(-1)  # in place: [T, V] again would cost time
        return token[:, 0], -(others + 1e-12).log()

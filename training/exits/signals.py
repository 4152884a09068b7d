"""What a hidden state says about a decision, in three numbers: linear probes, fitted before any agent.

An agent shown 192 numbers learns its few hundred completions by heart; three say what it needs. Each exit has a linear
map of its own from the normalised state to

    agrees   log-odds that its token is the full model's
    right    log-odds that its token shows no wrong character, the text before being right
    ahead    log(1 + right characters that the full model would still show)

Letters: N nodes, S exits, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from greencode_lsp.engine.state import Vector
from training.exits.simulator import ahead
from training.exits.trees import Trees

SIGNALS = 3
FOLDS, FOLD_SEED = 3, 3
STEPS = 600
LEARNING_RATE = 0.02
DECAY = 3e-4
"""Of the squared weights, for states of unit scale."""


@dataclass(frozen=True, slots=True)
class Signals:
    """The maps of every exit."""

    weight: Vector
    """[S, D, SIGNALS]"""
    bias: Vector
    """[S, SIGNALS]"""

    def of(self, trees: Trees) -> Vector:
        """Return the signals [N, S, SIGNALS] of recorded states."""
        signals = np.einsum("nsd,sdk->nsk", trees.hidden.astype(np.float32), self.weight, optimize=True)
        return np.asarray(signals + self.bias, np.float32)


def load_or_fit(path: Path, trees: Trees) -> Signals:
    """Return the maps that a file holds, else fit them and write it."""
    if not path.exists():
        fitted = fit(trees)
        np.savez(path, weight=fitted.weight, bias=fitted.bias)
    with np.load(path, allow_pickle=False) as stored:
        return Signals(stored["weight"], stored["bias"])


def crossed(path: Path, trees: Trees) -> Vector:
    """Return signals [N, S, SIGNALS] of trees by maps that were fitted on their other packages; made once.

    An agent that learns from signals of the very packages they were fitted on trusts them too much elsewhere.
    """
    if not path.exists():
        names = np.random.default_rng(FOLD_SEED).permutation(np.unique(trees.package))
        crossed = np.zeros((*trees.choices.shape, SIGNALS), np.float32)
        every = np.arange(len(trees.package))
        for fold in range(FOLDS):
            held = np.isin(trees.package, names[fold::FOLDS])
            if held.any() and not held.all():
                crossed[held[trees.completion]] = fit(trees.take(every[~held])).of(trees.take(every[held]))
        np.save(path, crossed)
    signals: Vector = np.load(path)
    return signals


def fit(trees: Trees, seed: int = 0) -> Signals:
    """Fit the maps on recorded nodes (logistic and least squares, ridge)."""
    torch.manual_seed(seed)
    hidden = torch.from_numpy(trees.hidden.astype(np.float32))  # [N, S, D]
    scale = hidden.std(dim=(0, 2)).clamp(min=1e-3)[:, None, None]  # [S, 1, 1]
    agrees = torch.from_numpy((trees.choices == trees.choices[:, -1:]).astype(np.float32))
    more = trees.shown - trees.here[:, None]
    right = torch.from_numpy((more[..., 1] == 0).astype(np.float32))
    still = torch.from_numpy((trees.here[:, 1] == 0).astype(np.float32))
    following = torch.from_numpy(np.log1p(ahead(trees)[:, 0]).astype(np.float32))
    weight = torch.zeros(*hidden.shape[1:], SIGNALS, requires_grad=True)
    bias = torch.zeros(hidden.shape[1], SIGNALS, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], LEARNING_RATE)
    rows: NDArray[Any] = np.random.default_rng(seed).integers(len(trees), size=(STEPS, min(len(trees), 512)))
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / STEPS)
        batch = torch.from_numpy(rows[step])
        said = torch.einsum("nsd,sdk->nsk", hidden[batch] / scale[:, 0], weight) + bias
        mask = still[batch][:, None]
        loss = F.binary_cross_entropy_with_logits(said[..., 0], agrees[batch])
        loss = loss + (mask * F.binary_cross_entropy_with_logits(said[..., 1], right[batch], reduction="none")).mean()
        loss = loss + (mask * (said[..., 2] - following[batch][:, None]) ** 2).mean() / 2
        loss = loss + DECAY * weight.square().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
        optimiser.step()
    scaled = (weight / scale).detach().numpy()
    return Signals(np.ascontiguousarray(scaled, np.float32), bias.detach().numpy().astype(np.float32))

"""The supervised probe: a network of the agent's shape that says whether an exit's token is the full model's.

It is the agent's start and the baseline that it must beat. Read straight from the stored rollouts, batch by batch.

Letters: B tokens of a batch, S exits, D hidden size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from greencode_lsp.engine.policy import observation, observation_size
from greencode_lsp.engine.state import Vector
from training.exits.rewards import Integers
from training.exits.rollout import Rollouts

PROBE_FILE = "probe.safetensors"
WIDTHS = (64, 32)
"""Read at every exit of every token, from memory that the layers have swept: wider ones cost more than they tell."""
EPOCHS = 5
"""More of them learn the stored tokens by heart."""
LEAST_STEPS = 300
BATCH_TOKENS = 256
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.01


class ExitNetwork(nn.Module):
    """Two tanh layers and one logit: the network `AgentPolicy` runs, as it is trained."""

    def __init__(self, inputs: int, widths: tuple[int, int] = WIDTHS) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, widths[0]), nn.Linear(*widths)
        self.out = nn.Linear(widths[1], 1)

    def forward(self, observations: Tensor) -> Tensor:
        """Return exit logits [...] of observations [..., D + S - 1 + 2]."""
        logits: Tensor = self.out(torch.tanh(self.second(torch.tanh(self.first(observations)))))
        return logits.squeeze(-1)

    def tensors(self) -> dict[str, Vector]:
        """Return the weights as `AgentPolicy` reads them."""
        tensors = {"w1": self.first.weight, "b1": self.first.bias, "w2": self.second.weight, "b2": self.second.bias}
        tensors |= {"w3": self.out.weight[0], "b3": self.out.bias}
        return {name: np.ascontiguousarray(t.detach().numpy(), np.float32) for name, t in tensors.items()}


def save(network: ExitNetwork, path: Path, exits: tuple[int, ...], gate: float | None = None) -> Path:
    """Write the network for `AgentPolicy.load`, with its gate if it has one; return the path."""
    save_file(network.tensors(), str(path), metadata={"exits": json.dumps(exits), "gate": json.dumps(gate)})
    return path


def saved_share(exits: tuple[int, ...]) -> NDArray[np.float32]:
    """Return what exiting at each early exit saves at most, as a share of full depth [S - 1]."""
    return (1 - np.asarray(exits[:-1]) / exits[-1]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class TokenBatches:
    """Stored tokens as a network sees them, nothing skipped before."""

    rollouts: Rollouts
    exits: tuple[int, ...]

    def draw(self, rng: np.random.Generator, count: int) -> list[Integers]:
        """Return `count` batches of row numbers: every row once before any comes again."""
        size = min(BATCH_TOKENS, len(self.rollouts))
        per_epoch = len(self.rollouts) // size
        epochs = -(-count // per_epoch)
        rows = np.concatenate([rng.permutation(len(self.rollouts))[: per_epoch * size] for _ in range(epochs)])
        return [np.sort(batch) for batch in rows.reshape(-1, size)[:count]]  # in order, as the disk has them

    def seen(self, rows: Integers) -> Tensor:
        """Return observations [B, S - 1, ...]."""
        index = np.broadcast_to(np.arange(len(self.exits) - 1), (len(rows), len(self.exits) - 1))
        position = np.broadcast_to(np.asarray(self.rollouts.position[rows], np.int64)[:, None], index.shape)
        hidden = np.asarray(self.rollouts.hidden[rows], np.float32)
        return torch.from_numpy(observation(hidden, index, len(self.exits), np.ones_like(index), position))


def fit(rollouts: Rollouts, exits: tuple[int, ...], seed: int = 0, weighs_cost: bool = False) -> ExitNetwork:
    """Fit the exit logit to whether an exit's token is the full model's (cross-entropy); return the network.

    The logit is log P(right) / P(wrong). With `weighs_cost` it is log(saved / P(wrong)), saved being the share of full
    depth that exiting saves: above -log(lambda), exiting pays at that price of energy, if going on means full depth.
    """
    torch.manual_seed(seed)
    network = ExitNetwork(observation_size(rollouts.hidden.shape[-1], len(exits)))
    right = torch.from_numpy(rollouts.right[:, :-1].astype(np.float32))
    saved = torch.from_numpy(saved_share(exits))
    steps = max(LEAST_STEPS, EPOCHS * len(rollouts) // BATCH_TOKENS)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1)
    batches = TokenBatches(rollouts, exits)
    for rows in batches.draw(np.random.default_rng(seed), steps):
        logits = network(batches.seen(rows))
        gain = saved if weighs_cost else right[rows]
        loss = (gain * F.softplus(-logits) + (1 - right[rows]) * F.softplus(logits)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
        optimiser.step()
        rate.step()
    return network

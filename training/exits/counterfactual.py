"""The supervised start: what each action would have been worth in the very same completion.

The simulator is deterministic, so at any state every action can be taken and the completion walked to its end by the
policy at hand: the difference is the action's advantage there, without the noise of another completion. A network is
then fitted to raise the probability of actions by their advantages (cost-sensitive classification; the exact form of
COMA's counterfactual, Foerster et al., arXiv 1705.08926), and the next round walks by that network.

Letters: n walks, M states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from greencode_lsp.engine.state import Vector
from training.exits.contenders import Decide
from training.exits.rewards import Booleans, Floats
from training.exits.simulator import ACTIONS, STOP, Simulator

WALKS = 384
EXPLORED = 0.15
"""Share of the actions taken at random, so that states that the policy avoids are seen too."""
LONGEST_STEPS = 160
UPDATES = 1500
BATCH = 512
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.02
ENTROPY = 0.01


class ActionNetwork(nn.Module):
    """Two tanh layers and a logit per action."""

    def __init__(self, inputs: int, widths: tuple[int, int] = (64, 64)) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, widths[0]), nn.Linear(*widths)
        self.out = nn.Linear(widths[1], ACTIONS)

    def forward(self, seen: Tensor) -> Tensor:
        """Return logits [..., 4] of observations."""
        logits: Tensor = self.out(torch.tanh(self.second(torch.tanh(self.first(seen)))))
        return logits

    def decide(self) -> Decide:
        """Return the policy that takes the likeliest action there is."""
        w1, w2, w3 = (layer.weight.detach().numpy().T for layer in (self.first, self.second, self.out))
        b1, b2, b3 = (layer.bias.detach().numpy() for layer in (self.first, self.second, self.out))

        def decided(sim: Simulator) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
            logits = np.tanh(np.tanh(sim.observe() @ w1 + b1) @ w2 + b2) @ w3 + b3
            return np.asarray(np.where(sim.allowed(), logits, -np.inf).argmax(axis=1))

        return decided


@dataclass(frozen=True, slots=True)
class Experience:
    """States and what each action was worth there."""

    seen: Vector
    """[M, observation]"""
    allowed: Booleans
    """[M, 4]"""
    returns: Floats
    """[M, 4]; of what is not allowed nothing."""


def gather(sim: Simulator, other: Simulator, decide: Decide, steps: int, seed: int) -> Experience:
    """Walk `steps` steps; at each state of a walk try every action. `other` has room for 4 of each walk."""
    rng = np.random.default_rng(seed)
    sim.begin(np.ones(sim.walks, bool))
    seen, allowed, returns = [], [], []
    rows = np.repeat(np.arange(sim.walks), ACTIONS)
    tried = np.tile(np.arange(ACTIONS), sim.walks)
    for _ in range(steps):
        may = sim.allowed()
        other.copy_of(sim, rows)
        played = _play(other, np.where(may.reshape(-1), tried, STOP), decide)
        seen.append(sim.observe())
        allowed.append(may)
        returns.append(played.reshape(-1, ACTIONS))
        random = np.where(may, rng.random(may.shape), -1).argmax(axis=1)
        _, ended = sim.step(np.where(rng.random(sim.walks) < EXPLORED, random, decide(sim)))
        sim.begin(ended)
    return Experience(np.concatenate(seen), np.concatenate(allowed), np.concatenate(returns))


def _play(sim: Simulator, first: np.ndarray[tuple[int, ...], np.dtype[np.int64]], decide: Decide) -> Floats:
    """Take the first actions, then walk on by the policy; return the rewards to the end [n]."""
    total, ended = sim.step(first)
    alive = ~ended
    for _ in range(LONGEST_STEPS):
        if not alive.any():
            break
        actions = decide(sim)
        rewards, ended = sim.step(np.where(alive, actions, STOP))
        total = total + rewards * alive
        alive &= ~ended
    return total


def fit(network: ActionNetwork, experience: Sequence[Experience], seed: int = 0, sharpness: float = 4.0) -> None:
    """Fit the network to the advantages of the actions over what it would itself do."""
    torch.manual_seed(seed)
    seen = torch.from_numpy(np.concatenate([e.seen for e in experience]))
    allowed = torch.from_numpy(np.concatenate([e.allowed for e in experience]))
    returns = torch.from_numpy(np.concatenate([e.returns for e in experience]).astype(np.float32))
    best = torch.where(allowed, returns, -torch.inf).max(dim=1, keepdim=True).values
    regret = torch.where(allowed, best - returns, 0.0)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=UPDATES + 1, pct_start=0.1)
    for _ in range(UPDATES):
        rows = torch.randint(len(seen), (BATCH,))
        logits = torch.where(allowed[rows], network(seen[rows]), -1e9)
        share = torch.softmax(logits, dim=1)
        entropy = -(share * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
        loss = (share * regret[rows]).sum(dim=1).mean() - ENTROPY * entropy / sharpness
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
        optimiser.step()
        rate.step()

"""The exit agent: PPO by stable-baselines3 over stored rollouts, exported to safetensors.

    python -m training agent --preset mini        # a minute on two cores

The network is the paper's: two tanh layers of 64. An entropy bonus keeps its logits graded: at the optimum the
exit logit is the difference in value between leaving and going on, over the bonus, so that a threshold on it trades
agreement for cost smoothly where the paper's probabilities form a cliff.

PPO from random weights needs far more steps than there are states to learn what a classifier learns in seconds, so the
actor starts as a supervised probe, P(the exit's token is the full model's), and PPO teaches it cost and backlog.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from stable_baselines3 import PPO
from torch.nn import functional as F

from greencode_lsp.engine.policy import AGENT_FILE, Vector, observation
from greencode_lsp.models.manifest import Manifest
from training.env import ExitVecEnv
from training.preset import AgentOptions
from training.rollout import Rollouts

WALKS = 64
STEPS_PER_WALK = 32
LEARNING_RATE = 3e-5
ENTROPY_BONUS = 0.05
WARM_EPOCHS = 6
WARM_LEARNING_RATE = 2e-3
WARM_BATCH = 512
DISCOUNT = 0.9
"""A choice matters for the tokens it leaves pending, not for the whole completion."""


def train(rollouts: Rollouts, manifest: Manifest, options: AgentOptions, steps: int, start: Any = None) -> Any:
    """Train PPO for `steps` environment steps, going on from the model `start` where one is given; return the model."""
    env = ExitVecEnv(rollouts, manifest, WALKS, options.seed)
    model = start or warm_start(_new_model(env, options), rollouts, manifest.exits)
    model.set_env(env)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a network this small is slower on more
    try:
        return model.learn(steps)
    finally:
        torch.set_num_threads(threads)


def _new_model(env: ExitVecEnv, options: AgentOptions) -> Any:
    return PPO(
        "MlpPolicy",
        env,
        learning_rate=LEARNING_RATE,
        n_steps=STEPS_PER_WALK,
        batch_size=512,
        n_epochs=6,
        gamma=DISCOUNT,
        gae_lambda=0.9,
        ent_coef=ENTROPY_BONUS,
        policy_kwargs={"net_arch": [64, 64], "activation_fn": torch.nn.Tanh},
        seed=options.seed,
        device="cpu",
    )


def warm_start(model: Any, rollouts: Rollouts, exits: tuple[int, ...]) -> Any:
    """Fit the actor's exit logit to whether an exit's token is the full model's (cross-entropy); return the model."""
    labels = np.asarray(rollouts.choices)[:, :-1] == np.asarray(rollouts.labels)[:, None]  # [N, S - 1]
    right = torch.from_numpy(labels.astype(np.float32).ravel())
    index = np.broadcast_to(np.arange(len(exits) - 1), labels.shape)
    position = np.broadcast_to(np.asarray(rollouts.position, np.int64)[:, None], labels.shape)
    hidden = np.asarray(rollouts.hidden, np.float32)
    seen = observation(hidden, index, len(exits), np.ones_like(index), position)  # pending as after full depth
    states = torch.from_numpy(seen).flatten(0, 1)  # [N (S - 1), ...]
    body, out = model.policy.mlp_extractor.policy_net, model.policy.action_net
    parameters = [*body.parameters(), *out.parameters()]
    optimiser = torch.optim.AdamW(parameters, WARM_LEARNING_RATE, weight_decay=0.01)
    batches = WARM_EPOCHS * math.ceil(len(states) / WARM_BATCH)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, batches)
    for _ in range(WARM_EPOCHS):
        for batch in torch.randperm(len(states)).split(WARM_BATCH):  # type: ignore[no-untyped-call]  # torch's own
            actions = out(body(states[batch]))
            loss = F.binary_cross_entropy_with_logits(actions[:, 1] - actions[:, 0], right[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
            optimiser.step()
            decay.step()
    return model


def tensors_of(model: Any) -> dict[str, Vector]:
    """Return the actor as `AgentPolicy` reads it: w3 and b3 are the exit row minus the continue row."""
    network, out = model.policy.mlp_extractor.policy_net, model.policy.action_net
    tensors = {"w1": network[0].weight, "b1": network[0].bias, "w2": network[2].weight, "b2": network[2].bias}
    tensors |= {"w3": out.weight[1] - out.weight[0], "b3": out.bias[1:] - out.bias[:1]}
    return {name: np.ascontiguousarray(t.detach().numpy(), np.float32) for name, t in tensors.items()}


def export(model: Any, folder: Path, exits: tuple[int, ...]) -> Path:
    """Write `agent.safetensors`; the zip, which is a pickle, stays with the training."""
    path = folder / AGENT_FILE
    save_file(tensors_of(model), str(path), metadata={"exits": json.dumps(exits)})
    return path

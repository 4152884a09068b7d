"""The exit agent: PPO by stable-baselines3 over stored rollouts, exported to safetensors.

    python -m training agent --preset mini        # 5 minutes on one core

The paper's network is two tanh layers of 64, whose probabilities PPO drives to a cliff: no threshold on them trades
agreement for cost smoothly. Here every episode has its own price of energy, lambda, and the action logit is the
network's, less the threshold -log(lambda) that a user with that preference would set:

    log P(leave) / P(go on) = SHARPNESS x (network(observation) + log(lambda))

so what PPO learns is the price at which leaving pays, and a threshold at serving is a price of energy.

PPO from random weights needs far more steps than there are states to learn what a classifier learns in seconds, so the
actor starts as a supervised probe (training/probe.py) and PPO teaches it backlog and what the later exits are worth.
The critic learns first, while the actor stands still: an untrained critic would undo the start.

On 217,000 tokens of mini-1, PPO ends level with its start (0.858 and 0.857 of full depth's cost at an agreement of
0.986, on files kept back). So `training agent` compares the two, and keeps the start where PPO made it no cheaper.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from greencode_lsp.models.manifest import Manifest
from training.env import ExitVecEnv
from training.preset import AgentOptions
from training.probe import ExitNetwork
from training.rollout import Rollouts

WALKS = 64
STEPS_PER_WALK = 64
BATCH = 1024
EPOCHS = 4
LEARNING_RATE = 3e-5
GAE_LAMBDA = 0.9
CRITIC_SHARE = 0.2
"""Of the first steps: the actor stands still."""
SHARPNESS = 2.0
DISCOUNT = 1.0
"""Less would charge for waiting: going on puts off the reward of a right token by one step per exit."""


class _Latents(nn.Module):
    """What stable-baselines3 calls the extractor: the actor's logit less the threshold, the critic's features."""

    latent_dim_pi, latent_dim_vf = 1, 64

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.network = ExitNetwork(inputs - 1)
        self.critic = nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, self.latent_dim_vf), nn.Tanh())

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(seen), self.forward_critic(seen)

    def forward_actor(self, seen: Tensor) -> Tensor:
        """Return [n, 1] for [n, observation and threshold]."""
        logit: Tensor = self.network(seen[:, :-1])
        return (logit - seen[:, -1])[:, None]

    def forward_critic(self, seen: Tensor) -> Tensor:
        return self.critic(seen)  # type: ignore[no-any-return]  # torch's own


class _TwoLogits(nn.Module):
    """[n, 1] -> [n, 2] action logits: going on is 0."""

    def forward(self, latent: Tensor) -> Tensor:
        return SHARPNESS * torch.cat([torch.zeros_like(latent), latent], dim=-1)


class ThresholdPolicy(ActorCriticPolicy):  # type: ignore[misc]  # stable-baselines3 is untyped here
    """The actor and critic above in stable-baselines3's frame."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _Latents(self.features_dim)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = _TwoLogits()
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


def new_model(rollouts: Rollouts, manifest: Manifest, options: AgentOptions, start: ExitNetwork) -> Any:
    """Return a PPO model over the rollouts whose actor is `start`."""
    model = PPO(
        ThresholdPolicy,
        ExitVecEnv(rollouts, manifest, WALKS, options.paid, options.seed),
        learning_rate=LEARNING_RATE,
        n_steps=STEPS_PER_WALK,
        batch_size=BATCH,
        n_epochs=EPOCHS,
        gamma=DISCOUNT,
        gae_lambda=GAE_LAMBDA,
        policy_kwargs={"ortho_init": False},
        seed=options.seed,
        device="cpu",
    )
    network_of(model).load_state_dict(start.state_dict())
    return model


def learn_critic(model: Any, steps: int) -> Any:
    """Train the critic alone for `steps` environment steps; return the model."""
    network_of(model).requires_grad_(False)
    model.learn(steps)
    network_of(model).requires_grad_(True)
    return model


def train(rollouts: Rollouts, manifest: Manifest, options: AgentOptions, steps: int, start: Any) -> Any:
    """Train PPO for `steps` environment steps from a fitted probe or an earlier model; return the model."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a network this small is slower on more
    try:
        if isinstance(start, ExitNetwork):
            alone = int(CRITIC_SHARE * steps)
            model, steps = learn_critic(new_model(rollouts, manifest, options, start), alone), steps - alone
        else:
            model = start
            model.set_env(ExitVecEnv(rollouts, manifest, WALKS, options.paid, options.seed))
        return model.learn(steps)
    finally:
        torch.set_num_threads(threads)


def network_of(model: Any) -> ExitNetwork:
    """Return the actor's network: what is exported."""
    network: ExitNetwork = model.policy.mlp_extractor.network
    return network

"""PPO (stable-baselines3) over the simulator, from a supervised start and anchored to it.

The actor is the start's network over observations alone. The critic also sees what no policy can (`privileged`), has a
learning rate of its own and is fitted to the start's Monte Carlo returns first: then advantages are of the actions, not
of which completion was drawn. In the place of the entropy bonus stands the Kullback-Leibler divergence to the start.

Letters: n walks.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn
from torch.distributions import Categorical

from greencode_lsp.engine.state import Vector
from training.exits.agent import TwoRatePpo, fit_critic
from training.exits.counterfactual import ActionNetwork
from training.exits.rewards import Booleans, Integers
from training.exits.simulator import ACTIONS, Simulator, privileged_length

CRITIC_WIDTH = 64
FORBIDDEN = -1e9


@dataclass(frozen=True, slots=True)
class Options:
    """PPO's settings; prices, walks and networks are the caller's."""

    steps: int = 2_000_000
    seed: int = 0
    learning_rate: float = 1e-4
    critic_learning_rate: float = 1e-3
    steps_per_update: int = 16_384
    batch: int = 2048
    epochs: int = 4
    gae_lambda: float = 0.95
    anchor: float = 0.02
    """Weight of the divergence from the start."""
    critic_steps: int = 200_000
    """Of Monte Carlo returns that the critic is fitted to first, beside `steps`."""


class SimulatorEnv(VecEnv):  # type: ignore[misc]  # stable-baselines3 is untyped here
    """Many walks in one numpy step: [n, observation, which actions there are, privileged]."""

    render_mode = None

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        size = simulator.observe().shape[1] + ACTIONS + privileged_length(simulator.exits)
        space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        super().__init__(simulator.walks, space, gymnasium.spaces.Discrete(ACTIONS))
        self._actions = np.zeros(simulator.walks, np.int64)
        self._infos: list[dict[str, Any]] = [{} for _ in range(simulator.walks)]

    def _observe(self) -> Vector:
        sim = self.simulator
        return np.concatenate([sim.observe(), sim.allowed(), sim.privileged()], axis=1, dtype=np.float32)

    def reset(self) -> Vector:
        """Begin a completion in every walk."""
        self.simulator.begin(np.ones(self.num_envs, bool))
        return self._observe()

    def step_async(self, actions: Integers) -> None:
        """Keep the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[Vector, Vector, Booleans, list[dict[str, Any]]]:
        """Take them; walks that ended begin anew."""
        rewards, ended = self.simulator.step(self._actions)
        self.simulator.begin(ended)
        return self._observe(), rewards.astype(np.float32), ended, self._infos

    def close(self) -> None:
        """Nothing is held."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return the attribute once per walk."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set the attribute, which all walks share."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call the method once per walk."""
        return [getattr(self, method_name)(*args, **kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No walk is wrapped."""
        return [False for _ in self._get_indices(indices)]


class _Halves(nn.Module):
    """What stable-baselines3 calls the extractor: masked action logits, the critic's features."""

    latent_dim_pi, latent_dim_vf = ACTIONS, CRITIC_WIDTH

    def __init__(self, network: ActionNetwork, inputs: int) -> None:
        super().__init__()
        self.network, self.inputs = network, inputs
        self.width = network.first.in_features
        layers = [nn.Linear(inputs, CRITIC_WIDTH), nn.Tanh(), nn.Linear(CRITIC_WIDTH, CRITIC_WIDTH), nn.Tanh()]
        self.critic = nn.Sequential(*layers)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(seen), self.forward_critic(seen)

    def forward_actor(self, seen: Tensor) -> Tensor:
        return masked(self.network, seen)

    def forward_critic(self, seen: Tensor) -> Tensor:
        return self.critic(seen)  # type: ignore[no-any-return]  # torch's own


def masked(network: ActionNetwork, seen: Tensor) -> Tensor:
    """Return action logits [n, 4] of what the environment shows; what is not allowed is never taken."""
    width = network.first.in_features
    return torch.where(seen[:, width : width + ACTIONS] > 0, network(seen[:, :width]), FORBIDDEN)


def _log_prob(over: Categorical, actions: Tensor) -> Tensor:
    return torch.log_softmax(over.logits, dim=1).gather(1, actions.long()[:, None])[:, 0]


class AnchoredPolicy(ActorCriticPolicy):  # type: ignore[misc]  # stable-baselines3 is untyped here
    """The actor and critic above; what PPO takes for the entropy is less the divergence from the start."""

    def __init__(self, *args: Any, start: ActionNetwork, **kwargs: Any) -> None:
        self._start = (start,)  # a module may not be an attribute yet
        super().__init__(*args, **kwargs)
        self.anchor = copy.deepcopy(start).requires_grad_(False)

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _Halves(copy.deepcopy(self._start[0]), self.features_dim)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()
        groups = [{"params": list(self.mlp_extractor.network.parameters())}, {"params": self.critic_parameters()}]
        self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what values are made of."""
        return [*self.mlp_extractor.critic.parameters(), *self.value_net.parameters()]

    def evaluate_actions(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values, log probabilities of the actions, and less the divergence from the start."""
        latent, features = self.mlp_extractor(obs)
        ours = Categorical(logits=latent)
        with torch.no_grad():
            theirs = Categorical(logits=masked(self.anchor, obs))
        divergence = torch.distributions.kl_divergence(ours, theirs)
        return self.value_net(features), _log_prob(ours, actions), -divergence


def train(simulator: Simulator, start: ActionNetwork, options: Options) -> tuple[ActionNetwork, float]:
    """Return PPO's network and how much of other returns' variance the critic explained before it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small are slower on more
    try:
        model = TwoRatePpo(
            AnchoredPolicy,
            SimulatorEnv(simulator),
            learning_rate=lambda left: options.learning_rate * left,
            n_steps=options.steps_per_update // simulator.walks,
            batch_size=options.batch,
            n_epochs=options.epochs,
            gamma=1.0,
            gae_lambda=options.gae_lambda,
            ent_coef=options.anchor,
            policy_kwargs={"ortho_init": False, "start": start},
            seed=options.seed,
            device="cpu",
        )
        model.critic_ratio = options.critic_learning_rate / options.learning_rate
        explained = fit_critic(model, options.critic_steps, options.critic_learning_rate)
        model.learn(options.steps)
        return model.policy.mlp_extractor.network, explained
    finally:
        torch.set_num_threads(threads)

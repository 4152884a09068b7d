"""The exit agent: PPO by stable-baselines3 over stored rollouts, exported to safetensors.

    python -m training agent --preset mini        # 5 minutes on one core

The paper's network is two tanh layers of 64, whose probabilities PPO drives to a cliff: no threshold on them trades
agreement for cost smoothly. Here every episode has its own price of energy, lambda, and the action logit is the
network's, less the threshold -log(lambda) that a user with that preference would set:

    log P(exit) / P(go on) = sharpness x (network(observation) + log(lambda))

so what PPO learns is the price at which exiting pays, and a threshold at serving is a price of energy.

PPO from random weights needs far more steps than there are states to learn what a classifier learns in seconds, so the
actor starts as a supervised probe (probe.py) and PPO teaches it backlog and what the later exits are worth.
The critic is fitted first, to the start's Monte Carlo returns, and has a learning rate of its own: a critic that says
0.9 where returns are 14 turns the advantage into a charge for waiting, and undoes the start.

On 217,000 tokens of mini-1, PPO ends level with its start (0.858 and 0.857 of full depth's cost at an agreement of
0.986, on files kept back). So `training agent` compares the two, and keeps the start where PPO made it no cheaper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.nn import functional as F

from greencode_lsp.models.manifest import Manifest
from training.exits.environment import ExitVecEnv
from training.exits.probe import ExitNetwork
from training.exits.rollout import Rollouts
from training.preset import AgentOptions, PpoOptions

WHOLE = (1.0, 0.0)
CRITIC_SHARE = 0.2
"""Of the steps: what the critic is fitted to before PPO."""
CRITIC_EPOCHS = 20
CRITIC_WIDTH = 64


class _Latents(nn.Module):
    """What stable-baselines3 calls the extractor: the actor's logit less the threshold, the critic's features."""

    latent_dim_pi, latent_dim_vf = 1, CRITIC_WIDTH

    def __init__(self, inputs: int, widths: tuple[int, int]) -> None:
        super().__init__()
        self.network = ExitNetwork(inputs - 1, widths)
        layers = [nn.Linear(inputs, CRITIC_WIDTH), nn.Tanh(), nn.Linear(CRITIC_WIDTH, CRITIC_WIDTH), nn.Tanh()]
        self.critic = nn.Sequential(*layers)

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

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self._sharpness = sharpness

    def forward(self, latent: Tensor) -> Tensor:
        return self._sharpness * torch.cat([torch.zeros_like(latent), latent], dim=-1)


class ThresholdPolicy(ActorCriticPolicy):  # type: ignore[misc]  # stable-baselines3 is untyped here
    """The actor and critic above in stable-baselines3's frame; two groups of parameters, the critic's the second."""

    def __init__(self, *args: Any, widths: tuple[int, int], sharpness: float, **kwargs: Any) -> None:
        self._widths, self._sharpness = widths, sharpness
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _Latents(self.features_dim, self._widths)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = _TwoLogits(self._sharpness)
        groups = [{"params": list(self.mlp_extractor.network.parameters())}, {"params": self.critic_parameters()}]
        self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what values are made of."""
        return [*self.mlp_extractor.critic.parameters(), *self.value_net.parameters()]


class TwoRatePpo(PPO):  # type: ignore[misc]  # stable-baselines3 is untyped here
    """PPO whose critic has a learning rate of its own, in step with the actor's."""

    critic_ratio = 1.0
    """The critic's rate by the actor's."""

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        actor, critic = self.policy.optimizer.param_groups
        critic["lr"] = self.critic_ratio * actor["lr"]


def _rate(options: PpoOptions, part: tuple[float, float] = WHOLE) -> Callable[[float], float]:
    """Return the actor's learning rate by the share that is left of a part of the training."""
    begin, end = part
    return lambda left: options.learning_rate * (end + (begin - end) * left if options.falls else 1.0)


def new_model(rollouts: Rollouts, manifest: Manifest, options: AgentOptions, start: ExitNetwork) -> Any:
    """Return a PPO model over the rollouts whose actor is `start`."""
    ppo = options.ppo
    model = TwoRatePpo(
        ThresholdPolicy,
        ExitVecEnv(rollouts, manifest, ppo.environments, options.paid, options.seed),
        learning_rate=_rate(ppo),
        n_steps=ppo.steps_per_update // ppo.environments,
        batch_size=ppo.batch,
        n_epochs=ppo.epochs,
        gamma=ppo.discount,
        gae_lambda=ppo.gae_lambda,
        policy_kwargs={"ortho_init": False, "widths": ppo.widths, "sharpness": ppo.sharpness},
        seed=options.seed,
        device="cpu",
    )
    model.critic_ratio = ppo.critic_learning_rate / ppo.learning_rate
    if ppo.start == "probe":
        network_of(model).load_state_dict(start.state_dict())
    return model


@dataclass(frozen=True, slots=True)
class Returns:
    """What the actor saw in whole episodes, and what each state was followed by."""

    seen: Tensor
    """[n, observation and threshold]"""
    discounted: Tensor
    """[n]; the sum of the rewards from there to the episode's end."""


def monte_carlo(model: Any, steps: int) -> Returns:
    """Let the actor act for `steps` environment steps; return the states of the episodes that ended."""
    env, environments = model.get_env(), model.n_envs
    seen, rewards, ends = [env.reset()], [], []
    for _ in range(max(1, steps // environments)):
        actions, _ = model.predict(seen[-1], deterministic=False)
        following, reward, ended, _ = env.step(actions)
        seen.append(following)
        rewards.append(reward)
        ends.append(ended)
    following = np.zeros(environments)
    known, returns = np.zeros(environments, bool), np.zeros((len(rewards), environments), np.float32)
    whole = np.zeros((len(rewards), environments), bool)
    for step in range(len(rewards) - 1, -1, -1):
        known |= ends[step]
        following = rewards[step] + model.gamma * np.where(ends[step], 0.0, following)
        returns[step], whole[step] = following, known
    states = np.stack(seen[:-1])[whole]
    return Returns(torch.from_numpy(states), torch.from_numpy(returns[whole]))


def explained_variance(model: Any, returns: Returns) -> float:
    """Return 1 - Var(return - value) / Var(return): 1 where the critic knows it all, 0 where it knows the mean."""
    with torch.no_grad():
        values = model.policy.predict_values(returns.seen)[:, 0]
    rest: Tensor = (returns.discounted - values).var() / returns.discounted.var()
    return 1 - float(rest)


def fit_critic(model: Any, steps: int, learning_rate: float) -> float:
    """Fit the critic to the actor's Monte Carlo returns; return the variance it explains of other episodes."""
    learnt, other = monte_carlo(model, steps), monte_carlo(model, steps // 4)
    parameters = model.policy.critic_parameters()
    batch = model.batch_size
    updates = CRITIC_EPOCHS * -(-len(learnt.seen) // batch)
    optimiser = torch.optim.Adam(parameters, learning_rate)
    rate = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, total_iters=updates)
    with torch.no_grad():
        model.policy.value_net.bias.fill_(float(learnt.discounted.mean()))
    for _ in range(updates):
        rows = torch.randint(len(learnt.seen), (batch,))
        loss = F.mse_loss(model.policy.predict_values(learnt.seen[rows])[:, 0], learnt.discounted[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
        optimiser.step()
        rate.step()
    return explained_variance(model, other)


def train(
    rollouts: Rollouts,
    manifest: Manifest,
    options: AgentOptions,
    steps: int,
    start: Any,
    part: tuple[float, float] = WHOLE,
) -> Any:
    """Train PPO for `steps` environment steps from a fitted probe or an earlier model; return the model.

    `part` of a training in several: what share of it is left at the begin and the end, for a rate that falls.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a network this small is slower on more
    try:
        if isinstance(start, ExitNetwork):
            model = new_model(rollouts, manifest, options, start)
            if options.ppo.fit_critic:
                alone = int(CRITIC_SHARE * steps)
                explained = fit_critic(model, alone, options.ppo.critic_learning_rate)
                print(f"the critic explains {explained:.2f} of the returns' variance")
                steps -= alone
        else:
            model = start
            model.set_env(ExitVecEnv(rollouts, manifest, model.n_envs, options.paid, options.seed))
        model.lr_schedule = _rate(options.ppo, part)
        return model.learn(steps)
    finally:
        torch.set_num_threads(threads)


def network_of(model: Any) -> ExitNetwork:
    """Return the actor's network: what is exported."""
    network: ExitNetwork = model.policy.mlp_extractor.network
    return network

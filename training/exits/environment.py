"""A vectorised environment over stored rollouts: the agent goes through tokens x exits, no model inside.

Action 0 goes on to the next exit, action 1 emits the token here. Going on runs the next segment over everything it
has not consumed, which depends on the agent's own earlier choices: `filled` is kept per segment as in the engine
(I2), counted in completion positions, where position 0 is the prompt's last. As in the engine's
ratio, the prompt's own layers cost nothing, and what runs beside them what it adds.

Letters: n parallel episodes, S exits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from greencode_lsp.engine.cost import relative_cost
from greencode_lsp.engine.policy import observation, observation_size
from greencode_lsp.engine.state import Vector
from greencode_lsp.models.manifest import Manifest
from training.exits.rewards import Booleans, Floats, Integers, Reward, energy_reward, paper_reward
from training.exits.rollout import Rollouts
from training.exits.served import PROMPT_TOKENS

COST_WEIGHT_SPREAD = 4.0
"""Episodes draw their lambda log-uniformly between a fourth of the reward's and four times it."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one action per episode did; every array [n]."""

    emits: Booleans
    """A token came of it, here or, past the last early exit, from the last layer."""
    correct: Booleans
    """And it is the full model's."""
    layer_equivalents: Floats
    """What it ran, pending positions and the LM head included."""
    ended: Booleans
    """The completion ended with it; the episode must `begin` anew."""


class ParallelEpisodes:
    """n episodes side by side; each is one stored completion, drawn at random."""

    def __init__(
        self, rollouts: Rollouts, manifest: Manifest, count: int, seed: int = 0, prompt_tokens: int = PROMPT_TOKENS
    ) -> None:
        self.exits, self.head_layers = manifest.exits, manifest.head_layers
        self._hidden, self._right = rollouts.hidden, rollouts.right
        self._best = self._right.argmax(axis=1)
        self._lengths = rollouts.lengths
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._widths = np.diff((0, *manifest.exits)).astype(np.float64)
        self._cost = np.array(
            [0.0, *(relative_cost(manifest.cost_curve, m) for m in range(1, int(self._lengths.max()) + 1))]
        )
        prompt = relative_cost(manifest.cost_curve, prompt_tokens)
        self._beside = np.array(
            [relative_cost(manifest.cost_curve, prompt_tokens + m) - prompt for m in range(len(self._cost))]
        )
        self._episode, self._position, self._exit = (np.zeros(count, np.int64) for _ in range(3))
        self._filled = np.zeros((count, len(manifest.exits)), np.int64)
        self._indices = np.arange(count)
        self.seed(seed)
        self.begin(np.ones(count, bool))

    def seed(self, seed: int | None) -> None:
        """Start the draw of episodes anew."""
        self._rng = np.random.default_rng(seed)

    def begin(self, which: Booleans, episodes: Integers | None = None) -> None:
        """Put the episodes marked [n] at the first exit of the first token of a new completion, drawn or given."""
        drawn = self._rng.integers(len(self._starts), size=int(which.sum())) if episodes is None else episodes
        self._episode[which] = drawn
        self._position[which] = self._exit[which] = 0
        self._filled[which] = 0
        self._filled[which, 0] = 1

    @property
    def exit(self) -> Integers:
        """The exit that each episode stands at, from 0."""
        return self._exit

    @property
    def token_index(self) -> Integers:
        """The stored token that each episode stands at."""
        return np.asarray(self._starts[self._episode] + self._position)

    def observe(self) -> Vector:
        """Return observations [n, D + S - 1 + 2], by the function the server uses."""
        pending = self._position + 1 - self._filled[self._indices, self._exit + 1]
        hidden = np.asarray(self._hidden[self.token_index, self._exit], np.float32)
        return observation(hidden, self._exit, len(self.exits), pending, self._position)

    def step(self, actions: NDArray[np.int64], reward: Reward, cost_weight: float | Floats) -> tuple[Floats, Booleans]:
        """Take one action per episode; return rewards [n] and which episodes ended [n]. Those must `begin` anew."""
        exit_here, row, here = np.asarray(actions) == 1, self.token_index, self._exit
        outcome = self.take(exit_here)
        if reward.name == "paper":
            return paper_reward(self.exits, here, self._best[row], self._right[row, here], exit_here), outcome.ended
        full = self.exits[-1] + self.head_layers
        correct = outcome.correct.astype(np.float64)
        return energy_reward(correct, outcome.layer_equivalents, full, cost_weight), outcome.ended

    def take(self, exit_here: Booleans) -> StepOutcome:
        """Emit here where `exit_here` [n] says so, go on to the next exit elsewhere."""
        row, here = self.token_index, self._exit.copy()
        emits = exit_here | (here + 2 == len(self.exits))
        # the next token's first segment is not a choice; counted here, an episode's rewards hold its whole cost
        layers = self._go_on(~exit_here, here) + emits * (self.head_layers + self._widths[0] * (self._position > 0))
        correct = np.where(exit_here, self._right[row, here], True) & emits
        self._exit = np.where(emits, 0, here + 1)
        ended = emits & (self._position + 1 == self._lengths[self._episode])
        self._position += emits & ~ended
        self._filled[self._indices, 0] = self._position + 1
        return StepOutcome(emits, correct, layers, ended)

    def _go_on(self, goes_on: Booleans, here: Integers) -> Floats:
        """Run the next segment over all its pending positions; return the layer-equivalents [n]."""
        filled = self._filled[self._indices, here + 1]
        decoded = np.maximum(0, self._position + 1 - np.maximum(filled, 1))
        self._filled[self._indices, here + 1] = np.where(goes_on, self._position + 1, filled)
        cost = np.where(filled == 0, self._beside[decoded], self._cost[decoded])  # the prompt's positions run as well
        return np.asarray(np.where(goes_on, self._widths[here + 1] * cost, 0.0))


class ExitVecEnv(VecEnv):  # type: ignore[misc]  # stable-baselines3 is untyped here
    """Many episodes in one numpy step: what PPO trains on.

    Every episode draws its own lambda around the reward's, and its threshold -log(lambda) is the last entry of the
    observation: [n, D + S - 1 + 3].
    """

    render_mode = None

    def __init__(self, rollouts: Rollouts, manifest: Manifest, count: int, reward: Reward, seed: int = 0) -> None:
        size = observation_size(rollouts.hidden.shape[-1], len(manifest.exits)) + 1
        space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        super().__init__(count, space, gymnasium.spaces.Discrete(2))
        self.episodes, self._reward = ParallelEpisodes(rollouts, manifest, count, seed), reward
        self._rng = np.random.default_rng(seed)
        self._cost_weight = np.full(count, reward.cost_weight)
        self._actions = np.zeros(count, np.int64)
        self._rewards, self._steps = np.zeros(count), np.zeros(count, np.int64)
        self._start_s = time.monotonic()

    def _begin(self, which: Booleans) -> None:
        self.episodes.begin(which)
        if self._reward.name == "energy":  # the paper's reward has no lambda in it
            drawn = self._rng.uniform(-1, 1, int(which.sum()))
            self._cost_weight[which] = self._reward.cost_weight * COST_WEIGHT_SPREAD**drawn

    def _observe(self) -> Vector:
        threshold = -np.log(self._cost_weight).astype(np.float32)
        return np.concatenate([self.episodes.observe(), threshold[:, None]], axis=1)

    def reset(self) -> Vector:
        """Begin a completion in every environment."""
        self._begin(np.ones(self.num_envs, bool))
        self._rewards[:], self._steps[:] = 0.0, 0
        return self._observe()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[Vector, NDArray[np.float32], Booleans, list[dict[str, Any]]]:
        """Take them; those that ended begin anew, with stable-baselines3's notes on the episode."""
        rewards, ended = self.episodes.step(self._actions, self._reward, self._cost_weight)
        self._rewards += rewards
        self._steps += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended.any():
            last = self._observe()
            for i in np.flatnonzero(ended):
                episode = {"r": self._rewards[i], "l": int(self._steps[i]), "t": time.monotonic() - self._start_s}
                infos[i] = {"episode": episode, "terminal_observation": last[i]}
            self._rewards[ended], self._steps[ended] = 0.0, 0
            self._begin(ended)
        return self._observe(), rewards.astype(np.float32), ended, infos

    def close(self) -> None:
        """Nothing is held."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return the attribute once per environment."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set the attribute, which all environments share."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call the method once per environment."""
        return [getattr(self, method_name)(*args, **kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No environment is wrapped."""
        return [False for _ in self._get_indices(indices)]

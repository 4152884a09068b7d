"""A gymnasium environment over stored rollouts: the agent walks tokens x exits, no model inside.

Action 0 goes on to the next exit, action 1 emits the token here. Going on runs the next segment over everything it
has not consumed, which depends on the agent's own earlier choices: the walk keeps `filled` per segment as the engine
does (design, invariant I2), counted in completion positions, where position 0 is the prompt's last. As in the engine's
ratio, the prompt's own layers cost nothing.

Letters: n parallel walks, S exits.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from greencode_lsp.engine.cost import relative_cost
from greencode_lsp.engine.policy import Vector, observation, observation_size
from greencode_lsp.models.manifest import Manifest
from training.rewards import Booleans, Floats, Integers, energy_reward, paper_reward
from training.rollout import Rollouts

RewardName = Literal["energy", "paper"]


class Walk:
    """n walks side by side; each episode is one stored completion, drawn at random."""

    def __init__(
        self, rollouts: Rollouts, manifest: Manifest, walks: int, seed: int = 0, reward: RewardName = "energy"
    ) -> None:
        self.exits, self.head_layers, self._reward = manifest.exits, manifest.head_layers, reward
        self._hidden = rollouts.hidden
        self._right = np.asarray(rollouts.choices) == np.asarray(rollouts.labels)[:, None]  # [N, S]
        self._best = self._right.argmax(axis=1)
        self._starts = np.flatnonzero(rollouts.position == 0)
        self._lengths = np.diff(np.append(self._starts, len(rollouts)))
        self._widths = np.diff((0, *manifest.exits)).astype(np.float64)
        self._cost = np.array(
            [0.0, *(relative_cost(manifest.cost_curve, m) for m in range(1, int(self._lengths.max()) + 1))]
        )
        self._episode, self._position, self._exit = (np.zeros(walks, np.int64) for _ in range(3))
        self._filled = np.zeros((walks, len(manifest.exits)), np.int64)
        self._walks = np.arange(walks)
        self.seed(seed)
        self.begin(np.ones(walks, bool))

    def seed(self, seed: int | None) -> None:
        """Start the draw of episodes anew."""
        self._rng = np.random.default_rng(seed)

    def begin(self, which: Booleans) -> None:
        """Put the walks marked [n] at the first exit of the first token of a new completion."""
        self._episode[which] = self._rng.integers(len(self._starts), size=int(which.sum()))
        self._position[which] = self._exit[which] = 0
        self._filled[which] = 0
        self._filled[which, 0] = 1

    def observe(self) -> Vector:
        """Return observations [n, D + S - 1 + 2], by the function the server uses."""
        pending = self._position + 1 - self._filled[self._walks, self._exit + 1]
        hidden = np.asarray(self._hidden[self._row(), self._exit], np.float32)
        return observation(hidden, self._exit, len(self.exits), pending, self._position)

    def step(self, actions: NDArray[np.int64]) -> tuple[Floats, Booleans]:
        """Take one action per walk; return rewards [n] and which episodes ended [n]. Those must `begin` anew."""
        leave = np.asarray(actions) == 1
        row, here = self._row(), self._exit.copy()
        emits = leave | (here + 2 == len(self.exits))
        layers = self._go_on(~leave, here)
        correct = np.where(leave, self._right[row, here], True) & emits
        if self._reward == "paper":
            rewards = paper_reward(self.exits, here, self._best[row], self._right[row, here], leave)
        else:
            full = self.exits[-1] + self.head_layers
            # the next token's first segment is not a choice; booked here, an episode's rewards hold its whole cost
            layers += emits * (self.head_layers + self._widths[0] * (self._position > 0))
            rewards = energy_reward(correct.astype(np.float64), layers, full)
        self._exit = np.where(emits, 0, here + 1)
        ended = emits & (self._position + 1 == self._lengths[self._episode])
        self._position += emits & ~ended
        self._filled[self._walks, 0] = self._position + 1
        return rewards, ended

    def _go_on(self, goes_on: Booleans, here: Integers) -> Floats:
        """Run the next segment over all its pending positions; return the layer-equivalents [n]."""
        filled = self._filled[self._walks, here + 1]
        decoded = np.maximum(0, self._position + 1 - np.maximum(filled, 1))
        self._filled[self._walks, here + 1] = np.where(goes_on, self._position + 1, filled)
        return np.asarray(np.where(goes_on, self._widths[here + 1] * self._cost[decoded], 0.0))

    def _row(self) -> Integers:
        return np.asarray(self._starts[self._episode] + self._position)


def _spaces(rollouts: Rollouts, manifest: Manifest) -> tuple[Any, Any]:
    size = observation_size(rollouts.hidden.shape[-1], len(manifest.exits))
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32), gymnasium.spaces.Discrete(2)


class ExitEnv(gymnasium.Env):  # type: ignore[misc]  # gymnasium is untyped here
    """One walk, as gymnasium has it."""

    def __init__(self, rollouts: Rollouts, manifest: Manifest, reward: RewardName = "energy") -> None:
        self.observation_space, self.action_space = _spaces(rollouts, manifest)
        self._walk = Walk(rollouts, manifest, 1, reward=reward)
        self._seen = self._walk.observe()[0]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Begin a completion."""
        super().reset(seed=seed)
        if seed is not None:
            self._walk.seed(seed)
        self._walk.begin(np.ones(1, bool))
        self._seen = self._walk.observe()[0]
        return self._seen, {}

    def step(self, action: int) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Go on (0) or emit here (1); after the last token the observation stays the last one seen."""
        rewards, ended = self._walk.step(np.array([action]))
        if not ended[0]:
            self._seen = self._walk.observe()[0]
        return self._seen, float(rewards[0]), bool(ended[0]), False, {}


class ExitVecEnv(VecEnv):  # type: ignore[misc]  # stable-baselines3 is untyped here
    """Many walks in one numpy step: what PPO trains on."""

    render_mode = None

    def __init__(self, rollouts: Rollouts, manifest: Manifest, walks: int, seed: int = 0) -> None:
        super().__init__(walks, *_spaces(rollouts, manifest))
        self.walk = Walk(rollouts, manifest, walks, seed)
        self._actions = np.zeros(walks, np.int64)
        self._rewards, self._steps = np.zeros(walks), np.zeros(walks, np.int64)
        self._start_s = time.monotonic()

    def reset(self) -> Vector:
        """Begin a completion in every walk."""
        self.walk.begin(np.ones(self.num_envs, bool))
        self._rewards[:], self._steps[:] = 0.0, 0
        return self.walk.observe()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[Vector, NDArray[np.float32], Booleans, list[dict[str, Any]]]:
        """Take them; walks that ended begin anew, with stable-baselines3's notes on the episode."""
        rewards, ended = self.walk.step(self._actions)
        self._rewards += rewards
        self._steps += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended.any():
            last = self.walk.observe()
            for i in np.flatnonzero(ended):
                episode = {"r": self._rewards[i], "l": int(self._steps[i]), "t": time.monotonic() - self._start_s}
                infos[i] = {"episode": episode, "terminal_observation": last[i]}
            self._rewards[ended], self._steps[ended] = 0.0, 0
            self.walk.begin(ended)
        return self.walk.observe(), rewards.astype(np.float32), ended, infos

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

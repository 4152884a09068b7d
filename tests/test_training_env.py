"""The environment environments stored tokens as the engine would have run them."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.training_fakes import MANIFEST, rollouts
from training.exits.environment import ExitVecEnv, ParallelEpisodes
from training.exits.rewards import COST_WEIGHT, Reward

GO_ON, EXIT = 0, 1
FULL = 7.0  # 6 layers and a head of 1


def play(episodes: ParallelEpisodes, actions: list[int]) -> list[float]:
    return [float(episodes.step(np.array([action]), Reward(), COST_WEIGHT)[0][0]) for action in actions]


def cost_of(reward: float, correct: int) -> float:
    return (correct - reward) * FULL / COST_WEIGHT


def test_the_first_tokens_layers_are_the_prompts_and_cost_nothing() -> None:
    episodes = ParallelEpisodes(rollouts([[(True, True)] * 2]), MANIFEST, 1)
    went_on, left = play(episodes, [GO_ON, EXIT])
    assert (cost_of(went_on, 0), cost_of(left, 1)) == pytest.approx((0.0, 1.0))


def test_going_on_pays_for_the_tokens_that_were_skipped() -> None:
    episodes = ParallelEpisodes(rollouts([[(True, True)] * 3]), MANIFEST, 1)
    rewards = play(episodes, [EXIT, EXIT, GO_ON, EXIT])
    assert cost_of(rewards[2], 0) == pytest.approx(2 * 1.5)  # two layers over two positions


def test_a_segment_that_ran_has_nothing_pending() -> None:
    episodes = ParallelEpisodes(rollouts([[(True, True)] * 3]), MANIFEST, 1)
    play(episodes, [EXIT, GO_ON])
    assert episodes.observe()[0, -2] == pytest.approx(np.log1p(2))  # the last segment lags by both tokens
    play(episodes, [EXIT])
    assert episodes.observe()[0, -2] == pytest.approx(np.log1p(1))  # the middle one by the new token alone


def test_going_on_from_the_last_early_exit_emits_the_full_models_token() -> None:
    episodes = ParallelEpisodes(rollouts([[(False, False)] * 2]), MANIFEST, 1)
    rewards = play(episodes, [GO_ON, GO_ON])
    assert cost_of(rewards[1], 1) == pytest.approx(1.0)


def test_an_early_wrong_token_earns_nothing() -> None:
    episodes = ParallelEpisodes(rollouts([[(False, True)] * 2]), MANIFEST, 1)
    assert play(episodes, [EXIT])[0] < 0


def test_an_episode_ends_with_its_completion() -> None:
    episodes = ParallelEpisodes(rollouts([[(True, True)] * 2]), MANIFEST, 1)
    ends = [bool(episodes.take(np.array([True])).ended[0]) for _ in range(2)]
    assert ends == [False, True]


def test_parallel_walks_do_not_see_each_other() -> None:
    episodes = ParallelEpisodes(rollouts([[(True, True)] * 3]), MANIFEST, 2)
    episodes.take(np.array([True, False]))
    assert episodes.observe()[:, 3:].tolist() == [
        pytest.approx([1, 0, np.log1p(2), 1 / 16]),
        pytest.approx([0, 1, np.log1p(1), 0]),
    ]


def test_the_vectorised_environment_takes_more_than_20_000_steps_a_second() -> None:
    env = ExitVecEnv(rollouts([[(True, False)] * 16] * 50, hidden_size=192), MANIFEST, 64, Reward())
    env.reset()
    actions = np.random.default_rng(0).integers(2, size=(100, 64))
    start_s = time.process_time()
    for row in actions:
        env.step(row)
    assert actions.size / (time.process_time() - start_s) > 20_000

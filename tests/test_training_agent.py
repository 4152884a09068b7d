"""PPO learns what there is to learn, and the exported network is the trained one."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from greencode_lsp.engine.policy import AGENT_FILE, AgentPolicy, ExitState, observation, observation_size
from greencode_lsp.engine.state import Vector
from greencode_lsp.errors import ModelDamagedError
from tests.training_fakes import MANIFEST, rollouts
from training import agent, probe
from training.preset import AgentOptions
from training.rewards import COST_WEIGHT

STEPS = 12_000


@pytest.fixture(scope="module")
def trained() -> Any:
    """An agent of a toy whose state tells whether the exit is right."""
    rng = np.random.default_rng(0)
    right = [[(bool(a), bool(b)) for a, b in rng.integers(2, size=(8, 2))] for _ in range(40)]
    stored = rollouts(right)
    start = probe.fit(stored, MANIFEST.exits, weighs_cost=True)
    return agent.train(stored, MANIFEST, AgentOptions(STEPS, seed=0), STEPS, start)


@pytest.fixture
def policy(trained: Any, tmp_path: Path) -> AgentPolicy:
    path = probe.save(agent.network_of(trained), tmp_path / AGENT_FILE, MANIFEST.exits)
    return AgentPolicy.load(path, MANIFEST.exits)


def state(hidden: Vector, exit_index: int = 0) -> ExitState:
    def no_head() -> Vector:
        raise AssertionError("the agent decides without the head")

    return ExitState(hidden, exit_index, MANIFEST.exits, pending=1, position=3, logits=no_head)


def test_the_exported_logit_less_the_threshold_is_the_log_odds_of_leaving(trained: Any, policy: AgentPolicy) -> None:
    hidden, threshold = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32), np.float32(2.5)
    seen = np.stack([np.append(observation(h, 1, 3, 1, 3), threshold) for h in hidden])
    with torch.no_grad():
        logits = trained.policy.get_distribution(torch.from_numpy(seen)).distribution.logits.numpy()
    ours = [agent.SHARPNESS * (policy.exit_logit(state(h, 1)) - threshold) for h in hidden]
    assert ours == pytest.approx((logits[:, 1] - logits[:, 0]).tolist(), abs=1e-4)


def test_many_observations_give_the_logits_that_each_gives_alone(policy: AgentPolicy) -> None:
    seen = np.random.default_rng(2).normal(size=(5, observation_size(3, 3))).astype(np.float32)
    assert policy.exit_logits(seen).tolist() == pytest.approx(
        [float(policy.exit_logits(row)) for row in seen], abs=1e-6
    )


def test_the_agent_leaves_where_the_exit_is_right_and_goes_on_where_it_is_wrong(policy: AgentPolicy) -> None:
    right, wrong = np.array([1, 0, 0], np.float32), np.array([0, 0, 0], np.float32)
    assert policy.exit_logit(state(right)) > -math.log(COST_WEIGHT) > policy.exit_logit(state(wrong))


def test_the_probes_logit_is_the_log_odds_and_the_starts_the_log_of_what_is_saved_over_the_risk() -> None:
    stored = rollouts([[(True, True), (True, False), (True, True), (False, True)]] * 100)  # 3 of 4 at either exit
    stored = dataclasses.replace(stored, hidden=np.zeros_like(stored.hidden), position=np.zeros_like(stored.position))
    seen = torch.from_numpy(np.stack([observation(np.zeros(3, np.float32), i, 3, 1, 0) for i in (0, 1)]))
    odds, price = (probe.fit(stored, MANIFEST.exits, weighs_cost=w)(seen).tolist() for w in (False, True))
    assert odds == pytest.approx([math.log(0.75 / 0.25)] * 2, abs=0.1)
    assert price == pytest.approx([math.log(4 / 6 / 0.25), math.log(2 / 6 / 0.25)], abs=0.1)


def test_the_same_seed_trains_the_same_agent() -> None:
    data, options = rollouts([[(True, False)] * 4] * 3), AgentOptions(5000, seed=5)
    first, second = (
        agent.network_of(agent.train(data, MANIFEST, options, 5000, probe.fit(data, MANIFEST.exits, seed=5))).tensors()
        for _ in range(2)
    )
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_actor_stands_still_while_the_critic_learns() -> None:
    data, options = rollouts([[(True, False)] * 4] * 3), AgentOptions(1, seed=0)
    start = probe.fit(data, MANIFEST.exits)
    before = start.tensors()
    after = agent.network_of(agent.learn_critic(agent.new_model(data, MANIFEST, options, start), 1)).tensors()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_an_agent_for_other_exits_is_refused(trained: Any, tmp_path: Path) -> None:
    path = probe.save(agent.network_of(trained), tmp_path / AGENT_FILE, MANIFEST.exits)
    with pytest.raises(ModelDamagedError, match="trained for exits"):
        AgentPolicy.load(path, (3, 6, 9))

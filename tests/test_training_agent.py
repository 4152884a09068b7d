"""PPO learns what there is to learn, and the exported network is the trained one."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from greencode_lsp.engine.policy import (
    AGENT_FILE,
    AgentPolicy,
    ExitState,
    GatedPolicy,
    observation,
    observation_size,
    policies_of,
)
from greencode_lsp.engine.state import Vector
from greencode_lsp.errors import ModelDamagedError
from tests.training_fakes import MANIFEST, rollouts
from training.exits import agent, probe
from training.exits.rewards import COST_WEIGHT
from training.preset import AgentOptions, PpoOptions, load_preset

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
    ours = [PpoOptions().sharpness * (policy.exit_logit(state(h, 1)) - threshold) for h in hidden]
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


def model_of_returns() -> Any:
    """A model over completions of different luck, where position and price tell most of what is still to come."""
    rng = np.random.default_rng(0)
    data = rollouts([[(bool(a), bool(b)) for a, b in rng.integers(2, size=(12, 2))] for _ in range(60)])
    return agent.new_model(data, MANIFEST, AgentOptions(1, seed=0), probe.fit(data, MANIFEST.exits))


def test_the_fitted_critic_explains_the_returns_and_the_actor_stands_still() -> None:
    model = model_of_returns()
    before = agent.network_of(model).tensors()
    assert agent.fit_critic(model, 20_000, AgentOptions(1, seed=0).ppo.critic_learning_rate) > 0.8
    after = agent.network_of(model).tensors()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_critic_that_was_not_fitted_explains_nothing() -> None:
    model = model_of_returns()
    assert agent.explained_variance(model, agent.monte_carlo(model, 5_000)) < 0.3


def test_returns_are_the_rewards_to_the_end_of_whole_episodes() -> None:
    data = rollouts([[(True, True)] * 4])
    model = agent.new_model(data, MANIFEST, AgentOptions(1, seed=0), probe.fit(data, MANIFEST.exits))
    returns = agent.monte_carlo(model, 64 * 40)
    first = returns.seen[:, -2] == returns.seen[:, -2].min()  # the position stands before the threshold
    assert returns.discounted[first].mean() > 2 * returns.discounted[~first].mean() > 0


def test_the_critic_keeps_its_own_rate_while_ppo_learns() -> None:
    model = model_of_returns()
    model.learn(1)
    actor, critic = model.policy.optimizer.param_groups
    assert (actor["lr"], critic["lr"]) == pytest.approx((3e-5, 3e-3))


def test_the_papers_settings_are_those_of_its_presets() -> None:
    data = rollouts([[(True, False)] * 4] * 3)
    for name in ("opt-2.7b", "llama-3.2-3b"):
        options = load_preset(name).agent
        model = agent.new_model(data, MANIFEST, options, probe.fit(data, MANIFEST.exits))
        network, ppo = agent.network_of(model), options.ppo
        assert (network.first.out_features, network.second.out_features) == (64, 64)
        assert (model.lr_schedule(1.0), model.lr_schedule(0.0)) == (5e-5, 0.0)
        assert (model.n_steps * model.n_envs, model.batch_size, model.n_epochs) == (4096, 512, 6)
        assert (model.gamma, model.gae_lambda, ppo.start, options.reward) == (0.99, 0.95, "random", "paper")


def test_a_rate_that_falls_falls_once_over_a_training_in_two_parts() -> None:
    data = rollouts([[(True, False)] * 4] * 3)
    paper = load_preset("opt-2.7b").agent
    options = dataclasses.replace(
        paper, ppo=dataclasses.replace(paper.ppo, steps_per_update=64, batch=32, environments=4)
    )
    rates: list[float] = []
    model: Any = probe.fit(data, MANIFEST.exits)
    for part in ((1.0, 0.5), (0.5, 0.0)):
        model = agent.train(data, MANIFEST, options, 128, model, part)
        rates += [model.lr_schedule(1.0), model.lr_schedule(0.0)]
    assert rates == pytest.approx([5e-5, 2.5e-5, 2.5e-5, 0.0])


def test_an_agent_for_other_exits_is_refused(trained: Any, tmp_path: Path) -> None:
    path = probe.save(agent.network_of(trained), tmp_path / AGENT_FILE, MANIFEST.exits)
    with pytest.raises(ModelDamagedError, match="trained for exits"):
        AgentPolicy.load(path, (3, 6, 9))


def test_a_gate_is_kept_with_the_agent_and_makes_two_policies_of_it(trained: Any, tmp_path: Path) -> None:
    path = probe.save(agent.network_of(trained), tmp_path / AGENT_FILE, MANIFEST.exits, gate=0.5)
    loaded = AgentPolicy.load(path, MANIFEST.exits)
    policies = policies_of(loaded)
    assert loaded.gate == 0.5
    assert policies["gate"] is loaded
    assert isinstance(policies["agent"], GatedPolicy)


def test_confidence_is_asked_where_the_agent_expects_enough_of_it(policy: AgentPolicy) -> None:
    asked: list[int] = []

    def logits() -> Vector:
        asked.append(1)
        return np.array([3.0, 0.0], np.float32)

    right, wrong = np.array([1, 0, 0], np.float32), np.array([0, 0, 0], np.float32)
    gated = GatedPolicy(policy, -math.log(COST_WEIGHT))
    assert gated.exit_logit(dataclasses.replace(state(wrong), logits=logits)) == -math.inf
    assert asked == []
    assert gated.exit_logit(dataclasses.replace(state(right), logits=logits)) == pytest.approx(3.0, abs=1e-4)


@pytest.mark.parametrize("gate", ["NaN", "Infinity", "[]", '"0.5"', "true", "{", "1e999", "1" + 400 * "0"])
def test_a_gate_that_is_no_number_is_refused(trained: Any, tmp_path: Path, gate: str) -> None:
    path = tmp_path / AGENT_FILE
    stated = {"exits": json.dumps(MANIFEST.exits), "gate": gate}
    save_file(agent.network_of(trained).tensors(), str(path), metadata=stated)
    with pytest.raises(ModelDamagedError):
        AgentPolicy.load(path, MANIFEST.exits)

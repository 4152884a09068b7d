"""PPO learns what there is to learn, and the exported network is the trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from greencode_lsp.engine.policy import AgentPolicy, ExitState, Vector, observation
from greencode_lsp.errors import ModelDamagedError
from tests.training_fakes import MANIFEST, rollouts
from training import agent
from training.preset import AgentOptions

STEPS = 12_000


@pytest.fixture(scope="module")
def trained() -> Any:
    """An agent of a toy whose state tells whether the exit is right."""
    rng = np.random.default_rng(0)
    right = [[(bool(a), bool(b)) for a, b in rng.integers(2, size=(8, 2))] for _ in range(40)]
    return agent.train(rollouts(right), MANIFEST, AgentOptions(STEPS, seed=0), STEPS)


@pytest.fixture
def policy(trained: Any, tmp_path: Path) -> AgentPolicy:
    return AgentPolicy.load(agent.export(trained, tmp_path, MANIFEST.exits), MANIFEST.exits)


def state(hidden: Vector, exit_index: int = 0) -> ExitState:
    def no_head() -> Vector:
        raise AssertionError("the agent decides without the head")

    return ExitState(hidden, exit_index, MANIFEST.exits, pending=1, position=3, logits=no_head)


def test_the_exported_logit_is_the_difference_of_the_trained_networks_action_logits(
    trained: Any, policy: AgentPolicy
) -> None:
    hidden = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    seen = np.stack([observation(h, 1, 3, 1, 3) for h in hidden])
    with torch.no_grad():
        logits = trained.policy.get_distribution(torch.from_numpy(seen)).distribution.logits.numpy()
    ours = [policy.exit_logit(state(h, 1)) for h in hidden]
    assert ours == pytest.approx((logits[:, 1] - logits[:, 0]).tolist(), abs=1e-5)


def test_the_agent_leaves_where_the_exit_is_right_and_goes_on_where_it_is_wrong(policy: AgentPolicy) -> None:
    right, wrong = np.array([1, 0, 0], np.float32), np.array([0, 0, 0], np.float32)
    assert policy.exit_logit(state(right)) > 0 > policy.exit_logit(state(wrong))


def test_the_same_seed_trains_the_same_agent() -> None:
    data, options = rollouts([[(True, False)] * 4] * 3), AgentOptions(1, seed=5)
    first, second = (agent.tensors_of(agent.train(data, MANIFEST, options, 1)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_an_agent_for_other_exits_is_refused(trained: Any, tmp_path: Path) -> None:
    path = agent.export(trained, tmp_path, MANIFEST.exits)
    with pytest.raises(ModelDamagedError, match="trained for exits"):
        AgentPolicy.load(path, (3, 6, 9))

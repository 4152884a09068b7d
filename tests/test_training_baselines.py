"""The agent's rivals on completions worked by hand: 2 + 2 + 2 layers, two positions cost 1.5 of one, a head 1."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from greencode_lsp.engine.policy import AgentPolicy
from tests.training_fakes import MANIFEST, rollouts
from training.exits import baselines, probe
from training.exits.baselines import Policy

FULL_OF_THREE = 2 * 6 + 3 * 1
"""Layer-equivalents of three tokens at full depth: the first one's layers are the prompt's."""
NEVER, FIRST = (False, False), (True, True)


def measured(right: list[Any], policy: Policy, threshold: float) -> tuple[float, float, float]:
    found = baselines.measure(rollouts(right), MANIFEST, policy, threshold)
    return found.agreement, found.layer_equivalents_ratio, found.mean_exit_layer


def test_a_fixed_exit_at_the_last_layer_is_full_depth() -> None:
    assert measured([[NEVER] * 3, [FIRST] * 5], baselines.fixed(MANIFEST), 5.5) == (1.0, 1.0, 6.0)


def test_a_fixed_exit_at_the_first_leaves_everything_pending() -> None:
    ratio = (2 * 2 + 3) / FULL_OF_THREE
    assert measured([[FIRST, FIRST, NEVER]], baselines.fixed(MANIFEST), 1.5) == pytest.approx(
        (2 / 3, ratio, 2), abs=1e-4
    )


def test_the_oracle_is_always_right_and_pays_for_catching_up() -> None:
    right = [[FIRST, FIRST, NEVER]]
    # the third token runs its own first two layers; then two segments over two positions: its own and the second's
    ratio = (2 * 2 + 2 * 2 * 1.5 + 3) / FULL_OF_THREE
    assert measured(right, baselines.oracle(rollouts(right)), 0.5) == pytest.approx((1, ratio, 10 / 3), abs=5e-3)


def test_confidence_pays_for_the_head_at_every_exit_it_does_not_take() -> None:
    right = [[FIRST, (False, True), NEVER]]
    policy = baselines.confidence(rollouts(right))
    without = dataclasses.replace(policy, needs_head=False)
    extra = measured(right, policy, 0.0)[1] - measured(right, without, 0.0)[1]
    assert extra == pytest.approx((0 + 1 + 2) / FULL_OF_THREE, abs=2e-4)


def test_completions_of_different_lengths_are_each_walked_once() -> None:
    right = [[FIRST], [NEVER] * 4, [FIRST] * 2]
    found = baselines.replay(rollouts(right), MANIFEST, baselines.oracle(rollouts(right)), 0.5)
    assert found.exit_index.tolist() == [0, 2, 2, 2, 2, 0, 0]
    assert found.layer_equivalents.tolist() == [1, 3 * 6 + 4, 2 + 2]


def test_the_cheapest_threshold_is_the_boldest_that_keeps_the_share() -> None:
    stored = rollouts([[FIRST] * 6 + [NEVER] * 2])
    odds = np.array([[9.0, 0], [8, 0], [7, 0], [6, 0], [4, 0], [3, 0], [5, 0], [1, 0]])
    policy = baselines.confidence(dataclasses.replace(stored, confidence=odds.astype(np.float32)))
    exact = dataclasses.replace(policy, thresholds=[9.5, 5.5, 2.0, 0.5])
    found = baselines.cheapest(stored, MANIFEST, exact, 0.87)
    assert found is not None
    assert (found.threshold, found.agreement) == (2.0, 0.875)


def test_a_policy_that_keeps_the_share_nowhere_has_no_figures() -> None:
    policy = dataclasses.replace(baselines.fixed(MANIFEST), thresholds=[1.5])
    assert baselines.cheapest(rollouts([[NEVER] * 3]), MANIFEST, policy, 0.9) is None


def test_a_networks_replay_is_shown_what_the_agent_is_shown() -> None:
    rng = np.random.default_rng(0)
    stored = rollouts([[(bool(a), bool(b)) for a, b in rng.integers(2, size=(6, 2))] for _ in range(40)])
    weights = probe.fit(stored, MANIFEST.exits)
    policy = baselines.network("probe", AgentPolicy(weights.tensors(), MANIFEST.exits), stored, MANIFEST)
    found = baselines.measure(stored, MANIFEST, policy, 0.0)
    best = baselines.measure(stored, MANIFEST, baselines.oracle(stored), 0.5)
    assert found == dataclasses.replace(best, policy="probe", threshold=0.0)  # the toy's state tells what is right


@pytest.mark.parametrize(
    ("ratios", "agent", "said"),
    [
        pytest.param({"ppo": 0.8, "start": 0.9, "probe": 0.8}, "ppo", "no better than probe", id="level"),
        pytest.param({"ppo": 0.8, "fixed": 0.7, "probe": 0.6}, "ppo", "no better than fixed and probe", id="two"),
        pytest.param({"ppo": 0.8, "start": 0.85, "probe": 0.9, "oracle": 0.5}, "ppo", "is the cheapest", id="won"),
        pytest.param({"ppo": 0.8, "start": 0.8, "probe": 0.9}, "start", "is the cheapest", id="PPO made it no cheaper"),
        pytest.param({"ppo": 0.8, "start": 0.7, "probe": 0.75}, "start", "is the cheapest", id="PPO made it worse"),
        pytest.param({"probe": 0.9}, "start", "at no threshold", id="none"),
    ],
)
def test_an_agent_no_better_than_its_rivals_is_said_to_be_so(ratios: dict[str, float], agent: str, said: str) -> None:
    rows = [{"policy": name, "wanted": 0.98, "layer_equivalents_ratio": ratio} for name, ratio in ratios.items()]
    assert baselines.cheapest_candidate(rows) == agent
    assert said in baselines.verdict(rows, agent, agent)


def test_an_agent_is_judged_as_it_is_served() -> None:
    ratios = {"ppo": 0.9, "start": 0.95, "confidence": 0.85, "gated": 0.8}
    rows = [{"policy": name, "wanted": 0.98, "layer_equivalents_ratio": ratio} for name, ratio in ratios.items()]
    assert "(ppo) is no better than confidence" in baselines.verdict(rows, "ppo", "ppo")
    assert "(ppo, gated) is the cheapest" in baselines.verdict(rows, "ppo", baselines.GATED)


class _Says(AgentPolicy):
    """An agent whose logit is the first number of the state."""

    def __init__(self) -> None:
        pass

    def exit_logits(self, observations: Any) -> Any:
        return np.asarray(observations)[..., 0]


def test_a_gated_policy_pays_for_no_head_where_the_gate_is_shut() -> None:
    stored = rollouts([[NEVER] * 3])
    hidden = np.zeros_like(np.asarray(stored.hidden))
    hidden[:, 0, 0] = 1.0  # open at the first exit alone
    stored = dataclasses.replace(stored, hidden=hidden, confidence=np.full((3, 2), -5, np.float32))
    found = baselines.measure(stored, MANIFEST, baselines.gated(_Says(), 0.5, stored), 0.0)
    assert found.layer_equivalents_ratio == pytest.approx((FULL_OF_THREE + 3) / FULL_OF_THREE, abs=2e-4)
    shut = baselines.measure(stored, MANIFEST, baselines.gated(_Says(), 1.5, stored), 0.0)
    assert shut.layer_equivalents_ratio == 1.0


def test_a_gated_policy_leaves_where_the_exit_is_sure() -> None:
    stored = rollouts([[FIRST] * 4])
    hidden = np.ones_like(np.asarray(stored.hidden))
    stored = dataclasses.replace(stored, hidden=hidden, confidence=np.full((4, 2), 5, np.float32))
    found = baselines.measure(stored, MANIFEST, baselines.gated(_Says(), 0.5, stored), 0.0)
    assert (found.agreement, found.mean_exit_layer) == (1.0, 2.0)


def test_a_gate_that_spares_nothing_is_none() -> None:
    stored = rollouts([[NEVER] * 3])
    network = probe.ExitNetwork(stored.hidden.shape[-1] + 4)
    assert baselines.best_gate(stored, MANIFEST, network, 0.0) == (None, [])


def test_the_gate_is_taken_where_the_share_wanted_costs_least(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = rollouts([[FIRST, NEVER] * 4])
    hidden = np.zeros_like(np.asarray(stored.hidden))
    hidden[::2, 0, 0] = 1.0  # the agent knows which tokens are ready
    odds = np.where(np.arange(8)[:, None] % 2, -5, 5) * np.ones((1, 2))
    stored = dataclasses.replace(stored, hidden=hidden, confidence=odds.astype(np.float32))
    monkeypatch.setattr(baselines, "AgentPolicy", lambda *_: _Says())
    network = probe.ExitNetwork(stored.hidden.shape[-1] + 4)
    gate, rows = baselines.best_gate(stored, MANIFEST, network, np.inf)
    assert gate is not None
    assert 0 <= gate < 1
    assert [row["agreement"] for row in rows] == [1.0] * len(baselines.AGREEMENTS)

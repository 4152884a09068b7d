"""A walk over recorded trees spends what the engine would, and is paid for what it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training_fakes import MANIFEST
from tests.training_trees import trees
from training.exits import contenders, counterfactual, ppo, signals, simulator
from training.exits.simulator import EMIT, GO, STOP, VERIFY, Simulator, Worth
from training.exits.trees import Trees

FREE = Worth(error_weight=0.5, dear=1e-9, cheap=1e-9)
RIGHT = [[(True, True)] * 3]
WRONG_FIRST = [[(False, True), (True, True), (True, True)]]


def begun(right: list[list[tuple[bool, bool]]], worth: Worth = FREE, uncached: int = 1) -> Simulator:
    sim = Simulator(trees(right), MANIFEST, 1, worth)
    sim.begin(np.ones(1, bool), np.zeros(1, np.int64), 0.5)
    sim.uncached[:] = sim.filled[:, 0] = uncached
    sim.totals.cost[:] = 0.0
    return sim


def take(sim: Simulator, *actions: int) -> list[float]:
    return [float(sim.step(np.array([action]))[0][0]) for action in actions]


def test_a_token_is_paid_for_when_it_is_shown() -> None:
    assert take(begun(RIGHT), EMIT, EMIT) == pytest.approx([0.0, 2.0], abs=1e-6)


def test_what_is_shown_after_an_error_is_charged_for_by_its_weight() -> None:
    sim = begun(WRONG_FIRST)
    assert take(sim, EMIT, EMIT, EMIT, EMIT) == pytest.approx([0.0, -1.0, 0.0, -1.0], abs=1e-6)
    assert (sim.totals.right[0], sim.totals.wrong[0]) == (0.0, 4.0)


def test_a_segment_runs_over_all_that_it_has_skipped_and_the_prompts_rest() -> None:
    sim = begun(RIGHT, uncached=2)
    take(sim, GO)
    assert sim.totals.cost[0] == pytest.approx(2 * 1.5)  # two layers over two positions of the prompt
    take(sim, EMIT, EMIT, EMIT, EMIT)
    assert sim.totals.cost[0] == pytest.approx(3.0 + 1 + 2 + 1 + 2)  # a head and two layers for each of the next
    before = sim.totals.cost[0]
    take(sim, GO)
    assert sim.totals.cost[0] - before == pytest.approx(2 * 1.5)  # its own position, and the token skipped before


def test_past_the_last_segment_the_token_is_picked_at_the_heads_cost() -> None:
    sim = begun(RIGHT)
    take(sim, GO, GO)
    assert sim.picked[0]
    assert sim.totals.cost[0] == pytest.approx(2 + 2 + 1)
    assert sim.allowed()[0].tolist() == [False, True, False, True]


def test_verifying_goes_back_to_the_first_token_that_is_not_the_full_models() -> None:
    sim = begun(WRONG_FIRST)
    take(sim, EMIT, EMIT, EMIT)
    reward = take(sim, VERIFY)[0]
    assert reward == pytest.approx(1.0, abs=1e-6)  # the wrong characters are taken back
    assert (sim.position[0], sim.totals.wrong[0], sim.drafts[0]) == (0, 0.0, 0)
    assert take(sim, EMIT) == pytest.approx([2.0], abs=1e-6)  # and the full model's token is picked


def test_verified_drafts_that_were_right_stay() -> None:
    sim = begun(RIGHT)
    take(sim, EMIT, EMIT, EMIT, VERIFY)
    assert (sim.position[0], sim.totals.right[0], sim.drafts[0]) == (1, 2.0, 0)
    assert sim.pending[0].tolist() == [0, 0, 0]


def test_a_stop_ends_the_completion_without_the_picked_token() -> None:
    sim = begun(RIGHT)
    take(sim, EMIT, EMIT, EMIT)
    _, ended = sim.step(np.array([STOP]))
    assert ended[0]
    assert sim.totals.right[0] == 2.0


def test_every_walk_ends_and_its_rewards_are_its_worth_less_its_price() -> None:
    rng = np.random.default_rng(0)
    case = trees([[tuple(map(bool, t)) for t in rng.integers(2, size=(5, 2))] for _ in range(20)])
    sim = Simulator(case, MANIFEST, 20, Worth())
    sim.begin(np.ones(20, bool), np.arange(20), 0.5)
    total, alive = -sim.worth.price(0.5) * sim.totals.cost / sim.full, np.ones(20, bool)
    for _ in range(400):
        rewards, ended = sim.step(np.where(sim.allowed(), rng.random((20, 4)), -1).argmax(axis=1))
        total = total + rewards * alive
        now = alive & ended
        worth = sim.totals.right - sim.worth.error_weight * sim.totals.wrong
        wanted = worth - sim.worth.price(0.5) * sim.totals.cost / sim.full
        assert total[now] == pytest.approx(wanted[now])
        alive &= ~ended
        sim.begin(ended, np.flatnonzero(ended), 0.5)
    assert not alive.any()


def test_the_oracle_shows_what_is_right_from_the_first_exit_that_says_it() -> None:
    tree = trees([[(False, True), (True, True), (True, False)]])
    nothing = np.zeros((3, 3, 1), np.float32)
    case = contenders.Case(tree, MANIFEST, FREE, nothing, nothing[:, :2, 0])
    found = contenders.walk(case, contenders.oracle, 0.5)
    assert (found.right[0], found.wrong[0], found.shown[0]) == (6.0, 0.0, 3)


def test_trees_are_stored_joined_and_taken_apart_again(tmp_path: Path) -> None:
    one, two = trees(RIGHT), trees(WRONG_FIRST)
    joined = Trees.joined([one, two, one])
    joined.save(tmp_path / "trees.npz")
    taken = Trees.load(tmp_path / "trees.npz").take(np.array([1]))
    assert np.array_equal(taken.child, two.child)
    assert np.array_equal(taken.shown, two.shown)
    assert joined.roots.tolist() == [0, 3, 6]


def learnable() -> Simulator:
    """States tell which exit is right, and where every exit is wrong the full model alone says so."""
    rng = np.random.default_rng(3)
    right = [[tuple(map(bool, t)) for t in rng.integers(2, size=(4, 2))] for _ in range(64)]
    return Simulator(trees(right), MANIFEST, 64, Worth(dear=0.2, cheap=0.2), 0)


def fitted_start(sim: Simulator) -> tuple[counterfactual.ActionNetwork, contenders.Case, contenders.Decide]:
    case = contenders.Case(sim.trees, MANIFEST, sim.worth, sim.trees.hidden, np.zeros((len(sim.trees), 2)))
    base = contenders.Combination("fixed", 0, 99, 0.0).decide(case.exit_logits)
    network = counterfactual.ActionNetwork(simulator.observation_length(2, 3))
    counterfactual.fit(network, [counterfactual.gather(sim, case.simulator(4 * 64), base, 12, 0)])
    return network, case, base


def test_the_supervised_start_learns_what_each_action_is_worth() -> None:
    network, case, base = fitted_start(learnable())
    ours = contenders.walk(case, network.decide(), 0.5).reward.mean()
    assert ours > contenders.walk(case, base, 0.5).reward.mean() + 1


def test_the_critic_knows_the_returns_before_ppo_begins_and_the_actor_stays_near_its_start() -> None:
    sim = learnable()
    start, _, _ = fitted_start(sim)
    options = ppo.Options(
        steps=4096, steps_per_update=1024, batch=256, critic_steps=40_000, critic_learning_rate=3e-3, anchor=100.0
    )
    trained, explained = ppo.train(sim, start, options)
    assert explained > 0.8
    for before, after in zip(start.parameters(), trained.parameters(), strict=True):
        assert float((before - after).detach().abs().max()) < 0.05


def test_what_is_not_allowed_is_never_taken() -> None:
    sim = learnable()
    env = ppo.SimulatorEnv(sim)
    network = counterfactual.ActionNetwork(simulator.observation_length(2, 3))

    seen = torch.from_numpy(env.reset())
    logits = ppo.masked(network, seen)
    assert bool((logits[:, VERIFY] < -1e8).all())
    assert bool((logits[:, [GO, EMIT, STOP]] > -1e8).all())


def test_signals_that_an_agent_learns_from_are_of_maps_fitted_on_other_packages(tmp_path: Path) -> None:
    tree = trees([[(True, False)] * 3, [(False, True)] * 3, [(True, True)] * 3])
    found = signals.crossed(tmp_path / "crossed.npy", tree)
    others = signals.fit(tree.take(np.array([1, 2]))).of(tree.take(np.array([0])))
    assert found[:3] == pytest.approx(others, abs=1e-5)

"""Completing over the tree of a prompt is a generation of the engine: same tokens, same exits, same work."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.policy import AgentPolicy, GatedPolicy, observation_size
from greencode_lsp.models.manifest import Manifest, write_manifest
from greencode_lsp.records import DecodeConfig, FixedControl, Step
from tests import reference
from tests.exit_packs import pack_for
from training.evaluation.calibrate import ThresholdCandidate
from training.exits.replay import ORACLE, ReplayedCompletion, Replayer, Tree, shown_steps
from training.exits.rollout import emit

EXITS = reference.EXITS
NEW_TOKENS = 9
PROMPTS = [[5, 6, 7, 8], [1], list(range(20, 60))]
OTHER_ID = 197
"""Begins no prompt."""
SHORTLIST = np.arange(0, reference.VOCAB, 2)
THRESHOLDS = (-2.0, -1.0, -0.5, -0.2, 0.0, 0.2, 0.5, 1.0, 2.0, float("inf"))


def random_agent(hidden_size: int) -> AgentPolicy:
    rng = np.random.default_rng(3)
    shapes = {"w1": (8, observation_size(hidden_size, len(EXITS))), "b1": (8,), "w2": (8, 8), "b2": (8,), "w3": (8,)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return AgentPolicy(tensors | {"b3": np.zeros(1, np.float32)}, EXITS)


@pytest.fixture(scope="module", params=["llama", "opt"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = reference.llama() if request.param == "llama" else reference.opt()
    where = reference.save(made, tmp_path_factory.mktemp(request.param))
    curve = {1: 1.0, 2: 1.3, 4: 1.7, 8: 2.9}
    write_manifest(where, Manifest("random", request.param, EXITS, cost_curve=curve, head_layers=1.5))
    return where


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    engine = load_engine(folder, "cpu")
    engine.policies["agent"] = agent = random_agent(64)
    engine.policies["gated"] = GatedPolicy(agent, 0.0)
    return engine


@pytest.fixture(scope="module")
def trees(folder: Path, engine: Engine) -> list[Tree]:
    return [Tree(engine, Replayer(engine.model, EXITS), prompt) for prompt in PROMPTS]


def assert_equal(
    walked: ReplayedCompletion, engine: Engine, prompt: list[int], config: DecodeConfig, stop: frozenset[int]
) -> None:
    engine.sequences.forget()  # nothing of the prompt is cached
    steps = emit(engine, prompt, config, NEW_TOKENS, stop)
    assert walked.steps == tuple(steps), config
    counted, booked = (dataclasses.replace(work, elapsed_ms=0.0) for work in (engine.work, walked.work))
    assert booked == counted, config


MODES = ((False, False), (True, False), (False, True))
"""Verified, with copies."""
CONFIGS = [
    dataclasses.replace(config, batch_invariant=True)
    for config in (
        *(
            DecodeConfig(policy, t, verified, copies)
            for policy in ("agent", "confidence", "gated")
            for t in THRESHOLDS
            for verified, copies in MODES
        ),
        *(DecodeConfig("fixed", e - 0.5, verified, copies) for e in EXITS for verified, copies in MODES),
        DecodeConfig("never"),
        DecodeConfig("never", self_speculative=True),
    )
]


@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_a_walk_is_the_engines_generation(engine: Engine, trees: list[Tree], index: int) -> None:
    for config in CONFIGS:
        assert_equal(trees[index].complete(config, NEW_TOKENS), engine, PROMPTS[index], config, frozenset())


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A published model whose pack has a shortlist alone."""
    folder = tmp_path_factory.mktemp("public")
    reference.llama().save_pretrained(folder)
    pack = pack_for(folder, folder / "pack", exits=EXITS[-1:], kinds=(), shortlist=SHORTLIST)
    engine = load_engine(folder, "cpu", pack=pack)
    engine.use_costs({1: 1.0, 2: 1.3, 4: 1.7, 8: 2.9}, 1.5, 0.4)
    return engine


@pytest.mark.parametrize("threshold", [-np.inf, -1.0, -0.5, 0.0, 1e9])
def test_a_walk_by_the_shortlist_is_the_engines_generation(public: Engine, threshold: float) -> None:
    """Copies among what it says, and those that it is unsure of."""
    prompt = [5, 17, 101, 3, 42] * 6
    config = DecodeConfig("shortlist", copies=True, batch_invariant=True, shortlist=threshold)
    walked = Tree(public, Replayer(public.model, EXITS[-1:]), prompt).complete(config, NEW_TOKENS)
    assert max(walked.work.shortlist_runs) > 1
    assert bool(walked.work.head_runs) == (threshold != -np.inf)
    assert_equal(walked, public, prompt, config, frozenset())


def test_a_walk_ends_at_a_stop_id_as_the_engine_does(engine: Engine, trees: list[Tree]) -> None:
    for config in CONFIGS:
        stop = frozenset(trees[0].complete(config, NEW_TOKENS).token_ids[4:5])
        assert_equal(trees[0].complete(config, NEW_TOKENS, stop), engine, PROMPTS[0], config, stop)


def test_policies_leave_at_different_layers_so_that_the_comparison_compares(trees: list[Tree]) -> None:
    completions = [trees[0].complete(config, NEW_TOKENS) for config in CONFIGS]
    assert len({tuple(step.exit_layer for step in completion.steps) for completion in completions}) > 10
    assert len({completion.token_ids for completion in completions}) > 5


def test_agreement_is_with_the_full_model_after_the_same_tokens(engine: Engine, trees: list[Tree]) -> None:
    completion = trees[2].complete(DecodeConfig("fixed", EXITS[0] - 0.5), NEW_TOKENS)
    full = engine.full_depth_argmax(PROMPTS[2], completion.token_ids, FixedControl())
    assert completion.agrees == tuple(a == b for a, b in zip(completion.token_ids, full, strict=True))


def test_full_depth_reads_no_exit(trees: list[Tree]) -> None:
    work = trees[2].complete(ThresholdCandidate("never", 0.0).config(copies=True), NEW_TOKENS).work
    assert work.exit_checks == 0
    assert trees[2].complete(DecodeConfig("agent", 0.0), NEW_TOKENS).work.exit_checks


def test_what_is_shown_ends_where_the_default_preference_ends_it() -> None:
    sure, doubtful = Step(1, 4, confidence=0.9), Step(1, 4, confidence=0.02)
    assert shown_steps([sure, sure, sure], ()) == 3
    assert shown_steps([sure, doubtful, sure], ()) == 1


def test_the_oracle_says_what_the_full_model_says_and_costs_less(trees: list[Tree]) -> None:
    oracle = trees[2].complete(DecodeConfig(ORACLE, 0.0), NEW_TOKENS)
    full = trees[2].complete(DecodeConfig("never"), NEW_TOKENS)
    assert oracle.token_ids == full.token_ids
    assert oracle.work.layer_equivalents <= full.work.layer_equivalents


def test_a_walk_at_the_last_position_ends_with_the_model(engine: Engine, folder: Path) -> None:
    prompt = [int(i) for i in torch.arange(engine.max_positions - 4) % 190]
    tree = Tree(engine, Replayer(engine.model, EXITS), prompt)
    for config in (CONFIGS[-2], *CONFIGS[12:15]):
        assert_equal(tree.complete(config, NEW_TOKENS), engine, prompt, config, frozenset())

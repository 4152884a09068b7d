"""I1 and I2: caches hold what the full model would have computed; pending covers what a segment has missed."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from greencode_lsp.engine.cost import WorkLog
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.policy import ExitState
from greencode_lsp.engine.state import CHUNK_POSITIONS, DecoderState
from greencode_lsp.errors import CancelledError, EngineError, SettingError
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import reference

PROMPT = [5, 17, 101, 3, 42, 42, 7, 190, 11]


class Coin:
    """Leaves at random exits, the same ones for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)

    def exit_logit(self, state: ExitState) -> float:
        return self._rng.choice([-1.0, 1.0])


COIN = DecodeConfig(policy="coin", threshold=0.0)


@pytest.fixture(scope="module", params=["llama", "opt"])
def folder(request: Any, tmp_path_factory: Any) -> Any:
    return reference.save(getattr(reference, request.param)(), tmp_path_factory.mktemp("model"))


@pytest.fixture(params=["onnx", "torch"])
def backend(request: Any) -> Any:
    return request.param


@pytest.fixture
def engine(folder: Any, backend: Any) -> Engine:
    engine = load_engine(folder, "cpu", "float32", backend)
    engine.policies["coin"] = Coin()
    return engine


def run(engine: Engine, prompt: list[int], count: int, config: DecodeConfig = COIN) -> list[int]:
    return [s.token_id for s in engine.generate(prompt, FixedControl(config), max_new_tokens=count)]


def assert_pending_covers_the_gap(state: DecoderState) -> None:
    before = len(state)
    for index, filled in enumerate(state.filled):
        assert filled <= before
        assert state.available(index) == before
        before = filled


def test_pending_covers_exactly_the_positions_a_segment_has_not_run(engine: Engine) -> None:
    for _ in engine.generate(PROMPT, FixedControl(COIN), max_new_tokens=24):
        assert_pending_covers_the_gap(engine.state)


@pytest.mark.parametrize("length", [0, 1, 8, 9, 12, 20, 32])
def test_cropping_keeps_pending_on_the_gap(engine: Engine, length: int) -> None:
    run(engine, PROMPT, 24)
    before = list(engine.state.ids)
    engine.state.crop(length)
    assert engine.state.ids == before[:length]
    assert_pending_covers_the_gap(engine.state)


def test_cropping_below_nothing_leaves_nothing(engine: Engine) -> None:
    run(engine, PROMPT, 4)
    engine.state.crop(-1)
    assert (engine.state.ids, set(engine.state.filled)) == ([], {0})


@pytest.mark.parametrize("token_id", [-1, 1 << 30])
def test_ids_that_the_model_does_not_know_do_not_reach_it(engine: Engine, token_id: int) -> None:
    with pytest.raises(EngineError, match="does not know"):
        run(engine, [*PROMPT, token_id], 1)


def test_states_after_early_exits_are_what_full_depth_computes_for_the_same_ids(
    folder: Any, engine: Engine, backend: Any
) -> None:
    """I1: every segment's outputs, which later layers and later positions are computed from."""
    tokens = run(engine, PROMPT, 24)
    full = load_engine(folder, "cpu", "float32", backend)
    full.full_depth_argmax(PROMPT, tokens, FixedControl())
    for index, filled in enumerate(engine.state.filled):
        both = min(filled, full.state.filled[index])
        early, deep = (e.state.runner.normalised(index, 0, both) for e in (engine, full))
        np.testing.assert_allclose(early, deep, atol=1e-4, rtol=1e-4)


def test_what_full_depth_says_after_early_exits_is_what_it_says_without_them(
    folder: Any, engine: Engine, backend: Any
) -> None:
    """I1, keys and values: a catching-up run over the emitted ids equals a fresh one."""
    ids = PROMPT + run(engine, PROMPT, 24)
    fresh = load_engine(folder, "cpu", "float32", backend)
    fresh.state.reuse(ids)
    engine.state.crop(len(ids) - 2)
    engine.state.feed(ids[-2:])
    caught_up, expected = (e.state.full_depth_logits(2, lambda: False) for e in (engine, fresh))
    np.testing.assert_allclose(caught_up, expected, atol=1e-3, rtol=1e-3)


def test_some_tokens_left_early_and_some_did_not(engine: Engine) -> None:
    layers = {s.exit_layer for s in engine.generate(PROMPT, FixedControl(COIN), max_new_tokens=24)}
    assert layers == set(reference.EXITS)


def test_a_reused_prefix_changes_no_token(folder: Any, engine: Engine) -> None:
    run(engine, PROMPT, 24)
    edited = [*PROMPT[:6], 99, *PROMPT[6:], 4, 4]
    fresh = load_engine(folder, "cpu", "float32")
    assert run(engine, edited, 16, DecodeConfig()) == run(fresh, edited, 16, DecodeConfig())
    assert engine.work.reused_tokens == 6


def test_the_same_prompt_again_reuses_all_but_its_last_id(engine: Engine) -> None:
    run(engine, PROMPT, 4)
    run(engine, PROMPT, 4)
    assert engine.work.reused_tokens == len(PROMPT) - 1


def test_typing_on_reuses_what_was_typed_before(engine: Engine) -> None:
    tokens = run(engine, PROMPT, 4, DecodeConfig())
    run(engine, PROMPT + tokens, 4, DecodeConfig())
    assert engine.work.reused_tokens == len(PROMPT) + 3


def test_a_long_prompt_in_chunks_equals_transformers(tmp_path: Any) -> None:
    model = reference.llama()
    prompt = [random.Random(3).randrange(reference.VOCAB) for _ in range(CHUNK_POSITIONS + 50)]
    engine = load_engine(reference.save(model, tmp_path), "cpu", "float32")
    assert run(engine, prompt, 16, DecodeConfig()) == reference.reference_generate(model, prompt, 16)


def test_generation_stops_at_the_last_position(engine: Engine) -> None:
    prompt = [1] * (engine.max_positions - 5)
    assert len(run(engine, prompt, 64, DecodeConfig())) == 5


@pytest.mark.parametrize("length", [0, 256, 300])
def test_a_prompt_that_does_not_fit_is_one_clear_sentence(engine: Engine, length: int) -> None:
    with pytest.raises(SettingError, match=f"{length} tokens.*maxPromptTokens"):
        run(engine, [1] * length, 4)


def test_a_stop_id_ends_the_generation_and_is_not_yielded(engine: Engine) -> None:
    tokens = run(engine, PROMPT, 12, DecodeConfig())
    stop = tokens[5]
    steps = engine.generate(PROMPT, FixedControl(), max_new_tokens=12, stop_ids=frozenset({stop}))
    assert [s.token_id for s in steps] == tokens[: tokens.index(stop)]


def test_a_constraint_restricts_the_tokens_it_names(engine: Engine) -> None:
    steps = engine.generate(
        PROMPT, FixedControl(), max_new_tokens=4, constraint=lambda emitted: [8, 9] if len(emitted) < 2 else None
    )
    tokens = [s.token_id for s in steps]
    assert {*tokens[:2]} <= {8, 9}


class CancelAfter:
    """Answers the n-th question and all later ones with yes."""

    def __init__(self, questions: int, config: DecodeConfig) -> None:
        self.questions, self._config = questions, config

    def config(self) -> DecodeConfig:
        return self._config

    def cancelled(self) -> bool:
        self.questions -= 1
        return self.questions < 0


@pytest.mark.parametrize("questions", [0, 1, 2, 3, 7, 11])
@pytest.mark.parametrize("verified", [False, True], ids=["lossy", "verified"])
def test_a_cancel_is_heard_at_the_next_segment_and_harms_nothing(
    folder: Any, engine: Engine, questions: int, verified: bool
) -> None:
    control = CancelAfter(questions, DecodeConfig(policy="coin", threshold=0.0, self_speculative=verified))
    with pytest.raises(CancelledError):
        list(engine.generate(PROMPT, control, max_new_tokens=24))
    assert control.questions == -1
    assert_pending_covers_the_gap(engine.state)
    fresh = load_engine(folder, "cpu", "float32")
    assert run(engine, PROMPT, 16, DecodeConfig()) == run(fresh, PROMPT, 16, DecodeConfig())


def test_a_changed_preference_acts_on_the_next_token(engine: Engine) -> None:
    class Live:
        fixed = DecodeConfig(policy="fixed", threshold=0.5)
        current = fixed

        def config(self) -> DecodeConfig:
            return self.current

        def cancelled(self) -> bool:
            return False

    control, layers = Live(), []
    for step in engine.generate(PROMPT, control, max_new_tokens=6):
        layers.append(step.exit_layer)
        if len(layers) == 3:
            control.current = DecodeConfig()
    assert layers == [1, 1, 1, 4, 4, 4]


def test_work_counts_layers_of_positions(engine: Engine) -> None:
    run(engine, PROMPT, 5, DecodeConfig())
    work = engine.work
    assert (work.prompt_tokens, work.emitted_tokens, work.head_positions) == (9, 5, 5)
    assert work.prefill_layer_positions == 4 * 9
    assert work.decode_runs == ((0, 1), (1, 1), (2, 1)) * 4
    assert work.layer_equivalents_ratio == 1.0


def test_drafts_of_the_first_token_cost_what_they_add_to_the_prompt(engine: Engine) -> None:
    log = WorkLog(replace(engine.manifest, cost_curve={1: 1.0, 9: 5.0, 11: 6.0}), 9, 0)
    log.count_run(0, 11, decoded=2)
    work = log.finish(0)
    assert (work.decode_runs, work.mixed_runs) == ((), ((0, 9, 2),))
    assert work.layer_equivalents == pytest.approx(engine.exits[0] * (6.0 - 5.0))


def test_layers_that_an_earlier_completion_left_out_are_charged_to_the_one_that_runs_them(engine: Engine) -> None:
    """Full depth would have run them with their tokens; the last token it had not run either."""
    early = run(engine, PROMPT, 5, DecodeConfig(policy="fixed", threshold=0.5))
    run(engine, [*PROMPT, *early, 7], 1, DecodeConfig())
    work = engine.work
    assert work.mixed_runs == ((1, 11, 4), (2, 11, 4))
    assert work.prefill_layer_positions == 1 * 2 + 1 * 11 + 2 * 11


def test_two_completions_at_full_depth_save_nothing_and_lose_nothing(engine: Engine) -> None:
    first = run(engine, PROMPT, 5, DecodeConfig())
    run(engine, [*PROMPT, *first, 7], 3, DecodeConfig())
    assert engine.work.layer_equivalents_ratio == 1.0


def test_no_draft_goes_beyond_the_tokens_that_are_wanted(engine: Engine) -> None:
    run(engine, PROMPT, 2, DecodeConfig(policy="fixed", threshold=0.5, self_speculative=True))
    assert [positions for segment, _, positions in engine.work.mixed_runs if segment == 1] == [1]


def test_a_check_is_counted_where_an_exit_is_asked(engine: Engine) -> None:
    run(engine, PROMPT, 3, DecodeConfig())
    assert engine.work.exit_checks == 0
    run(engine, PROMPT, 3, DecodeConfig(policy="fixed", threshold=9.0))
    assert engine.work.exit_checks == 3 * 2


def test_leaving_early_costs_fewer_layer_equivalents(engine: Engine) -> None:
    run(engine, PROMPT, 5, DecodeConfig(policy="fixed", threshold=0.5))
    assert engine.work.layer_equivalents_ratio == pytest.approx(1 / 4)
    assert engine.work.pending_positions == 9 + 5


def test_full_depth_argmax_is_what_full_depth_would_have_emitted(engine: Engine) -> None:
    tokens = run(engine, PROMPT, 12, DecodeConfig())
    assert engine.full_depth_argmax(PROMPT, tokens, FixedControl()) == tokens


def test_an_audit_leaves_its_work_behind(engine: Engine) -> None:
    tokens = [step.token_id for step in engine.generate(PROMPT, FixedControl(), max_new_tokens=5)]
    engine.full_depth_argmax(PROMPT, tokens, FixedControl())
    work = engine.work
    assert (work.prompt_tokens, work.reused_tokens) == (len(PROMPT) + 4, len(PROMPT) - 1)
    assert (work.prefill_layer_positions, work.head_positions) == (engine.layers * 5, 5)


def test_exit_states_are_the_normed_hidden_states(engine: Engine) -> None:
    seen: list[ExitState] = []

    class Look:
        def exit_logit(self, state: ExitState) -> float:
            seen.append(state)
            return -np.inf

    engine.policies["look"] = Look()
    run(engine, PROMPT, 3, DecodeConfig(policy="look", threshold=0.0))
    assert [(s.exit_index, s.position) for s in seen] == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    assert {s.pending for s in seen} == {1}
    assert all(s.hidden.shape == (64,) for s in seen)

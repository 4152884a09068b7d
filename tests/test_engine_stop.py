"""STOP: the engine ends a completion before a token that its stop policy would not show, whatever decodes it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.stop import StopState
from greencode_lsp.records import DecodeConfig, FixedControl, Step
from tests import reference

PROMPT = [3, 1, 4, 1, 5]
METHODS = {
    "full depth": DecodeConfig(),
    "early": DecodeConfig("fixed", 0.5),
    "self-speculative": DecodeConfig("fixed", 0.5, self_speculative=True),
}


class Recorded:
    """Stops before the token at one position; remembers what it was shown."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.seen: list[StopState] = []
        self.hidden: list[np.ndarray[Any, Any]] = []

    def stop_logit(self, state: StopState) -> float:
        self.seen.append(state)
        self.hidden.append(state.picked.hidden().copy())
        return 1.0 if state.position == self.position else -1.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: Any) -> Engine:
    return load_engine(reference.save(reference.llama(), tmp_path_factory.mktemp("model")), "cpu", "float32")


def stopping(config: DecodeConfig, name: str, threshold: float) -> DecodeConfig:
    return DecodeConfig(config.policy, config.threshold, config.self_speculative, stop=name, stop_threshold=threshold)


def run(engine: Engine, config: DecodeConfig, line_ends: frozenset[int] = frozenset()) -> list[Step]:
    return list(engine.generate(PROMPT, FixedControl(config), max_new_tokens=12, likely_last_ids=line_ends))


@pytest.mark.parametrize("config", METHODS.values(), ids=list(METHODS))
def test_a_completion_ends_before_the_token_that_its_policy_stops_at(engine: Engine, config: DecodeConfig) -> None:
    engine.stops["recorded"] = Recorded(4)
    whole = run(engine, config)
    ended = run(engine, stopping(config, "recorded", 0.0))
    assert ended == whole[:5]
    assert [step.is_stop for step in ended] == [False] * 4 + [True]


@pytest.mark.parametrize("config", METHODS.values(), ids=list(METHODS))
def test_a_stop_policy_is_shown_the_state_that_its_token_was_picked_from(engine: Engine, config: DecodeConfig) -> None:
    engine.stops["recorded"] = recorded = Recorded(-1)
    steps = run(engine, stopping(config, "recorded", 0.0))
    heads = [int(engine.model.head(hidden[None]).argmax()) for hidden in recorded.hidden]
    assert heads == [step.token_id for step in steps]


def test_the_probability_of_a_line_is_that_of_its_tokens_since_the_last_line_end(engine: Engine) -> None:
    engine.stops["recorded"] = recorded = Recorded(-1)
    whole = run(engine, DecodeConfig())
    line_end = whole[2].token_id
    steps = run(engine, stopping(DecodeConfig(), "recorded", 0.0), frozenset({line_end}))
    since = next(i for i, step in enumerate(steps) if step.token_id == line_end) + 1
    logs = [math.log(step.confidence) for step in steps]
    assert recorded.seen[since - 1].line_log_confidence == pytest.approx(sum(logs[:since]))
    assert recorded.seen[since].line_log_confidence == pytest.approx(logs[since])
    assert (recorded.seen[since - 1].line_tokens, recorded.seen[since].line_tokens) == (since, 1)


def test_a_line_ends_where_its_probability_falls_below_the_threshold(engine: Engine) -> None:
    whole = run(engine, DecodeConfig())
    threshold = -sum(math.log(step.confidence) for step in whole[:6]) - 1e-6
    assert len(run(engine, stopping(DecodeConfig(), "confidence", threshold))) == 6

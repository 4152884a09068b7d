"""Where lossless decoding and full depth differ is seen, and how near the tie was."""

from __future__ import annotations

from pathlib import Path

import pytest

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from tests import reference
from training.evaluation.lossless import gap, measure

PROMPTS = [[1 + i * seed % (reference.VOCAB - 1) for i in range(40)] for seed in (3, 5, 7)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder: Path = reference.save(reference.llama(), tmp_path_factory.mktemp("model"))
    return load_engine(folder, "cpu", "int8")


def test_at_eight_bits_nothing_differs(engine: Engine) -> None:
    assert measure(engine, PROMPTS)["mismatches"] == 0


def test_equal_tokens_have_no_gap(engine: Engine) -> None:
    assert gap(engine, PROMPTS[0], [1, 2], [1, 2]) is None


def test_a_gap_is_that_of_the_first_token_that_differs(engine: Engine) -> None:
    prompt = PROMPTS[0]
    engine.state.crop(0)
    engine.state.feed([*prompt, 4])
    logits = engine.state.full_depth_logits(1, lambda: False, batch_invariant=True)[0]
    assert gap(engine, prompt, [4, 9, 1], [4, 2, 8]) == pytest.approx(abs(float(logits[2] - logits[9])))

"""Lines through another engine: the same prompts, healing and scores, whatever says what may follow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import reference
from tests.test_prompt_fim import qwen
from training.data.cursors import SourcePosition
from training.data.heldout import HeldOutLine, Pointer
from training.evaluation.peer_lines import LINE_TOKENS, EngineLogits, score

TEXT = "def f(items):\n    return append_items(items)\n\nx = 1\n"


class Knows:
    """Says what stands in a text behind the line that a prompt ends with."""

    def __init__(self, text: str, *, ends: bool = False) -> None:
        self._text, self._ends, self.asked = text, ends, 0

    def after(self, ids: Sequence[int]) -> Any:
        self.asked += 1
        fim = qwen().fim({})
        line = qwen().decode(list(ids)[list(ids).index(fim.ids["middle"]) + 1 :])
        rest = self._text[len(line) :]
        logits = np.zeros(qwen().vocab_size, np.float32)
        following = qwen().encode(rest)
        logits[fim.ids["end"] if self._ends or not following else following[0]] = 9
        fits = [i for i in range(qwen().vocab_size) if rest.encode().startswith(qwen().token_bytes(i) or b"?")]
        logits[fits] += [len(qwen().token_bytes(i)) / 9 for i in fits]
        return logits


def line_at(column: int) -> HeldOutLine:
    start = TEXT.index("    return")
    pointer = Pointer("p", "1", "MIT", "src/a.py", "", 2, column + 1)
    return HeldOutLine(pointer, SourcePosition(TEXT, start + column))


@pytest.mark.parametrize("column", [4, 7, 13, 20])
def test_a_model_that_knows_the_line_scores_one_wherever_the_cursor_stands(column: int) -> None:
    line = "    return append_items(items)\n"
    found = score(Knows(line), qwen(), [line_at(column)], "python")
    assert (found["lines"], found["exact_match"], found["edit_similarity"]) == (1, 1.0, 1.0)


def test_a_model_that_ends_at_once_scores_nothing() -> None:
    model = Knows("    return append_items(items)\n", ends=True)
    assert score(model, qwen(), [line_at(4)], "python", healed=False)["exact_match"] == 0.0
    assert model.asked == 1


def test_a_model_that_never_ends_its_line_is_stopped() -> None:
    model = Knows("    return append_items(items)" + "+ items" * 99)
    assert score(model, qwen(), [line_at(4)], "python")["exact_match"] == 0.0
    assert model.asked <= LINE_TOKENS + len("    ")  # what is healed may be spelled by so many


def test_the_engine_says_the_same_whatever_it_was_asked_before(tmp_path: Path) -> None:
    folder = reference.save(reference.llama(), tmp_path / "model")
    model, ids = EngineLogits(folder, "float32"), [5, 9, 2, 7]
    model.after([5, 9, 2, 8, 1])
    np.testing.assert_allclose(model.after(ids), EngineLogits(folder, "float32").after(ids), rtol=0, atol=1e-4)

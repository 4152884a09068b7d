"""What a kept character costs: counted to the first error, on the same cursors, by the server's own pipeline."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from greencode_lsp.records import DecodeConfig
from greencode_lsp.settings import Settings
from tests.fakes import FakeEngine, backend, meter, tokenizer
from training.data.cursors import SourcePosition
from training.data.heldout import HeldOutLine, Pointer
from training.evaluation.kept_study import (
    FULL_DEPTH,
    KeptCharacters,
    cells,
    kept_characters,
    score,
    summary,
    to_markdown,
)

TEXT = "tally = tally_of(rows)\nprint(tally)\n"
KEPT = KeptCharacters("p", 10, 5, 2.0, "modelled")


def line() -> HeldOutLine:
    position = SourcePosition(TEXT, TEXT.index("= ") + 2)
    return HeldOutLine(Pointer("p", "1", "MIT", "p/main.py", "", 1, 1), position)


@pytest.mark.parametrize(
    ("shown", "kept"), [("rows", 4), ("rox", 2), ("xrows", 0), ("", 0), ("rows and more", 4)], ids=str
)
def test_characters_are_kept_up_to_the_first_error(shown: str, kept: int) -> None:
    assert kept_characters(shown, "rows") == kept


@pytest.mark.parametrize("name", [FULL_DEPTH, "accuracy", "balanced", "energy"])
def test_a_cursor_is_completed_by_the_servers_pipeline(name: str) -> None:
    engine = FakeEngine((TEXT,))
    found = score(backend(engine), meter(), Settings(), line(), "python", name)
    assert found == KeptCharacters("p", 14, 14, 10.0, "modelled")
    assert "tally_of" not in tokenizer().decode(engine.prompts[-1])


def test_full_depth_ends_no_line_early_and_copies_nothing() -> None:
    engine = FakeEngine((TEXT,), confidences=(0.01,))
    assert score(backend(engine), meter(), Settings(), line(), "python", FULL_DEPTH).kept == 14
    assert engine.configs == [DecodeConfig()] * len(engine.configs)


def test_shares_are_of_full_depth_on_the_same_cursors() -> None:
    rows = [KEPT, replace(KEPT, package="q")]
    half = [replace(row, energy_j=0.5, kept=4) for row in rows]
    found = summary({FULL_DEPTH: rows, "balanced": half})
    assert found["balanced"]["of_full_depth"] == pytest.approx((0.5 / 4) / (2.0 / 5))
    assert found["balanced"]["of_full_depth_95"] == pytest.approx([0.3125, 0.3125])


def test_where_nothing_is_kept_no_cost_is_stated() -> None:
    found = summary({FULL_DEPTH: [KEPT], "energy": [replace(KEPT, kept=0)]})
    assert found["energy"]["j_per_kept_character"] is None
    assert cells(found["energy"]) == ("-", "-")
    json.dumps(found, allow_nan=False)


def test_the_table_says_what_a_kept_character_costs() -> None:
    study = {"model": "m", "languages": {"python": summary({FULL_DEPTH: [KEPT]})}}
    assert "| python (1) | full depth | 10 | 5 | 0.400 J modelled | 1.00 (1.00 to 1.00) |" in to_markdown(study)

"""Drafts copied from the text: what is proposed, and how much of it is worth verifying."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from greencode_lsp.engine.drafts import LONGEST_MATCH, MOST_TOKENS, draft_length, draft_lengths, propose
from greencode_lsp.engine.load import load_engine
from greencode_lsp.models.manifest import Manifest, write_manifest
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import reference

FREE = dict.fromkeys(range(1, MOST_TOKENS + 2), 1.0)


LENGTHS = (0, *[3] * LONGEST_MATCH)
"""Three tokens, whatever matched."""


def proposed(ids: list[int], room: int = 3) -> list[int]:
    return propose(np.asarray(ids), LENGTHS, room)


def test_what_followed_the_last_occurrence_is_proposed() -> None:
    assert proposed([1, 2, 3, 9, 1, 2, 4, 8, 1, 2]) == [4, 8, 1]


def test_a_longer_match_goes_before_a_later_one() -> None:
    assert proposed([7, 1, 2, 5, 5, 1, 2, 6, 7, 1, 2], room=1) == [5]


def test_nothing_is_drafted_from_where_the_generation_probably_stops() -> None:
    assert propose(np.asarray([1, 2, 3, 4, 1]), LENGTHS, 3, ends={3}) == [2]


def test_a_token_never_seen_before_proposes_nothing() -> None:
    assert proposed([1, 2, 3, 4]) == []


def test_no_more_is_proposed_than_there_is_room() -> None:
    assert proposed([1, 2, 3, 4, 5, 1], room=2) == [2, 3]
    assert proposed([1, 2, 3, 4, 5, 1], room=0) == []


@pytest.mark.parametrize("matched", [1, 2, 3, 4])
def test_where_a_batch_costs_its_positions_nothing_is_worth_drafting(matched: int) -> None:
    assert draft_length(matched, float) == 0


def test_a_longer_match_is_worth_more_tokens() -> None:
    lengths = draft_lengths(lambda positions: 0.8 + 0.2 * positions)
    assert list(lengths) == sorted(lengths)
    assert lengths[-1] > lengths[1]


def test_the_engine_verifies_copied_drafts_in_one_run(tmp_path: Any) -> None:
    """A model that repeats itself: most tokens are copied, and the run lengths tell."""
    folder = reference.save(reference.llama(), tmp_path)
    write_manifest(folder, Manifest(name="random", family="llama", exits=reference.EXITS, cost_curve=FREE))
    engine = load_engine(folder, "cpu", "float32")
    plain = [s.token_id for s in engine.generate([3, 1, 4], FixedControl(), max_new_tokens=60)]
    at_full_depth = engine.work
    config = DecodeConfig(copies=True)
    assert [s.token_id for s in engine.generate([3, 1, 4], FixedControl(config), max_new_tokens=60)] == plain
    assert max(positions for _, positions in engine.work.decode_runs) > 1
    assert len(engine.work.decode_runs) < len(at_full_depth.decode_runs)

"""Drafts: what is copied from the text or taken from a table, and how much of it is worth verifying."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from greencode_lsp.engine.drafts import LONGEST_MATCH, MOST_TOKENS, Drafter
from greencode_lsp.engine.load import load_engine
from greencode_lsp.models.draft_table import SHARES, DraftTable, fold, key_of
from greencode_lsp.models.manifest import Manifest, write_manifest
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import reference
from tests.exit_packs import pack_for

FREE = dict.fromkeys(range(1, MOST_TOKENS + 2), 1.0)


def drafter(cost: Any = lambda positions: 1.0, table: DraftTable | None = None) -> Drafter:
    return Drafter.of(cost, table)


def proposed(ids: list[int], room: int = 3, table: DraftTable | None = None, ends: Any = ()) -> list[int]:
    return drafter(table=table).propose(np.asarray(ids), room, ends)


def table_of(*rows: tuple[tuple[int, ...], int, float]) -> DraftTable:
    """Return the table of contexts, what follows them, and its share."""
    keyed = []
    for context, token, share in rows:
        state = 0
        for before in reversed(context):
            state = fold(state, before)
        keyed.append((key_of(state), token, round(share * SHARES)))
    keys, ids, shares = zip(*sorted(keyed), strict=True)
    return DraftTable(np.array(keys, np.uint32), np.array(ids, np.int32), np.array(shares, np.uint8))


def test_what_followed_the_last_occurrence_is_proposed() -> None:
    assert proposed([1, 2, 3, 9, 1, 2, 4, 8, 1, 2]) == [4, 8, 1]


def test_a_longer_match_goes_before_a_later_one() -> None:
    assert proposed([7, 1, 2, 5, 5, 1, 2, 6, 7, 1, 2], room=1) == [5]


def test_nothing_is_drafted_from_where_the_generation_probably_stops() -> None:
    assert proposed([1, 2, 3, 4, 1], ends={3}) == [2]


def test_a_token_never_seen_before_proposes_nothing() -> None:
    assert proposed([1, 2, 3, 4]) == []


def test_no_more_is_proposed_than_there_is_room() -> None:
    assert proposed([1, 2, 3, 4, 5, 1], room=2) == [2, 3]
    assert proposed([1, 2, 3, 4, 5, 1], room=0) == []


@pytest.mark.parametrize("matched", range(1, LONGEST_MATCH + 1))
def test_where_a_batch_costs_its_positions_nothing_is_worth_drafting(matched: int) -> None:
    text = np.asarray([*range(8)] * 2)
    assert drafter(float).propose(text[: 8 + matched], 7) == []
    assert drafter(float).is_in_vain


def test_a_longer_match_is_worth_more_tokens() -> None:
    text = list(range(20))
    lengths = [
        len(drafter(lambda positions: 0.8 + 0.2 * positions).propose(np.asarray(text + text[8 - matched : 8]), 7))
        for matched in range(1, LONGEST_MATCH + 1)
    ]
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0]


def test_a_table_says_what_the_text_does_not() -> None:
    assert proposed([1, 2, 3], table=table_of(((3,), 9, 0.9), ((3, 9), 5, 0.8))) == [9, 5]


def test_the_longest_context_of_a_table_speaks() -> None:
    table = table_of(((3,), 9, 0.9), ((2, 3), 8, 0.5))
    assert table.after([1, 2, 3]) == (8, round(0.5 * SHARES) / SHARES)
    assert table.after([1, 4, 3]) == (9, round(0.9 * SHARES) / SHARES)
    assert table.after([3, 1]) is None


@pytest.mark.parametrize(("share", "first"), [(0.9, 9), (0.4, 2)])
def test_a_sure_table_overrules_a_copy_of_which_one_token_matches(share: float, first: int) -> None:
    assert proposed([1, 2, 5, 7, 1], room=1, table=table_of(((1,), 9, share))) == [first]


def test_a_copy_of_which_more_matches_is_not_overruled() -> None:
    assert proposed([3, 1, 2, 5, 7, 3, 1], room=1, table=table_of(((1,), 9, 1.0))) == [2]
    assert proposed([1, 2, 5, 7, 1], room=2, table=table_of(((2,), 9, 1.0))) == [2, 5]


def test_where_the_text_ends_the_table_goes_on() -> None:
    assert proposed([8, 5, 5], table=table_of(((5, 5, 5), 9, 1.0))) == [5, 9]


def test_what_text_and_table_agree_on_is_likelier() -> None:
    """A copy alone is not worth its verification at this cost, nor is the table."""
    text, table = np.asarray([1, 2, 5, 7, 1]), table_of(((1,), 2, 0.3))
    assert drafter(lambda m: 1 + 0.4 * (m - 1)).propose(text, 1) == []
    assert drafter(lambda m: 1 + 0.4 * (m - 1), table).propose(text, 1) == [2]


def test_what_is_unlikely_is_not_worth_its_verification() -> None:
    cost = {1: 1.0, 2: 1.2, 3: 1.4}
    for share, expected in ((0.1, []), (0.5, [9])):
        found = drafter(lambda m: cost.get(m, float(m)), table_of(((3,), 9, share))).propose(np.asarray([3]), 7)
        assert found == expected


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


@pytest.mark.parametrize("is_right", [True, False])
def test_a_packs_table_spares_runs_where_it_is_right_and_changes_no_token(tmp_path: Any, is_right: bool) -> None:
    folder = tmp_path / "model"
    reference.llama().save_pretrained(folder)
    plain = load_engine(folder, "cpu", "float32")
    prompt = [3, 1, 4]
    said = [s.token_id for s in plain.generate(prompt, FixedControl(), max_new_tokens=8)]
    text = [*prompt, *said]
    follows = {tuple(text[at - 2 : at]): (text[at] + (not is_right)) % 100 for at in range(3, len(text))}
    drafts = table_of(*((context, token, 1.0) for context, token in follows.items()))
    pack = pack_for(folder, tmp_path / "pack", exits=(4,), kinds=(), drafts=drafts)
    engine = load_engine(folder, "cpu", "float32", pack=pack)
    engine.use_costs(FREE, 1.0)
    config = FixedControl(DecodeConfig(copies=True))
    assert [s.token_id for s in engine.generate(prompt, config, max_new_tokens=8)] == said
    assert (len(engine.work.decode_runs) < len(plain.work.decode_runs)) == is_right

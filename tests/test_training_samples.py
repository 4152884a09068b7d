"""Training samples: cursors like the server's, and nothing of the text lost or told twice."""

from __future__ import annotations

import random
from typing import Any

from tests.training_corpora import code
from training.checkpoint import bpe
from training.checkpoint.bpe import SPECIAL_TOKENS
from training.data import samples

TEXT = code(7)
TOKENIZER = bpe.build([code(seed) for seed in range(20)], 400)
IDS: dict[str, Any] = {role: TOKENIZER.token_to_id(token) for role, token in SPECIAL_TOKENS.items()}


def drawn(count: int = 200) -> list[tuple[str, str, str]]:
    rng = random.Random(0)
    return [samples.parts(TEXT, rng) for _ in range(count)]


def test_prefix_and_middle_are_the_text_and_the_suffix_goes_on() -> None:
    assert all(TEXT.startswith(prefix + middle + suffix) for prefix, middle, suffix in drawn())


def test_most_middles_end_with_their_line_inside_code() -> None:
    by_line = [(p, m, s) for p, m, s in drawn() if s.startswith("\n")]
    assert len(by_line) > 0.7 * 200
    assert sum("\n" not in middle for _, middle, _ in by_line) > 0.4 * 200


def test_most_suffixes_are_short() -> None:
    assert sum(suffix.count("\n") <= samples.MAX_SUFFIX_LINES for _, _, suffix in drawn()) > 0.7 * 200


def encoded(seed: int) -> list[int]:
    return samples.encode_sample(TEXT, TOKENIZER, random.Random(seed))


def middle_of(ids: list[int]) -> Any:
    return TOKENIZER.decode(ids[ids.index(IDS["prefix"]) + 1 : -1])


def test_a_rearranged_sample_holds_suffix_before_prefix_and_middle() -> None:
    rearranged = [ids for ids in map(encoded, range(60)) if IDS["prefix"] in ids]
    assert 15 < len(rearranged) < 45
    for ids in rearranged:
        assert ids[:2] == [IDS["document"], IDS["suffix"]]
        assert ids[-1] == IDS["end"]
        suffix = TOKENIZER.decode(ids[2 : ids.index(IDS["prefix"])])
        assert TEXT.startswith(middle_of(ids) + suffix)


def test_a_plain_sample_is_the_text() -> None:
    plain = [ids for ids in map(encoded, range(60)) if IDS["prefix"] not in ids]
    assert all(TEXT.startswith(TOKENIZER.decode(ids[1:])) for ids in plain)
    assert any(TOKENIZER.decode(ids[1:]) == TEXT for ids in plain)

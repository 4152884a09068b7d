"""The promise of `minAgreement` while it is served: the row, the draw, the bet against it, who may move it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from greencode_lsp.guarantee import (
    AUDITED_SHARE,
    DELTA,
    AuditRecord,
    Guarantee,
    agreement,
    cheapest,
    interval,
    is_audited,
)
from tests.fakes import ROWS

TOKENS = 10


def losses(rate: float, seed: int, count: int) -> list[int]:
    """Return how many of TOKENS tokens agree, in each of `count` audits whose tokens disagree at `rate`."""
    rng = random.Random(seed)
    return [sum(rng.random() >= rate for _ in range(TOKENS)) for _ in range(count)]


def violated(promised: float, rate: float, seed: int, count: int = 300) -> bool:
    """Say whether the record ever takes the promise for broken, looking after every audit."""
    record = AuditRecord(promised)
    for agreed in losses(rate, seed, count):
        record.observe(agreed, TOKENS)
        if record.is_violated:
            return True
    return False


@pytest.mark.parametrize(
    ("min_agreement", "index"), [(0.5, 3), (0.68, 3), (0.69, 2), (0.98, 1), (0.985, 0), (0.99, 0), (0.995, None)]
)
def test_the_cheapest_row_that_is_proven_to_keep_the_promise_serves(min_agreement: float, index: int | None) -> None:
    assert cheapest(ROWS, min_agreement) == (None if index is None else ROWS[index])


def test_one_completion_in_fifty_is_audited() -> None:
    rng = random.Random(0)
    drawn = sum(is_audited(rng) for _ in range(50_000))
    assert drawn == pytest.approx(50_000 * AUDITED_SHARE, rel=0.1)


def test_the_draw_is_the_generators() -> None:
    assert [is_audited(random.Random(7)) for _ in range(3)] == [is_audited(random.Random(7)) for _ in range(3)]


@pytest.mark.parametrize("promised", [0.9, 0.98])
def test_a_promise_that_just_holds_is_rarely_taken_for_broken(promised: float) -> None:
    wrong = sum(violated(promised, 1 - promised, seed) for seed in range(200))
    assert wrong / 200 <= DELTA


@pytest.mark.parametrize(("promised", "rate"), [(0.98, 0.06), (0.9, 0.2), (0.5, 0.7)])
def test_a_promise_that_is_broken_is_found_out(promised: float, rate: float) -> None:
    assert all(violated(promised, rate, seed) for seed in range(20))


def test_a_lossless_promise_is_broken_by_one_token() -> None:
    record = AuditRecord(1.0)
    record.observe(TOKENS, TOKENS)
    before = record.is_violated
    record.observe(TOKENS - 1, TOKENS)
    assert (before, record.is_violated) == (False, True)


def test_a_record_counts_what_it_saw() -> None:
    record = AuditRecord(0.98)
    for agreed, tokens in ((9, 10), (4, 4), (0, 0)):
        record.observe(agreed, tokens)
    assert (record.audits, record.agreed_tokens, record.tokens) == (2, 13, 14)


def observe_until_moved(guarantee: Guarantee, agreed: int, most: int = 500) -> int:
    """Return how many audits of that agreement it takes to move the row."""
    return next(n for n in range(1, most) if guarantee.observe(agreed, TOKENS))


def test_broken_audits_tighten_by_one_row_at_a_time_until_full_depth_serves() -> None:
    guarantee, served = Guarantee(ROWS, 0.9), []
    while guarantee.row is not None:
        served.append(guarantee.row)
        observe_until_moved(guarantee, agreed=5)
    assert served == [ROWS[2], ROWS[1], ROWS[0]]
    assert not guarantee.observe(0, TOKENS)  # full depth keeps every promise


def test_each_row_is_judged_by_its_own_audits() -> None:
    guarantee = Guarantee(ROWS, 0.9)
    first = observe_until_moved(guarantee, agreed=5)
    assert guarantee.record == AuditRecord(0.9)
    assert observe_until_moved(guarantee, agreed=5) == first


def test_audits_that_keep_the_promise_move_nothing() -> None:
    guarantee = Guarantee(ROWS, 0.9)
    assert not any(guarantee.observe(agreed, TOKENS) for agreed in losses(0.05, seed=1, count=1000))
    assert guarantee.row == ROWS[2]


def test_tokens_are_compared_by_position() -> None:
    assert agreement([1, 2, 3], [1, 9, 3]) == (2, 3)


def test_healed_tokens_are_no_part_of_an_audit() -> None:
    def heals_the_first(emitted: Sequence[int]) -> Sequence[int] | None:
        return None if emitted else (5, 6)

    assert agreement([5, 2, 3], [8, 2, 9], heals_the_first) == (1, 2)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_the_interval_holds_the_mean(rate: float) -> None:
    missed = 0
    for seed in range(60):
        low, high = interval(agreed / TOKENS for agreed in losses(rate, seed, 100))
        missed += not low <= 1 - rate <= high
    assert missed <= 60 * DELTA


def test_the_interval_narrows_with_audits() -> None:
    widths = [high - low for low, high in (interval([0.9, 1.0] * n) for n in (5, 50, 500))]
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.05


@pytest.mark.parametrize(("shares", "inside"), [([], 0.5), ([1.0] * 50, 1.0), ([0.0] * 50, 0.0)])
def test_the_interval_of_the_extremes(shares: list[float], inside: float) -> None:
    low, high = interval(shares)
    assert 0.0 <= low <= inside <= high <= 1.0

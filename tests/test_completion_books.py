"""Rows, outcomes and audits of completions, after their answers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from greencode_lsp.completion.books import MAX_INTERRUPTIONS, REMEMBERED, Books
from greencode_lsp.completion.outcomes import Settled
from greencode_lsp.completion.pipeline import LiveControl, Request, complete
from greencode_lsp.energy.ledger import Ledger
from greencode_lsp.energy.rows import LedgerRow
from greencode_lsp.errors import CancelledError
from greencode_lsp.records import Completion, FixedControl
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, ROWS, FakeEngine, Never, backend, meter


class Always(random.Random):
    """Draws every completion."""

    def random(self) -> float:
        return 0.0


@pytest.fixture
def books(tmp_path: Path) -> Books:
    made = Books(Always())
    made.ledger = Ledger(tmp_path / "ledger.sqlite")
    return made


def completion(books: Books, engine: FakeEngine, settings: Settings | None = None) -> Completion:
    chosen = settings or Settings()
    control = LiveControl(lambda: chosen, lambda: False, MANIFEST, "python", books.choose)
    return complete(backend(engine), Request("    for it", 10, "python"), control, meter())


def rows(books: Books) -> list[LedgerRow]:
    assert books.ledger is not None
    return books.ledger.rows()


def test_an_outcome_is_written_to_the_row_of_its_completion(books: Books) -> None:
    for number in (1, 2):
        books.add(number, LedgerRow.of(completion(books, FakeEngine()), "python", 0.5, "shown"))
    books.settle(Settled(2, "accepted", 5, 0))
    books.settle(Settled(99, "accepted", 5, 0))
    assert [(row.outcome, row.accepted_characters) for row in rows(books)] == [("shown", 0), ("accepted", 5)]


def test_a_completion_long_gone_is_not_settled(books: Books) -> None:
    row = LedgerRow.of(completion(books, FakeEngine()), "python", 0.5, "shown")
    for number in range(REMEMBERED + 1):
        books.add(number, row)
    books.settle(Settled(0, "accepted", 5, 0))
    assert {row.outcome for row in rows(books)} == {"shown"}


def test_an_audit_goes_over_the_same_prompt_and_is_booked_apart(books: Books) -> None:
    engine = FakeEngine()
    books.draw(completion(books, engine), "python", 0.5)
    books.audit(backend(engine), meter(), FixedControl())
    [row] = rows(books)
    assert engine.audited == [engine.prompts[0]]
    assert (row.outcome, row.promised, row.full_depth_j, row.energy_j) == ("audit", 0.98, 0.0, 10.0)
    assert row.audit is not None
    assert row.audit.tokens >= row.audit.agreed_tokens > 0
    assert not books.due


def test_an_audit_that_a_request_interrupts_is_due_still(books: Books) -> None:
    engine = FakeEngine()
    books.draw(completion(books, engine), "python", 0.5)
    with pytest.raises(CancelledError):
        books.audit(backend(engine), meter(), FixedControl(is_cancelled=lambda: True))
    [row] = rows(books)
    assert (len(books.due), row.outcome, row.energy_j, row.audit) == (1, "audit", 10.0, None)


def test_an_audit_that_is_always_interrupted_is_given_up(books: Books) -> None:
    engine = FakeEngine()
    books.draw(completion(books, engine), "python", 0.5)
    for _ in range(MAX_INTERRUPTIONS + 1):
        with pytest.raises(CancelledError):
            books.audit(backend(engine), meter(), FixedControl(is_cancelled=lambda: True))
    assert not books.due


def test_an_audit_of_a_row_that_serves_no_more_moves_nothing(books: Books) -> None:
    engine = FakeEngine()
    for _ in range(200):
        books.draw(completion(books, engine), "python", 0.5)
    while books.due:
        books.audit(backend(engine), meter(), FixedControl())
    assert books.choose(ROWS, 0.98) == ROWS[0]


@pytest.mark.parametrize(
    "settings", [Settings(preference=1.0), Settings(exit_policy="never")], ids=["lossless", "full"]
)
def test_what_promises_nothing_is_not_audited(books: Books, settings: Settings) -> None:
    books.draw(completion(books, FakeEngine(), settings), "python", settings.preference)
    assert not books.due


def test_what_is_not_drawn_is_not_audited() -> None:
    books = Books(Never())
    books.draw(completion(books, FakeEngine()), "python", 0.5)
    assert not books.due


def test_audits_that_break_a_promise_move_the_next_token_to_a_more_careful_row(books: Books) -> None:
    before = books.choose(ROWS, 0.98)
    engine = FakeEngine()
    while books.choose(ROWS, 0.98) == before:  # the full model disagrees with the first token of each
        books.draw(completion(books, engine), "python", 0.5)
        books.audit(backend(engine), meter(), FixedControl())
    assert (before, books.choose(ROWS, 0.98)) == (ROWS[1], ROWS[0])

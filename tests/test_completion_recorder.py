"""Rows, outcomes and audits of completions, after their answers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from greencode_lsp.completion.outcomes import Settled
from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.recorder import MAX_INTERRUPTIONS, REMEMBERED, CompletionRecorder
from greencode_lsp.completion.request import Request
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
def recorder(tmp_path: Path) -> CompletionRecorder:
    made = CompletionRecorder(Always())
    made.ledger = Ledger(tmp_path / "ledger.sqlite")
    return made


def completion(recorder: CompletionRecorder, engine: FakeEngine, settings: Settings | None = None) -> Completion:
    chosen = settings or Settings()
    control = LiveControl(lambda: chosen, lambda: False, MANIFEST, "python", recorder.choose)
    return complete(backend(engine), Request("    for it", 10, "python"), control, meter())


def rows(recorder: CompletionRecorder) -> list[LedgerRow]:
    assert recorder.ledger is not None
    return recorder.ledger.rows()


def test_an_outcome_is_written_to_the_row_of_its_completion(recorder: CompletionRecorder) -> None:
    for number in (1, 2):
        recorder.add(number, LedgerRow.of(completion(recorder, FakeEngine()), "python", 0.5, "shown"))
    recorder.settle(Settled(2, "accepted", 5, 0))
    recorder.settle(Settled(99, "accepted", 5, 0))
    assert [(row.outcome, row.accepted_characters) for row in rows(recorder)] == [("shown", 0), ("accepted", 5)]


def test_a_completion_long_gone_is_not_settled(recorder: CompletionRecorder) -> None:
    row = LedgerRow.of(completion(recorder, FakeEngine()), "python", 0.5, "shown")
    for number in range(REMEMBERED + 1):
        recorder.add(number, row)
    recorder.settle(Settled(0, "accepted", 5, 0))
    assert {row.outcome for row in rows(recorder)} == {"shown"}


def test_an_audit_goes_over_the_same_prompt_and_is_recorded_apart(recorder: CompletionRecorder) -> None:
    engine = FakeEngine()
    recorder.draw(completion(recorder, engine), "python", 0.5)
    recorder.audit(backend(engine), meter(), FixedControl())
    [row] = rows(recorder)
    assert engine.audited == [engine.prompts[0]]
    assert (row.outcome, row.promised, row.full_depth_j, row.energy_j) == ("audit", 0.98, 0.0, 10.0)
    assert row.audit is not None
    assert row.audit.tokens >= row.audit.agreed_tokens > 0
    assert not recorder.due


def test_an_audit_that_a_request_interrupts_is_due_still(recorder: CompletionRecorder) -> None:
    engine = FakeEngine()
    recorder.draw(completion(recorder, engine), "python", 0.5)
    with pytest.raises(CancelledError):
        recorder.audit(backend(engine), meter(), FixedControl(is_cancelled=lambda: True))
    [row] = rows(recorder)
    assert (len(recorder.due), row.outcome, row.energy_j, row.audit) == (1, "audit", 10.0, None)


def test_an_audit_that_is_always_interrupted_is_given_up(recorder: CompletionRecorder) -> None:
    engine = FakeEngine()
    recorder.draw(completion(recorder, engine), "python", 0.5)
    for _ in range(MAX_INTERRUPTIONS + 1):
        with pytest.raises(CancelledError):
            recorder.audit(backend(engine), meter(), FixedControl(is_cancelled=lambda: True))
    assert not recorder.due


def test_an_audit_of_a_row_that_serves_no_more_moves_nothing(recorder: CompletionRecorder) -> None:
    engine = FakeEngine()
    for _ in range(200):
        recorder.draw(completion(recorder, engine), "python", 0.5)
    while recorder.due:
        recorder.audit(backend(engine), meter(), FixedControl())
    assert recorder.choose(ROWS, 0.98) == ROWS[0]


@pytest.mark.parametrize(
    "settings", [Settings(preference=1.0), Settings(exit_policy="never")], ids=["lossless", "full"]
)
def test_what_promises_nothing_is_not_audited(recorder: CompletionRecorder, settings: Settings) -> None:
    recorder.draw(completion(recorder, FakeEngine(), settings), "python", settings.preference)
    assert not recorder.due


def test_what_is_not_drawn_is_not_audited() -> None:
    recorder = CompletionRecorder(Never())
    recorder.draw(completion(recorder, FakeEngine()), "python", 0.5)
    assert not recorder.due


def test_audits_that_break_a_promise_let_a_more_conservative_row_serve(
    recorder: CompletionRecorder,
) -> None:
    before = recorder.choose(ROWS, 0.98)
    engine = FakeEngine()
    while recorder.choose(ROWS, 0.98) == before:  # the full model disagrees with the first token of each
        recorder.draw(completion(recorder, engine), "python", 0.5)
        recorder.audit(backend(engine), meter(), FixedControl())
    assert (before, recorder.choose(ROWS, 0.98)) == (ROWS[1], ROWS[0])

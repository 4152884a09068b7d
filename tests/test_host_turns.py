"""Whose turn it is at the shared engine."""

from __future__ import annotations

from greencode_lsp.host.turns import PASSED_OVER, Turn, Turns


def turn(name: str, done: list[str], *, is_background: bool = False) -> Turn:
    return Turn(lambda: done.append(name), lambda: done.append(f"no {name}"), is_background)


def run_all(turns: Turns) -> None:
    while not turns.is_empty:
        turns.take().run()


def test_the_newest_request_goes_first() -> None:
    turns, done = Turns(), list[str]()
    for name in "abc":
        turns.add(turn(name, done))
    run_all(turns)
    assert done == ["c", "b", "a"]


def test_background_work_waits_for_everybody() -> None:
    turns, done = Turns(), list[str]()
    turns.add(turn("request", done))
    turns.add(turn("audit", done, is_background=True))
    run_all(turns)
    assert done == ["request", "audit"]


def test_a_request_is_passed_over_a_few_times_only() -> None:
    turns, done = Turns(), list[str]()
    turns.add(turn("old", done))
    for number in range(PASSED_OVER + 2):
        turns.add(turn(str(number), done))
        turns.take().run()
    assert done.index("old") == PASSED_OVER


def test_a_cancelled_request_never_runs() -> None:
    turns, done = Turns(), list[str]()
    unwanted = turn("request", done)
    turns.add(unwanted)
    assert turns.cancel(unwanted)
    run_all(turns)
    assert done == ["no request"]


def test_a_running_request_is_told_of_its_cancel() -> None:
    turns, done = Turns(), list[str]()
    taken = turn("request", done)
    turns.add(taken)
    turns.take()
    assert not turns.cancel(taken)
    assert taken.cancelled.is_set()
    assert done == []


def test_audits_are_no_reason_to_give_way() -> None:
    turns = Turns()
    turns.add(turn("audit", [], is_background=True))
    assert not turns.is_somebody_waiting
    turns.add(turn("request", []))
    assert turns.is_somebody_waiting

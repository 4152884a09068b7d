"""Whose turn it is at the shared engine, and which models stay in memory."""

from __future__ import annotations

import pytest

from greencode_lsp.host.residence import Residence
from greencode_lsp.host.turns import PASSED_OVER, Turn, Turns
from tests.host_engine import local_model


def turn(name: str, done: list[str], *, is_background: bool = False) -> Turn:
    return Turn(lambda: done.append(name), lambda: done.append(f"no {name}"), is_background)


def run_all(turns: Turns) -> None:
    while (following := turns.take(0.0)) is not None:
        following.run()


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
        following = turns.take(0.0)
        assert following is not None
        following.run()
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
    turns.take(0.0)
    assert not turns.cancel(taken)
    assert taken.cancelled.is_set()
    assert done == []


def test_audits_are_no_reason_to_give_way() -> None:
    turns = Turns()
    turns.add(turn("audit", [], is_background=True))
    assert not turns.is_somebody_waiting
    turns.add(turn("request", []))
    assert turns.is_somebody_waiting


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def residence(clock: Clock) -> Residence:
    return Residence(clock)


def test_a_model_is_loaded_once_for_all(residence: Residence) -> None:
    first = residence.get("m", local_model, 600.0)
    assert residence.get("m", local_model, 600.0) is first


def test_a_model_goes_when_nobody_has_asked_for_it(residence: Residence, clock: Clock) -> None:
    residence.get("m", local_model, 600.0)
    clock.now_s = 599.0
    residence.rest()
    assert not residence.is_empty
    clock.now_s = 600.0
    residence.rest()
    assert residence.is_empty


def test_a_request_lets_it_stay_again_from_its_end(residence: Residence, clock: Clock) -> None:
    residence.get("m", local_model, 600.0)
    clock.now_s = 100.0
    residence.touch()
    assert residence.next_rest_s() == 600.0


def test_a_model_stays_for_the_most_patient_editor(residence: Residence, clock: Clock) -> None:
    residence.get("m", local_model, 60.0)
    residence.get("m", local_model, 600.0)
    assert residence.next_rest_s() == 600.0


def test_a_model_stays_for_good_for_who_wants_that(residence: Residence, clock: Clock) -> None:
    residence.get("m", local_model, None)
    clock.now_s = 1e9
    residence.rest()
    assert residence.next_rest_s() is None
    assert not residence.is_empty


def test_a_model_goes_soon_where_that_is_asked_of_all(residence: Residence, clock: Clock) -> None:
    residence.get("m", local_model, None)
    clock.now_s = 10.0
    assert residence.next_rest_s(30.0) == 20.0
    residence.rest(10.0)
    assert residence.is_empty


def test_a_model_that_nobody_has_chosen_any_more_goes(residence: Residence) -> None:
    kept = residence.get("kept", local_model, 600.0)
    residence.get("other", local_model, 600.0)
    residence.keep_only({"kept"})
    assert residence.get("kept", local_model, 600.0) is kept
    assert residence.get("other", local_model, 600.0) is not None

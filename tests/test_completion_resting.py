"""When a model goes from memory, and that it comes back."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from greencode_lsp.completion import resting
from greencode_lsp.completion.model import LoadedModel
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.resting import RestingModel
from greencode_lsp.power import Battery
from tests.fakes import SAMPLE, FakeEngine
from tests.host_engine import SLOW, hang_when_slow, ignore, live, local_model, request


@contextmanager
def model(
    unload_after_s: float | None = 600.0,
    battery: Callable[[], Battery | None] = lambda: None,
    engine: FakeEngine | None = None,
) -> Iterator[tuple[RestingModel, list[LoadedModel]]]:
    loads: list[LoadedModel] = []

    def load() -> LoadedModel:
        loads.append(local_model(engine))
        return loads[-1]

    made = RestingModel(load, unload_after_s, battery)
    yield made, loads
    made.close()


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        threading.Event().wait(0.005)


def test_a_model_goes_when_nobody_has_asked_for_it() -> None:
    with model(0.02) as (made, _):
        wait_until(lambda: made.is_resting)


def test_it_comes_back_for_the_next_request_and_goes_again() -> None:
    with model(0.02) as (made, loads):
        wait_until(lambda: made.is_resting)
        assert made.complete(request(), live(), ignore).text
        assert len(loads) == 2
        wait_until(lambda: made.is_resting)


def test_what_nobody_waits_for_wakes_it_not() -> None:
    with model(0.02) as (made, loads):
        wait_until(lambda: made.is_resting)
        assert made.complete(replace(request(), unasked=True), live(), ignore).steps == ()
        assert len(loads) == 1


def test_its_facts_are_known_while_it_rests() -> None:
    with model(0.02) as (made, _):
        before = made.facts
        wait_until(lambda: made.is_resting)
        assert made.facts == before


def test_a_model_that_is_asked_stays() -> None:
    stop = threading.Event()
    engine = FakeEngine((SAMPLE, SLOW), hang_when_slow)
    with model(0.02, engine=engine) as (made, loads):
        slow = Request("slow = ", 7, "python", invoked=True)
        thread = threading.Thread(target=made.complete, args=(slow, live(cancelled=stop.is_set), ignore))
        thread.start()
        assert engine.running.wait(10)
        threading.Event().wait(0.1)  # five times its rest
        assert not made.is_resting
        stop.set()
        thread.join(10)
        wait_until(lambda: made.is_resting)
        assert len(loads) <= 2


def test_a_longer_stay_holds_at_once() -> None:
    with model(0.02) as (made, _):
        made.stay(600.0)
        made.complete(request(), live(), ignore)
        threading.Event().wait(0.1)
        assert not made.is_resting


def test_a_shorter_stay_holds_at_once() -> None:
    with model(None) as (made, _):
        made.stay(0.02)
        wait_until(lambda: made.is_resting)


@pytest.mark.parametrize("wanted", [None, 600.0])
def test_nothing_goes_before_its_time(wanted: float | None) -> None:
    with model(wanted) as (made, _):
        threading.Event().wait(0.05)
        assert not made.is_resting


def test_a_battery_nearly_empty_lets_the_model_go_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "LOW_BATTERY_REST_S", 0.02)
    with model(None, lambda: Battery(19.0, is_discharging=True)) as (made, _):
        wait_until(lambda: made.is_resting)


def test_a_battery_that_runs_low_while_nobody_asks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "LOW_BATTERY_REST_S", 0.02)
    monkeypatch.setattr(resting, "LOOK_AT_BATTERY_S", 0.02)
    levels = iter([50.0])
    with model(None, lambda: Battery(next(levels, 5.0), is_discharging=True)) as (made, _):
        wait_until(lambda: made.is_resting)


def test_a_rest_ends_no_thread_and_a_close_ends_its_own() -> None:
    with model() as (made, _):
        assert any(thread.name == "greencode-rest" for thread in threading.enumerate())
    wait_until(lambda: made.is_resting)


@pytest.mark.parametrize("is_initialized", [True, False])
def test_a_gpus_memory_is_given_back_where_it_was_used(monkeypatch: pytest.MonkeyPatch, is_initialized: bool) -> None:
    emptied: list[int] = []  # by thread: one of another test's may be giving back as well
    cuda = SimpleNamespace(
        is_initialized=lambda: is_initialized, empty_cache=lambda: emptied.append(threading.get_ident())
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    resting.give_back_memory()
    assert emptied.count(threading.get_ident()) == is_initialized


def test_a_library_that_is_still_being_imported_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    resting.give_back_memory()

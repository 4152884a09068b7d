"""The service: settings, loading in the background, one sentence per failure, a ledger row per generation."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.ignore_check import IgnoreCheck
from greencode_lsp.completion.parts import ServiceParts
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.completion.status import NOTHING, Status, Suggested
from greencode_lsp.completion.worker import SupersededError
from greencode_lsp.energy.ledger import Ledger
from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.power import Power, PowerState
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, FakeEngine, Never, backend, meter

REQUEST = Request("    for it", 10, "python", invoked=True)


class Bench:
    """A service over fakes, and everything it said."""

    def __init__(
        self,
        folder: Path,
        load: Callable[[Settings], Backend] = lambda settings: backend(),
        power: PowerState = "unknown",
        rng: random.Random | None = None,
    ) -> None:
        self.notices: list[str] = []
        self.statuses: list[Status] = []
        self.ledger = Ledger(folder / "ledger.sqlite")
        parts = ServiceParts(
            load,
            lambda device, notify, checkpoint: meter(),
            lambda notify: self.ledger,
            Power(lambda: power),
            rng or Never(),
        )
        self.service = CompletionService(self.notices.append, self.statuses.append, parts)

    async def show(self, document: str, request: Request) -> Suggested:
        """Complete and give the client what there is."""
        suggested = await self.service.complete(document, request)
        self.service.shown(document, suggested, request)
        return suggested

    async def settle(self) -> None:
        """Wait until the worker has nothing left and the loop has said what it said."""
        loop = asyncio.get_running_loop()
        for _ in range(2):  # what runs now may queue its bookkeeping
            done = loop.create_future()
            self.service._worker.submit(partial(loop.call_soon_threadsafe, done.set_result, None))
            await done


async def test_the_first_request_loads_the_model_and_waits_for_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    await bench.settle()
    assert [status.state for status in bench.statuses] == ["loading", "ready", "ready"]
    last = bench.statuses[-1]
    assert (last.model, last.preference, last.today.energy_j) == ("fake-1", 0.5, 10.0)
    assert (bench.statuses[0].exit_policy, last.exit_policy) == ("", "agent")
    assert last.last is not None
    assert last.last.text == "em in items:"
    bench.service.close()


async def test_while_the_model_loads_only_the_newest_request_waits(tmp_path: Path) -> None:
    gate, engine = threading.Event(), FakeEngine()

    def load(settings: Settings) -> Backend:
        assert gate.wait(5)
        return backend(engine)

    bench = Bench(tmp_path, load)
    waiting = [asyncio.create_task(bench.service.complete("a", REQUEST)) for _ in range(3)]
    outcomes = asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.wait(waiting[:2])
    gate.set()
    first, second, newest = await outcomes
    assert isinstance(first, SupersededError)
    assert isinstance(second, SupersededError)
    assert isinstance(newest, Suggested)
    assert (newest.text, len(engine.prompts)) == ("em in items:", 1)
    bench.service.close()


async def test_a_model_that_cannot_be_loaded_is_reported_once_and_fixed_by_a_setting(tmp_path: Path) -> None:
    def load(settings: Settings) -> Backend:
        if settings.model == "/missing":
            raise ModelNotFoundError("There is no model.")
        return backend()

    bench = Bench(tmp_path, load)
    bench.service.configure({"model": "/missing"})
    assert [await bench.service.complete("a", REQUEST) for _ in range(2)] == [NOTHING, NOTHING]
    await bench.settle()
    assert (bench.notices, bench.statuses[-1].state) == (["There is no model."], "failed")
    bench.service.configure({"model": "bundled"})
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    bench.service.close()


async def test_where_another_model_cannot_be_loaded_the_old_one_goes_on_serving(tmp_path: Path) -> None:
    def load(settings: Settings) -> Backend:
        if settings.model == "/missing":
            raise ModelNotFoundError("There is no model.")
        return backend()

    bench = Bench(tmp_path, load)
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    bench.service.configure({"model": "/missing"})
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    await bench.settle()
    assert (bench.notices, bench.statuses[-1].state) == (["There is no model."], "ready")
    bench.service.close()


@pytest.mark.parametrize(("model", "loads"), [("auto", 2), ("bundled", 1)])
async def test_a_model_that_was_pulled_lets_auto_choose_anew(tmp_path: Path, model: str, loads: int) -> None:
    loaded: list[str] = []

    def load(settings: Settings) -> Backend:
        loaded.append(settings.model)
        return backend()

    bench = Bench(tmp_path, load)
    bench.service.configure({"model": model})
    await bench.service.complete("a", REQUEST)
    bench.service.models_changed()
    await bench.settle()
    assert loaded == [model] * loads
    bench.service.close()


async def test_what_stands_in_for_a_model_is_reported(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda settings: replace(backend(), note="Another model serves."))
    await bench.service.complete("a", REQUEST)
    await bench.settle()
    assert bench.notices == ["Another model serves."]
    bench.service.close()


async def test_a_failure_is_one_sentence_without_the_users_text_and_later_requests_go_on(tmp_path: Path) -> None:
    engine = FakeEngine()

    def fail(control: object, prefix: str) -> None:
        raise KeyError(prefix)

    bench = Bench(tmp_path, lambda settings: backend(engine))
    engine.before_token = fail
    assert await bench.service.complete("a", REQUEST) == NOTHING
    await bench.settle()
    assert len(bench.notices) == 1
    assert "KeyError" in bench.notices[0]
    assert "for it" not in bench.notices[0]
    engine.before_token = lambda control, prefix: None
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    bench.service.close()


async def test_cancelled_work_is_in_the_ledger(tmp_path: Path) -> None:
    engine = FakeEngine()

    def until_cancelled(control: object, prefix: str) -> None:
        while not control.cancelled():  # type: ignore[attr-defined]
            pass

    engine.before_token = until_cancelled
    bench = Bench(tmp_path, lambda settings: backend(engine))
    task = asyncio.create_task(bench.service.complete("a", REQUEST))
    await asyncio.get_running_loop().run_in_executor(None, engine.running.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.settle()
    assert [(row.outcome, row.energy_j) for row in bench.ledger.rows()] == [("cancelled", 10.0)]
    bench.service.close()


async def test_superseded_work_is_in_the_ledger(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.before_token = lambda control, prefix: wait_for_cancel(control) if "for" in prefix else None
    bench = Bench(tmp_path, lambda settings: backend(engine))
    task = asyncio.create_task(bench.service.complete("a", REQUEST))
    await asyncio.get_running_loop().run_in_executor(None, engine.running.wait, 5)
    await bench.service.complete("a", Request("class ", 6, "python", invoked=True))
    with pytest.raises(SupersededError):
        await task
    await bench.settle()
    assert [row.outcome for row in bench.ledger.rows()] == ["superseded", "shown"]
    bench.service.close()


async def test_a_suggestion_that_came_too_late_is_superseded_and_no_rejection(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(9):
        suggested = await bench.service.complete("a", REQUEST)
        bench.service.dropped(suggested)
        bench.service.changed("a", lambda: "    for itk")
    await bench.settle()
    assert {row.outcome for row in bench.ledger.rows()} == {"superseded"}
    assert (await bench.service.complete("a", typed("    for it"))).text != ""
    bench.service.close()


async def test_a_suggestion_that_came_too_late_is_shown_once_it_is_given(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.service.dropped(await bench.service.complete("a", REQUEST))
    await bench.show("a", REQUEST)
    await bench.settle()
    assert [row.outcome for row in bench.ledger.rows()] == ["shown"]
    bench.service.close()


async def test_a_suggestion_that_was_given_stays_so_where_its_rest_comes_too_late(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.show("a", REQUEST)
    bench.service.dropped(await bench.service.complete("a", REQUEST))
    await bench.settle()
    assert [row.outcome for row in bench.ledger.rows()] == ["shown"]
    bench.service.close()


async def test_a_request_overtaken_while_it_is_computed_is_answered_by_the_newer_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, computed, looked = FakeEngine(), threading.Event(), asyncio.Event()

    def wait(control: object, prefix: str) -> None:
        assert computed.wait(5)

    async def look(*arguments: object) -> None:
        await looked.wait()

    engine.before_token = wait
    bench = Bench(tmp_path, lambda settings: backend(engine))
    older = asyncio.create_task(bench.service.complete("a", typed("    for it")))
    await asyncio.get_running_loop().run_in_executor(None, engine.running.wait, 5)
    monkeypatch.setattr(vars(bench.service)["_ignored"], "reason", look)
    newer = asyncio.create_task(bench.show("a", typed("    for it")))
    await asyncio.sleep(0)  # it reads the rules
    computed.set()
    with pytest.raises(SupersededError):
        await older
    await bench.settle()
    assert [row.outcome for row in bench.ledger.rows()] == ["superseded"]
    looked.set()
    assert (await newer).text == "em in items:"
    await bench.settle()
    assert [row.outcome for row in bench.ledger.rows()] == ["shown"]
    bench.service.close()


async def test_a_joined_generation_that_goes_another_way_is_stopped(tmp_path: Path) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine))
    newer = await typed_meanwhile(bench, engine, "    for itk")
    assert newer.text == ""
    await bench.settle()
    assert bench.ledger.rows()[0].outcome == "superseded"
    assert bench.ledger.rows()[0].tokens < 5
    bench.service.close()


async def test_after_a_pause_and_after_a_fixed_model_the_status_gives_no_old_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.service.pause(paused=True)
    await bench.service.complete("a", REQUEST)
    bench.service.pause(paused=False)
    await bench.settle()
    assert (bench.statuses[-1].state, bench.statuses[-1].reason) == ("ready", None)
    bench.service.close()


async def test_no_language_may_be_completed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.service.configure({"languages": []})
    assert await bench.service.complete("a", REQUEST) == NOTHING
    bench.service.close()


def wait_for_cancel(control: object) -> None:
    while not control.cancelled():  # type: ignore[attr-defined]
        pass


async def test_a_bad_setting_is_reported_once_however_often_it_is_sent(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(3):
        bench.service.configure({"preference": "fast"})
    assert len(bench.notices) == 1
    bench.service.close()


async def test_a_changed_preference_is_reported(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.service.complete("a", REQUEST)
    bench.service.configure({"preference": "energy"})
    await bench.settle()
    assert bench.statuses[-1].preference == 0.0
    bench.service.close()


async def test_a_closed_service_answers_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.service.close()
    assert await bench.service.complete("a", REQUEST) == NOTHING


def typed(text: str, **changes: Any) -> Request:
    """Return a request at the end of a text, as an editor makes it by itself."""
    return replace(Request(text, len(text), "python"), **changes)


async def typed_meanwhile(bench: Bench, engine: FakeEngine, text: str) -> Suggested:
    """Ask at a text while the generation for its beginning is held before its first token."""
    gate = threading.Event()

    def wait(control: object, prefix: str) -> None:
        assert gate.wait(5)

    engine.before_token = wait
    older = asyncio.create_task(bench.service.complete("a", typed("    for it")))
    await asyncio.get_running_loop().run_in_executor(None, engine.running.wait, 5)
    newer = asyncio.create_task(bench.service.complete("a", typed(text)))
    with pytest.raises(SupersededError):
        await older
    gate.set()
    return await newer


async def test_what_is_typed_along_is_answered_without_the_model(tmp_path: Path) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine))
    first = await bench.service.complete("a", typed("    for it"))
    along = await bench.service.complete("a", typed("    for item in"))
    back = await bench.service.complete("a", typed("    for ite"))
    assert (first.text, along.text, back.text) == ("em in items:", " items:", "m in items:")
    assert first.number == along.number == back.number
    assert len(engine.prompts) == 1
    bench.service.close()


async def test_a_running_generation_that_still_fits_is_joined(tmp_path: Path) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine))
    newer = await typed_meanwhile(bench, engine, "    for item")
    assert (newer.text, len(engine.prompts)) == (" in items:", 1)
    bench.service.close()


async def test_a_running_generation_that_does_not_fit_is_stopped(tmp_path: Path) -> None:
    engine = FakeEngine()

    def until_cancelled(control: object, prefix: str) -> None:
        while prefix.endswith("slow") and not control.cancelled():  # type: ignore[attr-defined]
            pass

    engine.before_token, engine.texts = until_cancelled, (*engine.texts, "slow = 1")
    bench = Bench(tmp_path, lambda settings: backend(engine))
    older = asyncio.create_task(bench.service.complete("a", typed("slow", invoked=True)))
    await asyncio.get_running_loop().run_in_executor(None, engine.running.wait, 5)
    assert (await bench.service.complete("a", typed("    for it"))).text == "em in items:"
    with pytest.raises(SupersededError):
        await older
    bench.service.close()


async def test_another_preference_is_not_answered_from_the_cache(tmp_path: Path) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine))
    for preference in (None, "accuracy"):
        bench.service.configure({"preference": preference})
        await bench.service.complete("a", typed("    for it"))
    assert len(engine.prompts) == 2
    bench.service.close()


REFUSALS = {
    "a secret": ({}, {"path": "/w/.env"}, "holds secrets"),
    "excluded": ({"exclude": ["*.sql"]}, {"path": "/w/a.sql"}, "greencode.exclude"),
    "another language": ({"languages": ["java"]}, {}, "greencode.languages"),
}


@pytest.mark.parametrize("invoked", [False, True], ids=["automatic", "invoked"])
@pytest.mark.parametrize(("settings", "changes", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_what_is_refused_costs_nothing_and_the_status_says_why(
    tmp_path: Path, settings: dict[str, Any], changes: dict[str, Any], reason: str, invoked: bool
) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine))
    bench.service.configure(settings)
    await bench.service.complete("other", REQUEST if not settings else typed("x"))
    before = len(engine.prompts)
    request = replace(typed("    for it", invoked=invoked), **changes)
    assert await bench.service.complete("a", request) == NOTHING
    await bench.settle()
    assert reason in (bench.statuses[-1].reason or "")
    assert len(engine.prompts) == before
    bench.service.close()


async def test_a_model_says_which_languages_are_completed(tmp_path: Path) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine, replace(MANIFEST, languages=("python",))))
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    assert await bench.service.complete("a", replace(REQUEST, language="rust")) == NOTHING
    bench.service.configure({"languages": ["rust"]})
    assert (await bench.service.complete("a", replace(REQUEST, language="rust"))).text == "em in items:"
    bench.service.close()


async def test_a_pause_stops_all_work_and_its_end_takes_it_up_again(tmp_path: Path) -> None:
    engine = FakeEngine()
    loads: list[Settings] = []

    def load(settings: Settings) -> Backend:
        loads.append(settings)
        return backend(engine)

    bench = Bench(tmp_path, load)
    bench.service.pause(paused=True)
    assert await bench.service.complete("a", REQUEST) == NOTHING
    await bench.settle()
    assert (bench.statuses[-1].state, loads, engine.prompts) == ("paused", [], [])
    bench.service.pause(paused=False)
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    bench.service.close()


async def test_a_pause_stops_what_runs(tmp_path: Path) -> None:
    engine = FakeEngine()

    def until_cancelled(control: object, prefix: str) -> None:
        while not control.cancelled():  # type: ignore[attr-defined]
            pass

    engine.before_token = until_cancelled
    bench = Bench(tmp_path, lambda settings: backend(engine))
    running = asyncio.create_task(bench.service.complete("a", REQUEST))
    await asyncio.get_running_loop().run_in_executor(None, engine.running.wait, 5)
    bench.service.pause(paused=True)
    with pytest.raises(SupersededError):
        await running
    bench.service.close()


async def test_on_battery_suggestions_may_wait_to_be_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, power="battery")
    bench.service.configure({"onBattery": "pause"})
    assert await bench.service.complete("a", typed("    for it")) == NOTHING
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    await bench.settle()
    assert bench.statuses[-1].power == "battery"
    bench.service.close()


async def test_on_battery_another_preference_decodes(tmp_path: Path) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine), power="battery")
    bench.service.configure({"onBattery": "energy"})
    await bench.service.complete("a", REQUEST)
    assert engine.configs[0].threshold == -1.0
    bench.service.close()


async def test_a_preference_for_the_session_is_obeyed_and_a_bad_one_reported(tmp_path: Path) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine))
    assert (bench.service.prefer("energy"), bench.service.prefer("fast")) == (0.0, None)
    await bench.service.complete("a", REQUEST)
    await bench.settle()
    assert engine.configs[0].threshold == -1.0
    assert bench.statuses[-1].preference == 0.0
    assert len(bench.notices) == 1
    bench.service.close()


async def test_what_became_of_a_suggestion_is_in_the_ledger(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    taken = await bench.show("a", typed("    for it"))
    bench.service.accepted(taken.number)
    await bench.show("b", typed("    for it"))
    bench.service.changed("b", lambda: "    for itk")
    await bench.settle()
    outcomes = [(row.outcome, row.accepted_characters) for row in bench.ledger.rows()]
    assert outcomes == [("accepted", 12), ("rejected", 0)]
    today = bench.ledger.today()
    assert (today.completions, today.shown, today.accepted) == (2, 2, 1)
    bench.service.close()


async def test_after_some_rejections_the_line_is_left_alone_unless_asked(tmp_path: Path) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine))
    for count in range(3):
        text = f"#{count}\n    for it"
        assert (await bench.show("a", typed(text))).text != ""
        bench.service.changed("a", partial(str, text + "k"))
    assert await bench.service.complete("a", typed("#9\n    for it")) == NOTHING
    assert (await bench.service.complete("a", typed("#9\n    for it", invoked=True))).text != ""
    assert (await bench.service.complete("a", typed("#9\n#\n    for it"))).text != ""
    bench.service.close()


async def test_the_ledger_is_kept_only_if_the_user_likes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.service.configure({"energy": {"report": False}})
    await bench.service.complete("a", REQUEST)
    await bench.settle()
    assert bench.ledger.rows() == []
    assert bench.statuses[-1].last is not None
    bench.service.close()


async def test_what_was_held_back_by_itself_is_not_held_back_when_asked_for(tmp_path: Path) -> None:
    engine = FakeEngine(confidences=(0.01,))
    bench = Bench(tmp_path, lambda settings: backend(engine))
    texts = [(await bench.service.complete("a", typed("    for it", invoked=asked))).text for asked in (False, True)]
    assert texts == ["", "em in items:"]
    assert (await bench.service.complete("a", typed("    for it"))).text == "em in items:"
    assert len(engine.prompts) == 3  # one for an alternative
    bench.service.close()


class Always(random.Random):
    """Draws every completion to be audited."""

    def random(self) -> float:
        return 0.0


async def test_a_completion_that_is_drawn_is_audited_after_its_answer(tmp_path: Path) -> None:
    engine = FakeEngine()
    bench = Bench(tmp_path, lambda settings: backend(engine), rng=Always())
    await bench.service.complete("a", REQUEST)
    await bench.settle()
    assert [row.outcome for row in bench.ledger.rows()] == ["shown", "audit"]
    assert engine.audited == [engine.prompts[0]]
    bench.service.close()


async def test_an_audit_that_fails_is_reported_once_and_does_not_come_again(tmp_path: Path) -> None:
    engine = FakeEngine()

    def fail(*arguments: object) -> list[int]:
        raise KeyError("secret")

    engine.full_depth_argmax = fail  # type: ignore[method-assign, assignment]  # any arguments
    bench = Bench(tmp_path, lambda settings: backend(engine), rng=Always())
    for document in ("a", "b"):
        assert (await bench.service.complete(document, REQUEST)).text != ""
    await bench.settle()
    assert bench.notices == ["An audit failed (KeyError inside greencode-lsp); later requests are still answered."]
    assert bench.statuses[-1].state == "ready"
    bench.service.close()


async def test_manual_means_that_nothing_is_done_unless_asked_for(tmp_path: Path) -> None:
    engine = FakeEngine()
    loads: list[Settings] = []

    def load(settings: Settings) -> Backend:
        loads.append(settings)
        return backend(engine)

    bench = Bench(tmp_path, load)
    bench.service.configure({"trigger": "manual"})
    assert await bench.service.complete("a", typed("    for it")) == NOTHING
    assert (loads, engine.prompts) == ([], [])
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    bench.service.close()


@pytest.mark.parametrize(
    ("setting", "text", "is_silent"),
    [
        ("inComments", "# for it", True),
        ("inComments", "x = 'for it", False),
        ("inStrings", "x = 'for it", True),
        ("inStrings", '"""\nfor it', True),
        ("inStrings", "# for it", False),
        ("inStrings", "for it", False),
    ],
)
async def test_comments_and_strings_may_be_left_alone_unless_asked_for(
    tmp_path: Path, setting: str, text: str, is_silent: bool
) -> None:
    engine = FakeEngine((f"{text}em in items:",))
    bench = Bench(tmp_path, lambda settings: backend(engine))
    bench.service.configure({setting: False})
    assert ((await bench.service.complete("a", typed(text))).text == "") is is_silent
    assert (await bench.service.complete("a", typed(text, invoked=True))).text == "em in items:"
    bench.service.close()


async def test_what_was_undone_is_offered_again_only_when_asked_for(tmp_path: Path) -> None:
    engine = FakeEngine(("abcdefgh",))
    bench = Bench(tmp_path, lambda settings: backend(engine))
    assert (await bench.show("a", typed("abcdef"))).text == "gh"
    for text in ("abcdefgh", "abcdef"):
        bench.service.changed("a", partial(str, text))
    assert await bench.service.complete("a", typed("abcdef")) == NOTHING
    assert (await bench.service.complete("a", typed("abcdef", invoked=True))).text == "gh"
    assert (await bench.service.complete("a", typed("abcde"))).text == "fgh"
    bench.service.close()


async def test_a_suggestion_remembered_is_what_the_model_would_say_now(tmp_path: Path) -> None:
    engine = FakeEngine((f"OLD = 1\n{MIDDLE}x = OLD", f"NEW = 1\n{MIDDLE}x = NEW"))
    bench = Bench(tmp_path, lambda settings: backend(engine))
    said = [(await bench.service.complete("a", typed(f"{name} = 1\n{MIDDLE}x = "))).text for name in ("OLD", "NEW")]
    assert said == ["OLD", "NEW"]
    bench.service.close()


MIDDLE = "y = [0, 0]\n" * 20
"""Less than the model sees."""


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_cancel_that_comes_just_as_the_rules_are_read_is_heard(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    asked: Future[None] = Future()
    check = IgnoreCheck()
    monkeypatch.setattr(vars(check)["_executor"], "submit", lambda *_: asked)
    asking = asyncio.ensure_future(check.reason("/a.py", (), ()))
    await asyncio.sleep(0)
    asked.set_result(None)
    for _ in range(turns):  # of the loop: the answer is on its way
        await asyncio.sleep(0)
    assert asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

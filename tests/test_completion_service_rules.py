"""What the service is not to do, or only when asked: refusals, pauses, battery, rejections, audits."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.ignore_check import IgnoreCheck
from greencode_lsp.completion.status import NOTHING
from greencode_lsp.completion.worker import SupersededError
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, FakeEngine, backend
from tests.service_bench import REQUEST, Bench, typed, until_cancelled

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

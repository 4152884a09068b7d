"""The service at work: overtaken, cancelled, typed along; a ledger row for each generation."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from greencode_lsp.completion.request import Request
from greencode_lsp.completion.status import NOTHING, Suggested
from greencode_lsp.completion.worker import SupersededError
from tests.fakes import FakeEngine, backend
from tests.service_bench import REQUEST, Bench, typed, until_cancelled


async def test_cancelled_work_is_in_the_ledger(tmp_path: Path) -> None:
    engine = FakeEngine()
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
    engine.before_token = lambda control, prefix: until_cancelled(control, prefix) if "for" in prefix else None
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

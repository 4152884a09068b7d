"""The service: settings, loading in the background, one sentence per failure, a ledger row per generation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from greencode_lsp.completion.pipeline import Backend, Request
from greencode_lsp.completion.service import CompletionService, Parts
from greencode_lsp.completion.status import NOTHING, Status, Suggested
from greencode_lsp.completion.worker import SupersededError
from greencode_lsp.energy.ledger import Ledger
from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.settings import Settings
from tests.fakes import FakeEngine, backend, meter

REQUEST = Request("    for it", 10, "python", invoked=True)


class Bench:
    """A service over fakes, and everything it said."""

    def __init__(self, folder: Path, load: Callable[[Settings], Backend] = lambda settings: backend()) -> None:
        self.told: list[str] = []
        self.statuses: list[Status] = []
        self.ledger = Ledger(folder / "ledger.sqlite")
        parts = Parts(load, lambda device, tell: meter(), lambda tell: self.ledger)
        self.service = CompletionService(self.told.append, self.statuses.append, parts)

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


async def test_a_model_that_cannot_be_loaded_is_told_once_and_mended_by_a_setting(tmp_path: Path) -> None:
    def load(settings: Settings) -> Backend:
        if settings.model == "/missing":
            raise ModelNotFoundError("There is no model.")
        return backend()

    bench = Bench(tmp_path, load)
    bench.service.configure({"model": "/missing"})
    assert [await bench.service.complete("a", REQUEST) for _ in range(2)] == [NOTHING, NOTHING]
    await bench.settle()
    assert (bench.told, bench.statuses[-1].state) == (["There is no model."], "failed")
    bench.service.configure({"model": "bundled"})
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    bench.service.close()


async def test_a_failure_is_one_sentence_without_the_users_text_and_later_requests_go_on(tmp_path: Path) -> None:
    engine = FakeEngine()

    def fail(control: object, prefix: str) -> None:
        raise KeyError(prefix)

    bench = Bench(tmp_path, lambda settings: backend(engine))
    engine.before_token = fail
    assert await bench.service.complete("a", REQUEST) == NOTHING
    await bench.settle()
    assert len(bench.told) == 1
    assert "KeyError" in bench.told[0]
    assert "for it" not in bench.told[0]
    engine.before_token = lambda control, prefix: None
    assert (await bench.service.complete("a", REQUEST)).text == "em in items:"
    bench.service.close()


async def test_cancelled_and_superseded_work_is_in_the_ledger(tmp_path: Path) -> None:
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
    assert bench.ledger.today().energy_j == 10.0
    bench.service.close()


async def test_a_bad_setting_is_told_once_however_often_it_is_sent(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(3):
        bench.service.configure({"preference": "fast"})
    assert len(bench.told) == 1
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

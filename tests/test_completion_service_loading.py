"""The service and its model: loaded in the background, replaced, missed, failing; one sentence for each."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.status import NOTHING, Suggested
from greencode_lsp.completion.worker import SupersededError
from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.settings import Settings
from tests.fakes import FakeEngine, backend
from tests.service_bench import REQUEST, Bench


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

"""The next suggestion is there when one is taken: where that is likely and allowed; wasted until it is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from greencode_lsp.completion.ahead import AHEAD, LIKELY, request_after
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.completion.worker import SupersededError
from greencode_lsp.power import PowerState
from tests.fakes import FakeEngine, backend
from tests.service_bench import Bench

CODE = "for item in items:\n    print(item)\n"


def request(text: str, *, invoked: bool = False) -> Request:
    return Request(text, len(text), "python", invoked=invoked)


class AheadBench(Bench):
    """A service whose model knows one loop."""

    def __init__(self, folder: Path, confidences: tuple[float, ...] = (), power: PowerState = "mains") -> None:
        self.engine = FakeEngine((CODE,), confidences=confidences)
        super().__init__(folder, lambda settings: backend(self.engine), power)

    async def outcomes(self) -> list[str]:
        while self.service._ahead._tasks:
            await asyncio.wait(self.service._ahead._tasks)
        await self.settle()
        return [row.outcome for row in self.ledger.rows()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AheadBench]:
    bench = AheadBench(tmp_path)
    bench.service.configure({"preference": "accuracy"})
    yield bench
    bench.service.close()


async def test_what_follows_a_suggestion_that_is_shown_is_there_when_it_is_taken(bench: AheadBench) -> None:
    assert (await bench.show("a", request("for it"))).text == "em in items:"
    assert await bench.outcomes() == ["shown", "superseded"]
    assert (await bench.show("a", request("for item in items:"))).text == "\n    print(item)"
    assert len(bench.engine.prompts) == 2
    assert (await bench.outcomes())[:2] == ["shown", "shown"]  # and what follows that one


async def test_a_request_that_comes_while_it_runs_takes_it_over(bench: AheadBench) -> None:
    await bench.show("a", request("for it"))
    assert (await bench.show("a", request("for item in items:"))).text == "\n    print(item)"
    assert len(bench.engine.prompts) == 2


async def test_what_was_computed_and_not_taken_is_wasted(bench: AheadBench) -> None:
    await bench.show("a", request("for it"))
    await bench.outcomes()
    await bench.show("a", request("other = 1"))
    assert (await bench.outcomes())[1] == "superseded"


@pytest.mark.parametrize("preference", ["balanced", "energy"])
async def test_at_a_sparing_preference_nothing_is_computed_that_nobody_asked_for(
    bench: AheadBench, preference: str
) -> None:
    bench.service.configure({"preference": preference})
    await bench.show("a", request("for it"))
    assert await bench.outcomes() == ["shown"]


async def test_on_battery_nothing_is_computed_that_nobody_asked_for(tmp_path: Path) -> None:
    bench = AheadBench(tmp_path, power="battery")
    bench.service.configure({"preference": "accuracy"})
    await bench.show("a", request("for it"))
    assert await bench.outcomes() == ["shown"]
    bench.service.close()


async def test_what_follows_a_doubtful_suggestion_is_not_computed(tmp_path: Path) -> None:
    bench = AheadBench(tmp_path, confidences=(LIKELY - 0.1,))
    bench.service.configure({"preference": "accuracy"})
    await bench.show("a", request("for it"))
    assert await bench.outcomes() == ["shown"]
    bench.service.close()


async def test_after_a_rejection_nothing_is_computed_that_nobody_asked_for(bench: AheadBench) -> None:
    await bench.show("a", request("for it"))
    await bench.outcomes()
    bench.service.changed("a", lambda: "for itX")
    await bench.show("a", request("    print(it"))
    assert await bench.outcomes() == ["rejected", "superseded", "shown"]


async def test_a_new_request_stops_it(bench: AheadBench) -> None:
    stopped: list[bool] = []

    def until_stopped(control: object, prefix: str) -> None:
        if "items:" in prefix:
            while not control.cancelled():  # type: ignore[attr-defined]
                pass
            stopped.append(True)

    bench.engine.before_token = until_stopped
    await bench.show("a", request("for it"))
    while len(bench.engine.prompts) < 2:
        await asyncio.sleep(0)
    assert (await bench.show("b", request("for i"))).text == "tem in items:"
    assert stopped == [True]


async def test_closing_the_document_stops_it(bench: AheadBench) -> None:
    bench.engine.before_token = lambda control, prefix: _wait(control) if "items:" in prefix else None
    await bench.show("a", request("for it"))
    bench.service.forget("a")
    assert (await bench.outcomes())[0] == "shown"


async def refuse(service: CompletionService) -> None:
    service.refuse("a", "There is a reason.")


async def close(service: CompletionService) -> None:
    service.forget("a")


ENDS: dict[str, Callable[[CompletionService], Awaitable[object]]] = {
    "a request answered from memory": lambda service: service.complete("a", request("for i")),
    "a request that is computed": lambda service: service.complete("a", request("    print(it")),
    "a refusal": refuse,
    "the document's end": close,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
async def test_a_request_that_took_it_over_is_stopped_with_it(
    bench: AheadBench, end: Callable[[CompletionService], Awaitable[object]]
) -> None:
    bench.engine.before_token = lambda control, prefix: _wait(control) if "items:" in prefix else None
    await bench.show("a", request("for it"))
    older = asyncio.create_task(bench.service.complete("a", request("for item in items:")))
    while AHEAD not in bench.service._running or bench.service._running[AHEAD].joined is None:
        await asyncio.sleep(0)
    await asyncio.wait_for(end(bench.service), 5)  # else it would wait for what nobody wants
    with pytest.raises(SupersededError):
        await asyncio.wait_for(older, 5)


def _wait(control: object) -> None:
    while not control.cancelled():  # type: ignore[attr-defined]
        pass


def test_the_place_after_a_suggestion_has_the_documents_line_ends() -> None:
    before = Request("a\r\nb", 4, "python", invoked=True)
    after = request_after(before, "\nc", before)
    assert (after.text, after.offset, after.invoked) == ("a\r\nb\r\nc", 7, False)

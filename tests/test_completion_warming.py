"""A document that the user turns to again is read in advance, for the place where he wrote last, for a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.completion import service as service_module
from greencode_lsp.completion.ahead import RECENT_S, may_warm, request_again
from greencode_lsp.completion.request import Request
from greencode_lsp.power import PowerState
from greencode_lsp.settings import Settings
from tests.fakes import FakeEngine, backend
from tests.service_bench import Bench, typed, until_cancelled

CODE = "for item in items:\n    print(item)\n"
TEXT = "for it"


class WarmingBench(Bench):
    """A service in which `a` was written in, then `b`."""

    def __init__(self, folder: Path, power: PowerState = "mains", **settings: Any) -> None:
        self.engine = FakeEngine((CODE,), confidences=(0.1,))  # doubtful: nothing is computed after what is shown
        super().__init__(folder, lambda _: backend(self.engine), power)
        self.service.configure({"preference": "accuracy", **settings})

    async def write(self) -> None:
        await self.show("a", typed(TEXT))
        await self.show("b", typed("    print(it"))
        await self.settle()

    async def focus(self, document: str = "a", text: str = TEXT) -> int:
        """Turn to a document; return how many prompts were read for that."""
        before = len(self.engine.prompts)
        await self.service.focused(document, text)
        while self.service._ahead._tasks:
            await asyncio.wait(self.service._ahead._tasks)
        await self.settle()
        return len(self.engine.prompts) - before


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "SETTLED_S", 0.0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[WarmingBench]:
    bench = WarmingBench(tmp_path)
    await bench.write()
    yield bench
    bench.service.close()


async def test_the_prompt_of_the_place_written_at_last_is_read(bench: WarmingBench) -> None:
    assert await bench.focus() == 1
    assert bench.engine.prompts[-1] == bench.engine.prompts[0]


async def test_it_counts_as_wasted(bench: WarmingBench) -> None:
    await bench.focus()
    assert [row.outcome for row in bench.ledger.rows()] == ["shown", "shown", "superseded"]


async def test_no_more_is_said_behind_it_than_what_was_healed_and_a_token(bench: WarmingBench) -> None:
    await bench.focus()
    assert bench.ledger.rows()[-1].tokens == 2


async def test_what_is_said_behind_it_is_never_shown(bench: WarmingBench) -> None:
    bench.service.configure({"preference": 0.9})  # what was shown before is forgotten
    await bench.focus()
    assert (await bench.show("a", typed(TEXT))).text == "em in items:"


async def test_a_document_that_was_not_written_in_is_not_read(bench: WarmingBench) -> None:
    assert await bench.focus("c") == 0


async def test_one_whose_place_is_gone_is_not_read(bench: WarmingBench) -> None:
    assert await bench.focus(text="another text") == 0


async def test_a_request_stops_it(bench: WarmingBench) -> None:
    bench.engine.before_token = lambda control, prefix: until_cancelled(control, prefix) if prefix == "for " else None
    bench.engine.running.clear()
    await bench.service.focused("a", TEXT)
    await asyncio.to_thread(bench.engine.running.wait, 5)
    assert (await asyncio.wait_for(bench.show("b", typed("    print(item")), 5)).text == ")"


async def test_it_ends_by_itself(bench: WarmingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "WARMING_S", 0.01)
    bench.engine.before_token = until_cancelled
    assert await asyncio.wait_for(bench.focus(), 5) == 1


REFUSED: dict[str, dict[str, Any]] = {
    "at a sparing preference": {"preference": "balanced"},
    "where the user asks himself": {"trigger": "manual"},
    "in a language that is off": {"languages": ["java"]},
}


@pytest.mark.parametrize("settings", REFUSED.values(), ids=REFUSED.keys())
async def test_nothing_is_read(bench: WarmingBench, settings: dict[str, Any]) -> None:
    bench.service.configure({"preference": "accuracy", **settings})
    assert await bench.focus() == 0


async def test_on_battery_nothing_is_read(tmp_path: Path) -> None:
    bench = WarmingBench(tmp_path, power="battery")
    await bench.write()
    assert await bench.focus() == 0
    bench.service.close()


async def test_while_paused_nothing_is_read(bench: WarmingBench) -> None:
    bench.service.pause(paused=True)
    assert await bench.focus() == 0


async def test_where_nothing_would_be_suggested_nothing_is_read(bench: WarmingBench) -> None:
    await bench.show("c", Request(TEXT + "\n", len(TEXT), "python"))
    assert await bench.focus("c", TEXT + "em") == 0  # the cursor is in a word now


MAY: dict[str, tuple[Callable[[Settings], Settings], float, bool]] = {
    "a moment ago": (lambda settings: settings, 1.0, True),
    "long ago": (lambda settings: replace(settings, unload_after="never"), RECENT_S, False),
    "when the model is gone": (lambda settings: replace(settings, unload_after=1), 60.0, False),
    "at a team's engine": (lambda settings: replace(settings, remote="https://engine.example"), 1.0, False),
}


@pytest.mark.parametrize(("change", "idle_s", "may"), MAY.values(), ids=MAY.keys())
def test_it_is_read_where_the_last_completion_was(
    change: Callable[[Settings], Settings], idle_s: float, *, may: bool
) -> None:
    assert may_warm(change(Settings()), idle_s) is may


AGAIN = {
    "as it was": ("ab|cd", "ab|cd"),
    "changed before it": ("ab|cd", "xyb|cd"),
    "taken at it": ("ab|cd", "abxy|cd"),
    "changed behind it": ("ab|cd", "ab|xy"),
}


@pytest.mark.parametrize(("asked", "now"), AGAIN.values(), ids=AGAIN.keys())
def test_the_place_is_found_again(asked: str, now: str) -> None:
    before = Request(asked.replace("|", ""), asked.index("|"), "python", invoked=True)
    again = request_again(before, now.replace("|", ""))
    assert again is not None
    assert (again.offset, again.invoked) == (now.index("|"), False)


def test_a_place_that_changed_on_both_sides_is_gone() -> None:
    assert request_again(Request("abcd", 2, "python"), "xbcy") is None

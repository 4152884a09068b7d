"""A document that the user turns to again is read in advance, for the place where he wrote last, for a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.completion import service as service_module
from greencode_lsp.completion.ahead import READING, request_again
from greencode_lsp.completion.request import Request
from greencode_lsp.power import PowerState
from tests.fakes import FakeEngine, backend
from tests.service_bench import Bench, typed, until_cancelled

CODE = "for item in items:\n    print(item)\n"
TEXT, OTHER = "for it", "    print(it"
LONG_S = 60.0


class ReadingBench(Bench):
    """A service in which `a` was written in, then `b`."""

    def __init__(self, folder: Path, power: PowerState = "mains") -> None:
        self.engine = FakeEngine((CODE,), confidences=(0.1,))  # doubtful: nothing is computed after what is shown
        super().__init__(folder, lambda _: backend(self.engine), power)
        self.service.configure({"preference": "accuracy"})

    async def write(self) -> None:
        await self.show("a", typed(TEXT, path="/w/a.py"))
        await self.show("b", typed(OTHER, path="/w/b.py"))
        await self.settle()

    async def focus(self, document: str = "a", text: str = TEXT) -> int:
        """Turn to a document; return how many prompts were read for that."""
        before = len(self.engine.prompts)
        await self.service.focused(document, lambda: text)
        await self.ended()
        return len(self.engine.prompts) - before

    async def ended(self) -> None:
        """Wait until nothing runs that nobody waits for."""
        while self.service._ahead._tasks:
            await asyncio.wait(self.service._ahead._tasks)
        await self.settle()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "SETTLED_S", 0.0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[ReadingBench]:
    bench = ReadingBench(tmp_path)
    await bench.write()
    yield bench
    bench.service.close()


async def test_the_prompt_of_the_place_written_at_last_is_read(bench: ReadingBench) -> None:
    assert await bench.focus() == 1
    assert bench.engine.prompts[-1] == bench.engine.prompts[0]


async def test_it_counts_as_wasted(bench: ReadingBench) -> None:
    await bench.focus()
    assert [row.outcome for row in bench.ledger.rows()] == ["shown", "shown", "superseded"]


async def test_one_token_is_said_behind_it(bench: ReadingBench) -> None:
    await bench.focus()
    assert bench.ledger.rows()[-1].tokens == 1


async def test_what_is_said_behind_it_is_never_shown(bench: ReadingBench) -> None:
    bench.service.configure({"preference": 0.9})  # what was shown before is forgotten
    await bench.focus()
    assert (await bench.show("a", typed(TEXT, path="/w/a.py"))).text == "em in items:"


async def test_the_status_goes_on_about_what_was_asked_for(bench: ReadingBench) -> None:
    shown = bench.statuses[-1].last
    await bench.focus()
    assert bench.statuses[-1].last == shown


async def test_it_is_no_sample_of_what_the_user_gets(bench: ReadingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(bench.service._recorder, "draw", lambda *what: drawn.append(what))
    await bench.focus()
    assert drawn == []


async def test_a_document_that_was_not_written_in_is_not_read(bench: ReadingBench) -> None:
    assert await bench.focus("c") == 0


async def test_a_document_whose_prompt_was_read_last_is_not_read_again(bench: ReadingBench) -> None:
    assert await bench.focus("b", OTHER) == 0
    assert await bench.focus() == 1
    assert await bench.focus() == 0


async def test_one_whose_place_is_gone_is_not_read(bench: ReadingBench) -> None:
    assert await bench.focus(text="another text") == 0


async def test_where_nothing_would_be_suggested_nothing_is_read(bench: ReadingBench) -> None:
    await bench.show("c", Request(TEXT + "\n", len(TEXT), "python"))
    await bench.focus()
    assert await bench.focus("c", TEXT + "em") == 0  # the cursor is in a word now


async def test_a_comment_where_the_user_wants_nothing_is_not_read(bench: ReadingBench) -> None:
    bench.service.configure({"preference": "accuracy", "inComments": False})
    assert await bench.focus(text="# " + TEXT + TEXT) == 0
    assert await bench.focus(text=TEXT + "  # or") == 0


async def test_a_file_that_is_ignored_meanwhile_is_not_read(bench: ReadingBench) -> None:
    bench.service.configure({"preference": "accuracy", "exclude": ["a.py"]})
    assert await bench.focus() == 0


async def test_turning_a_quiet_line_s_page_leaves_it_quiet(bench: ReadingBench) -> None:
    rejections = bench.service._rejections
    for _ in range(99):
        rejections.rejected("b", 0)
    await bench.focus()
    assert rejections.is_any


SETTINGS: dict[str, dict[str, Any]] = {
    "at a sparing preference": {"preference": "balanced"},
    "where the user asks himself": {"preference": "accuracy", "trigger": "manual"},
    "in a language that is off": {"preference": "accuracy", "languages": ["java"]},
    "at a team's engine": {"preference": "accuracy", "remote": "https://engine.example"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
async def test_nothing_is_read(bench: ReadingBench, settings: dict[str, Any]) -> None:
    bench.service.configure(settings)
    await bench.settle()
    assert await bench.focus() == 0


async def test_on_battery_nothing_is_read(tmp_path: Path) -> None:
    bench = ReadingBench(tmp_path, power="battery")
    await bench.write()
    assert await bench.focus() == 0
    bench.service.close()


async def test_while_paused_nothing_is_read(bench: ReadingBench) -> None:
    bench.service.pause(paused=True)
    assert await bench.focus() == 0


async def test_while_a_request_waits_nothing_is_read(bench: ReadingBench) -> None:
    bench.engine.before_token = lambda control, prefix: until_cancelled(control, prefix) if "print" in prefix else None
    asked = asyncio.create_task(bench.service.complete("b", typed("    print(item", invoked=True)))
    while not bench.service._worker.is_wanted:
        await asyncio.sleep(0)
    await bench.service.focused("a", lambda: TEXT)
    assert not bench.service._ahead._tasks
    bench.service.forget("b")
    await asyncio.wait({asked})


async def read_for_long(bench: ReadingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn to `a`, and let its prompt be read for as long as nothing stops it."""
    monkeypatch.setattr(service_module, "READING_S", LONG_S)
    reads = len(bench.engine.prompts)
    bench.engine.before_token = lambda control, prefix: until_cancelled(control, prefix) if prefix == "for " else None
    await bench.service.focused("a", lambda: TEXT)
    while len(bench.engine.prompts) == reads:
        await asyncio.sleep(0.001)


STOPS: dict[str, Callable[[ReadingBench], Any]] = {
    "a request that is computed": lambda bench: bench.show("b", typed("    pri")),
    "a request that is answered from memory": lambda bench: bench.show("b", typed("    print(ite", path="/w/b.py")),
    "turning to a document that is not read": lambda bench: bench.service.focused("c", lambda: ""),
    "a setting": lambda bench: bench.service.configure({"preference": "energy"}),
    "a pause": lambda bench: bench.service.pause(paused=True),
    "its document's end": lambda bench: bench.service.forget("a"),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS.keys())
async def test_it_is_stopped_by(
    bench: ReadingBench, monkeypatch: pytest.MonkeyPatch, stop: Callable[[ReadingBench], Any]
) -> None:
    await read_for_long(bench, monkeypatch)
    stopping = stop(bench)
    if asyncio.iscoroutine(stopping):
        await asyncio.wait_for(stopping, 5)
    await asyncio.wait_for(bench.ended(), 5)
    assert READING not in bench.service._worker._newest


async def test_it_ends_by_itself(bench: ReadingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "READING_S", 0.01)
    bench.engine.before_token = until_cancelled
    assert await asyncio.wait_for(bench.focus(), 5) == 1


async def test_a_page_that_is_turned_at_once_is_not_read(bench: ReadingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "SETTLED_S", LONG_S)
    await bench.service.focused("a", lambda: TEXT)
    await asyncio.sleep(0)
    assert READING in bench.service._worker._newest  # it waits
    assert await asyncio.wait_for(bench.focus("c", ""), 5) == 0


@pytest.mark.parametrize("end", ["turned", "closed"])
async def test_a_page_that_is_left_while_its_rules_are_looked_at_is_not_read(
    bench: ReadingBench, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    looked = asyncio.Event()

    async def reason(*place: object) -> None:
        await looked.wait()

    monkeypatch.setattr(bench.service._ignored, "reason", reason)
    turning = asyncio.create_task(bench.service.focused("a", lambda: TEXT))
    await asyncio.sleep(0)
    if end == "turned":
        await bench.service.focused("c", lambda: "")
    else:
        bench.service.forget("a")
    looked.set()
    await turning
    before = len(bench.engine.prompts)
    await bench.ended()
    assert len(bench.engine.prompts) == before


async def test_the_document_turned_to_last_is_the_one_that_is_read(bench: ReadingBench) -> None:
    await bench.show("c", typed("for i"))
    await bench.settle()
    before = len(bench.engine.prompts)
    await asyncio.gather(bench.service.focused("a", lambda: TEXT), bench.service.focused("b", lambda: OTHER))
    await bench.ended()
    assert bench.engine.prompts[before:] == [bench.engine.prompts[1]]


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
    assert again == replace(before, text=now.replace("|", ""), offset=now.index("|"), invoked=False, unasked=True)


def test_a_place_that_changed_on_both_sides_is_gone() -> None:
    assert request_again(Request("abcd", 2, "python"), "xbcy") is None

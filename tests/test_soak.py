"""The soak at a hundredth of its size, without waiting and without limits on time; and what its own rulers measure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from greencode_lsp.completion.backend import load_backend
from greencode_lsp.settings import Settings
from tests.fake_server import SLOW
from tests.soak import cancels, malformed, trace, traffic
from tests.soak.document import Document, settle
from tests.soak.figures import Figure, generations, percentile
from tests.soak.trace import Asked, stale, typed_through
from tests.soak.wire import REQUEST_CANCELLED, Call, connect

SCALE = 0.01
FAKE = ("-m", "tests.fake_server")
KNOWN = "def append_items(items, value):\n    for it"
"""The fake server's model goes on here."""


async def at_once(seconds: float) -> None:
    """Sleep as a test may."""
    await asyncio.sleep(0)


def values(figures: Sequence[Figure], *names: str) -> list[float | None]:
    by_name = {figure.name: figure.value for figure in figures}
    return [by_name[name] for name in names]


async def test_a_replayed_trace_is_answered_once_each_without_errors_and_never_stale(home: Path) -> None:
    figures = await trace.run(home, SCALE, at_once)
    assert values(figures, "keystrokes", "other errors", "not answered exactly once", "stale answers") == [3, 0, 0, 0]


async def test_traffic_over_several_documents_is_answered_once_each_without_errors(home: Path) -> None:
    figures = await traffic.run(home, SCALE)
    wanted = ("not answered exactly once", "answers to nothing", "other errors", "sentences shown", "exit code")
    assert values(figures, *wanted) == [0, 0, 0, 0, 0]
    assert all(value and value > 0 for value in values(figures, "cancelled", "superseded (null)"))


@pytest.mark.parametrize("make", malformed.KINDS, ids=lambda make: make.__name__)
async def test_broken_messages_change_nothing_for_the_requests_after_them(make: malformed.Make, home: Path) -> None:
    async with connect(home, FAKE) as wire:
        probe = await malformed.begin(wire, KNOWN)
        is_well, owed = await malformed.storm(wire, probe, make, round(malformed.MESSAGES * SCALE))
        assert is_well
        assert all(len(call.answers) <= 1 for call in owed)


async def test_a_message_in_two_pieces_is_one_message(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        assert await malformed.half_then_rest(wire, await malformed.begin(wire, KNOWN))


async def test_a_message_that_is_never_finished_costs_one_more_and_no_later_one(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        probe = await malformed.begin(wire, KNOWN)
        wire.patience_s = 3
        assert await malformed.half_alone(wire, probe)


async def test_a_big_change_changes_nothing_for_the_requests_after_it(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        is_well, _ = await malformed.big_change(
            wire, await malformed.begin(wire, KNOWN), round(malformed.BIG_BYTES * SCALE)
        )
        assert is_well


async def test_fifty_requests_cancelled_while_they_wait_start_no_generation(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        busy = Document(wire, "file:///busy.py", SLOW[:6], 6)
        busy.open()
        running, _ = busy.request(trigger=1)
        waiting: list[tuple[int, Call]] = []
        for number in range(cancels.QUEUED):
            document = Document(wire, f"file:///waiting_{number}.py", KNOWN, len(KNOWN))
            document.open()
            waiting.append(document.request(trigger=1))
        for call_id, call in waiting:
            wire.cancel(call_id)
            await wire.answer(call)
        wire.cancel(running)
        await settle(wire)
        assert await wire.end() == 0
    assert {call.error_code for _, call in waiting} == {REQUEST_CANCELLED}
    assert [outcome for outcome, _ in generations(home)] == ["cancelled"]


def test_a_cancel_is_heard_in_decode_and_in_prefill() -> None:
    idle = cancels.Idle(load_backend(Settings()))
    assert len(idle.measure("decode", 2)) == 2
    assert len(idle.measure("prefill", 2)) == 2
    idle.close()


def test_the_trace_types_the_text_and_nothing_else_at_a_persons_pace() -> None:
    text = "def f(x):\n    if x:\n        return x\n" * 20
    keys = trace.trace(text, 200)
    assert len(keys) == 200
    assert text.startswith("".join(key.text for key in keys))
    assert [key.text for key in keys[8:11]] == [":", "\n    ", "i"]
    assert all(0.08 <= key.gap_s <= 0.25 or 1.0 <= key.gap_s <= 2.0 for key in keys)
    assert keys == trace.trace(text, 200)


def answered(version: int, order: int, text: str | None, offset: int = 0) -> Asked:
    """Return a request of the document's version whose answer was the `order`th to come."""
    result = None if text is None else {"items": [{"insertText": text}] if text else []}
    call = Call("", 0.0, asyncio.Future(loop=asyncio.new_event_loop()), [{"result": result}], order=order)
    return Asked(version, call, offset, version)


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ([answered(1, 1, "a"), answered(2, 2, "b")], 0),
        ([answered(1, 2, "a"), answered(2, 1, "b")], 1),
        ([answered(1, 2, None), answered(2, 1, "b")], 0),
        ([answered(1, 2, ""), answered(2, 1, "b")], 0),
        ([answered(1, 2, "a"), answered(2, 1, None)], 1),
    ],
    ids=["in order", "after a newer one", "null", "nothing to suggest", "after a newer null"],
)
def test_an_answer_is_stale_where_a_newer_one_came_before_it(asked: list[Asked], count: int) -> None:
    assert len(stale(asked)) == count


@pytest.mark.parametrize(
    ("second", "count"),
    [("tem in items:", 1), ("tem in values:", 0), ("", 0), (None, 0)],
    ids=["the rest", "another", "nothing", "null"],
)
def test_an_answer_is_typed_through_where_it_is_the_rest_of_the_one_before(second: str | None, count: int) -> None:
    asked = [answered(1, 1, "item in items:", 4), answered(2, 2, second, 5)]
    assert len(typed_through(asked, "for i")) == count


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.95, 4.0), (0.25, 1.0)])
def test_a_percentile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value
    assert percentile([], share) is None


@pytest.mark.parametrize(
    ("value", "limit", "kept"), [(5, 5, True), (5.1, 5, False), (None, 5, False), (None, None, True)]
)
def test_a_limit_is_kept_by_a_value_that_is_there(value: float | None, limit: float | None, kept: bool) -> None:
    assert Figure("x", value, limit).is_kept is kept

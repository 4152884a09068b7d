"""Broken messages: bodies that are no JSON, wrong types, unknown methods, impossible positions, half a message, 50 MB.

After each batch a known request must get the answer that it got before any of them. Each kind has a session of its own,
so that one flaw does not hide the next.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.soak.document import Document, source
from tests.soak.figures import Figure
from tests.soak.wire import SERVE, Call, Wire, connect, encode, frame

MESSAGES = 10_000
BATCH = 50
BIG_BYTES = 50_000_000
SEED = 13
ASKED = "textDocument/inlineCompletion"
METHODS = (
    *(ASKED, "textDocument/didOpen", "textDocument/didChange", "textDocument/didClose", "workspace/executeCommand"),
    *("workspace/didChangeConfiguration", "$/cancelRequest", "textDocument/completion", "$/setTrace"),
)
JUNK: tuple[Any, ...] = (None, True, -1, 2**40, 1.5, "", "x" * 300, [], [1, [2]], {}, {"uri": 7}, {"a": {"b": None}})
Make = Callable[[random.Random, int], tuple[bytes, str]]
"""Seeded chance and a fresh id -> the bytes of a message, and the method where it is a request that has that id."""


def no_json(dice: random.Random, call_id: int) -> tuple[bytes, str]:
    """A body that is not JSON, or not UTF-8."""
    body = encode({"jsonrpc": "2.0", "id": call_id, "method": ASKED, "params": {}})
    broken = (body[: dice.randrange(1, len(body))], bytes(dice.randbytes(40)), b"\xff\xfe" + body, b"{" * 200, b"NaN,")
    return frame(dice.choice(broken)), ""


def no_message(dice: random.Random, call_id: int) -> tuple[bytes, str]:
    """JSON that is no message: no version, no method, ids of odd types, answers to nothing."""
    junk = dice.choice(JUNK)
    return frame(
        encode(
            dice.choice(
                (
                    junk,
                    {"jsonrpc": "2.0"},
                    {"jsonrpc": "1.0", "method": ASKED, "params": {}},
                    {"jsonrpc": "2.0", "method": junk, "params": {}},
                    {"jsonrpc": "2.0", "id": [1], "method": ASKED, "params": junk},
                    {"jsonrpc": "2.0", "id": 10**9 + call_id, "result": junk},
                    {"jsonrpc": "2.0", "id": 10**9 + call_id, "error": junk},
                )
            )
        )
    ), ""


def wrong_types(dice: random.Random, call_id: int) -> tuple[bytes, str]:
    """A known request whose parameters are missing or of the wrong type."""
    method = dice.choice((ASKED, "workspace/executeCommand"))
    params: Any = {"textDocument": {"uri": "file:///probe.py"}, "position": {"line": 0, "character": 0}, "context": {}}
    params[dice.choice(sorted(params))] = dice.choice(JUNK)
    message = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": dice.choice((params, dice.choice(JUNK)))}
    if dice.random() < 0.2:
        del message["params"]
    return frame(encode(message)), method


def wrong_notifications(dice: random.Random, call_id: int) -> tuple[bytes, str]:
    """A known notification whose parameters are missing or of the wrong type."""
    message = {"jsonrpc": "2.0", "method": dice.choice(METHODS[1:]), "params": dice.choice(JUNK)}
    if dice.random() < 0.2:
        del message["params"]
    return frame(encode(message)), ""


def unknown_methods(dice: random.Random, call_id: int) -> tuple[bytes, str]:
    """A request or a notification that no server knows."""
    method = dice.choice(("", "textDocument/", "$/x", "greencode/none", "a" * 200, "textDocument/inlineCompletion "))
    message = {"jsonrpc": "2.0", "method": method, "params": dice.choice(JUNK)}
    if dice.random() < 0.5:
        return frame(encode(message)), ""
    return frame(encode(message | {"id": call_id})), method or "(empty)"


def impossible_places(dice: random.Random, call_id: int) -> tuple[bytes, str]:
    """A request at a position that is outside the document, or in a document that is not open."""
    uri = dice.choice(
        ("file:///probe.py", "file:///not/open.py", "untitled:none", "", "file:///%00", "http://x/y", "\0")
    )
    line, column = (dice.choice((0, 1, 10**6, 2**31 - 1, 2**31, 2**63, -1)) for _ in range(2))
    position, context = {"line": line, "character": column}, {"triggerKind": dice.choice((1, 2, 99))}
    params = {"textDocument": {"uri": uri}, "position": position, "context": context}
    return frame(encode({"jsonrpc": "2.0", "id": call_id, "method": ASKED, "params": params})), ASKED


def odd_changes(dice: random.Random, call_id: int) -> tuple[bytes, str]:
    """A change of a document that is not open, or with a range that is none."""
    place = {"line": dice.choice((0, 10**6, 2**31 - 1)), "character": dice.choice((0, 10**6))}
    change = {"range": {"start": place, "end": dice.choice((place, {"line": 0, "character": 0}))}, "text": "x"}
    document = {
        "uri": dice.choice(("file:///not/open.py", "", "file:///scratch.py")),
        "version": dice.choice((0, -1, 9)),
    }
    params = {"textDocument": document, "contentChanges": dice.choice(([change], [], [change] * 3, [{"text": "y"}]))}
    return frame(encode({"jsonrpc": "2.0", "method": "textDocument/didChange", "params": params})), ""


KINDS: tuple[Make, ...] = (
    *(no_json, no_message, wrong_types, wrong_notifications, unknown_methods, impossible_places, odd_changes),
)


@dataclass
class Probe:
    """The request that must be answered as before."""

    document: Document
    expected: str | None = None

    async def is_well(self) -> bool:
        """Ask again; False where the answer differs or does not come."""
        try:
            call = self.document.request(trigger=1)[1]
            await self.document.wire.answer(call)
        except (asyncio.TimeoutError, ConnectionError):
            return False
        if self.expected is None:
            self.expected = call.text
        return call.error_code is None and call.text == self.expected


async def begin(wire: Wire, text: str) -> Probe:
    """Open the document of the probe and one to be spoilt; return the probe after its first answer."""
    document = Document(wire, "file:///probe.py", text, len(text))
    document.open()
    Document(wire, "file:///scratch.py", "x = 1\n", 0).open()
    probe = Probe(document)
    assert await probe.is_well() and probe.expected, "the probe must have a suggestion to begin with"
    return probe


async def storm(wire: Wire, probe: Probe, make: Make, count: int) -> tuple[bool, list[Call]]:
    """Send `count` messages of a kind; return whether every probe was answered as before, and the requests sent."""
    dice, owed = random.Random(f"{SEED} {make.__name__}"), list[Call]()
    ids = itertools.count(10_000_000)
    for batch in range(0, count, BATCH):
        for _ in range(min(BATCH, count - batch)):
            call_id = next(ids)
            data, method = make(dice, call_id)
            if method:
                owed.append(wire.expect(call_id, method))
            wire.raw(data)
        if not await probe.is_well():
            return False, owed
    return True, owed


async def half_then_rest(wire: Wire, probe: Probe) -> bool:
    """A message that comes in two pieces, the second after a while."""
    data = frame(encode({"jsonrpc": "2.0", "method": "$/unknown", "params": {"text": "x" * 1000}}))
    wire.raw(data[:500])
    await wire.stdin.drain()
    wire.raw(data[500:])
    return await probe.is_well()


async def half_alone(wire: Wire, probe: Probe) -> bool:
    """A message that is never finished: the next one begins inside it, and the one after that must be answered."""
    data = frame(encode({"jsonrpc": "2.0", "method": "$/unknown", "params": {"text": "x" * 100}}))
    wire.raw(data[:-40])
    lost = probe.document.request(trigger=1)[1]
    lost.answers.append({})  # its beginning completes the half message: no answer is owed
    return await probe.is_well()


async def big_change(wire: Wire, probe: Probe, size: int) -> tuple[bool, float]:
    """Open a document, make it `size` bytes with one change, ask in it and close it; return the seconds it took."""
    line = "value = [1, 2, 3]  # a line like any other\n"
    document = Document(wire, "file:///big.py", "x = 1\n", 0)
    document.open()
    begun_s = time.perf_counter()
    document.type(line * (size // len(line)))
    try:
        await wire.answer(document.request(trigger=1)[1])
    except asyncio.TimeoutError:
        return False, time.perf_counter() - begun_s
    elapsed_s = time.perf_counter() - begun_s
    document.close()
    return await probe.is_well(), elapsed_s


async def run(home: Path, scale: float, command: Sequence[str] = SERVE, text: str = "") -> list[Figure]:
    """Send the broken messages; return the figures. `text` is the probe's document, its cursor at the end."""
    text = text or source("textwrap", 3000, 6000) + "        return "
    count = max(BATCH, round(MESSAGES * scale)) // len(KINDS)
    figures = [Figure("messages", count * len(KINDS))]
    twice = 0
    for make in KINDS:
        async with connect(home, command) as wire:
            is_well, owed = await storm(wire, await begin(wire, text), make, count)
            twice += sum(len(call.answers) > 1 for call in owed) + len(wire.unexpected) * (make is not no_message)
            figures.append(Figure(f"{make.__name__}: later requests spoilt", int(not is_well), 0))
            if owed:
                figures.append(Figure("  never answered, share", sum(not call.answers for call in owed) / len(owed)))
    for half in (half_then_rest, half_alone):
        async with connect(home, command) as wire:
            figures.append(
                Figure(f"{half.__name__}: later requests spoilt", not await half(wire, await begin(wire, text)), 0)
            )
    async with connect(home, command) as wire:
        size = round(BIG_BYTES * min(1.0, scale))
        is_well, elapsed_s = await big_change(wire, await begin(wire, text), size)
        figures.append(Figure(f"a change of {size / 1e6:g} MB: later requests spoilt", not is_well, 0))
        figures.append(Figure("  and the request in it took, s", elapsed_s))
    return [*figures, Figure("broken requests answered twice", twice, 0)]

"""Many requests over several documents: every one answered once, memory flat.

A request is waited for, cancelled at once or superseded at once, after an edit somewhere in one of eight documents.
`maxNewTokens` is 8, so that what is tried is the traffic and not the decoder's patience.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from pathlib import Path

from tests.soak.document import Document, source
from tests.soak.figures import Figure, rss_bytes
from tests.soak.shared import engines_of
from tests.soak.wire import REQUEST_CANCELLED, SERVE, Call, Wire, connect

REQUESTS = 20_000
MODULES = ("shlex", "textwrap", "bisect", "heapq", "fnmatch", "calendar", "string", "queue")
CHARACTERS = 3300
WORDS = ("x", "self", "return ", "for ", "(", "\n    ", "if value", "name = ")
SAMPLES = 100
WARM_SHARE = 0.2
"""Memory is compared from here on: caches and the allocator have what they need by then."""
SEED = 12


class Storm:
    """One session's traffic."""

    def __init__(self, wire: Wire, seed: int = SEED) -> None:
        self.wire, self._dice = wire, random.Random(seed)
        self.documents = [_document(wire, module) for module in MODULES]
        self.calls: list[Call] = []

    async def step(self) -> None:
        """Edit somewhere, ask, and go on in one of three ways."""
        document = self._dice.choice(self.documents)
        self._edit(document)
        call_id, call = self._ask(document)
        way = self._dice.random()
        if way < 0.25:
            self.wire.cancel(call_id)
        elif way < 0.5:
            document.type("e")
            _, call = self._ask(document)
        await self.wire.answer(call)

    def _ask(self, document: Document) -> tuple[int, Call]:
        call_id, call = document.request()
        self.calls.append(call)
        return call_id, call

    def _edit(self, document: Document) -> None:
        """Type a word somewhere; a document that has grown too long loses what it has beyond its length."""
        if self._dice.random() < 0.3:
            document.cursor = self._dice.randrange(len(document.text))
        document.type(self._dice.choice(WORDS))
        if len(document.text) > CHARACTERS * 1.5:
            document.replace(CHARACTERS, len(document.text), "\n")


def _document(wire: Wire, module: str) -> Document:
    document = Document(wire, f"file:///{module}.py", source(module, CHARACTERS), 0)
    document.open()
    return document


async def run(home: Path, scale: float, command: Sequence[str] = SERVE, model: str = "bundled") -> list[Figure]:
    """Send the traffic to a model of `greencode.model`; return its figures."""
    count = max(10, round(REQUESTS * scale))
    memory: list[tuple[int, int, int]] = []
    async with connect(home, command, {"greencode": {"maxNewTokens": 8, "model": model}}) as wire:
        storm = Storm(wire)
        while len(storm.calls) < count:
            await storm.step()
            if len(storm.calls) >= len(memory) * count / SAMPLES:
                engine = _engine_bytes(wire)
                memory.append((len(storm.calls), rss_bytes(wire.process.pid) - engine, engine))
        for call in storm.calls:
            await wire.answer(call)
        code = await wire.end()
    warm = [sizes for at, *sizes in memory if at >= WARM_SHARE * count]
    codes = [call.error_code for call in storm.calls]
    return [
        Figure("requests", len(storm.calls)),
        Figure("not answered exactly once", sum(len(call.answers) != 1 for call in storm.calls), 0),
        Figure("answers to nothing", len(wire.unexpected), 0),
        Figure("cancelled", sum(code == REQUEST_CANCELLED for code in codes)),
        Figure("superseded (null)", sum(call.error_code is None and call.text is None for call in storm.calls)),
        Figure("answers with a suggestion", sum(bool(call.text) for call in storm.calls)),
        Figure("other errors", sum(code not in (None, REQUEST_CANCELLED) for code in codes), 0),
        Figure("sentences shown", len(wire.notices), 0),
        *_growth("server", [server for server, _ in warm]),
        *_growth("shared engine", [engine for _, engine in warm if engine]),
        Figure("exit code", code, 0),
    ]


def _engine_bytes(wire: Wire) -> int:
    """Return the resident memory of the shared engine; 0 where the model is the server's own."""
    return next((rss_bytes(process.pid) for process in engines_of(wire)), 0)


def _growth(process: str, sizes: Sequence[int]) -> list[Figure]:
    """Return a process's memory when it was warm and at the end; nothing of one that was not there."""
    if not sizes:
        return []
    part = max(1, len(sizes) // 8)
    first, last = statistics.median(sizes[:part]), statistics.median(sizes[-part:])
    return [
        Figure(f"memory of the {process} when warm, MB", first / 1e6),
        Figure(f"memory of the {process} at the end, MB", last / 1e6),
        Figure(f"growth of the {process}, share", last / first - 1, 0.02),
    ]

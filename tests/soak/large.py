"""Large documents: what a key costs in one, and how long another document waits meanwhile.

The server has a model that knows its text by heart, so that what is timed is the document's handling.
"""

from __future__ import annotations

from pathlib import Path

from tests.soak.document import Document
from tests.soak.figures import Figure, percentile
from tests.soak.wire import Call, Wire, connect

FAKE = ("-m", "tests.fake_server")
KEYS = 300
LINE = 1_000_000
LINES = "    value = compute(value, 12345)  # forty-nine bytes\n" * 92_000
"""5 MB in lines."""
KNOWN, ANSWER = "    for it", "em in items:"


async def run(home: Path, scale: float) -> list[Figure]:
    """Type into a line of 1 MB beside an ordinary document, then into a document of 5 MB."""
    keys = max(10, round(KEYS * scale))
    async with connect(home, FAKE) as wire:
        other = Document(wire, "file:///other.py", KNOWN, len(KNOWN))
        other.open()
        await wire.answer(other.request(trigger=1)[1])
        beside, refused, reasons = await _beside_a_long_line(wire, other, keys)
        key_ms = await _keys(wire, keys)
        code = await wire.end()
    return [
        Figure("keys in a line of 1 MB", keys),
        Figure("other document's answer p95, ms", percentile([call.elapsed_ms for call in beside], 0.95), 50),
        Figure("other document's slowest answer, ms", max(call.elapsed_ms for call in beside)),
        Figure("other document's answers that were wrong", sum(call.text != ANSWER for call in beside), 0),
        Figure("the long line's answers with a suggestion", sum(bool(call.text) for call in refused), 0),
        Figure("the long line was not refused with a reason", int(not reasons), 0),
        Figure("key in 5 MB of lines p50, ms", percentile(key_ms, 0.5)),
        Figure("key in 5 MB of lines p95, ms", percentile(key_ms, 0.95), 20),
        Figure("exit code", code, 0),
    ]


async def _beside_a_long_line(wire: Wire, other: Document, keys: int) -> tuple[list[Call], list[Call], set[str]]:
    """Return the answers of the other document and of the long line, and why there is nothing in that."""
    long = Document(wire, "file:///long.py", "x = 1;" * (LINE // 6), LINE // 2)
    long.open()
    beside, refused, reasons = [], [], set[str]()
    for _ in range(keys):
        long.type("y")
        refused.append(long.request(trigger=1)[1])
        call = other.request(trigger=1)[1]
        await wire.answer(call)
        beside.append(call)
        reasons |= {status["reason"] for status in wire.statuses if "longer than" in (status["reason"] or "")}
    for call in refused:
        await wire.answer(call)
    reasons |= {status["reason"] for status in wire.statuses if "longer than" in (status["reason"] or "")}
    long.close()
    return beside, refused, reasons


async def _keys(wire: Wire, keys: int) -> list[float]:
    """Return how long each key takes until the server has read it: a request that it knows nothing of comes after."""
    large = Document(wire, "file:///large.py", LINES, len(LINES) // 2)
    large.open()
    await wire.answer(wire.request("greencode/unknown", None)[1])
    found = []
    for _ in range(keys):
        large.type("z")
        call = wire.request("greencode/unknown", None)[1]
        await wire.answer(call)
        found.append(call.elapsed_ms)
    return found

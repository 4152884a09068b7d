"""A typing trace: code of the standard library, keystroke by keystroke, asked for as VS Code asks.

Per keystroke: didChange, `$/cancelRequest` of the request that is not answered yet, 50 ms later the next request. The
gaps are generated (seeded): 80 to 250 ms between keys, and pauses of one to two seconds where a person would think.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.document import Document, settle, source
from tests.soak.figures import Figure, generations, percentile
from tests.soak.wire import REQUEST_CANCELLED, SERVE, Call, Wire, connect

KEYSTROKES = 300
MODULE, START, BEFORE, AFTER = "shlex", 4000, 2200, 1100
"""About 1,000 tokens of the bundled tokenizer around the cursor."""
DEBOUNCE_S = 0.05
PAUSE_SHARE = 0.04
WARM_UP = 5
SEED = 11
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Keystroke:
    """What one key inserts, and how long the hand took to press it."""

    gap_s: float
    text: str


def trace(text: str, count: int, seed: int = SEED) -> list[Keystroke]:
    """Return the keystrokes that type the beginning of `text`; a new line comes with its indentation."""
    dice = random.Random(seed)
    keys: list[Keystroke] = []
    at = 0
    while at < len(text) and len(keys) < count:
        end = at + 1
        if text[at] == "\n":
            while end < len(text) and text[end] == " ":
                end += 1
        is_pause = dice.random() < PAUSE_SHARE
        keys.append(Keystroke(dice.uniform(1.0, 2.0) if is_pause else dice.uniform(0.08, 0.25), text[at:end]))
        at = end
    return keys


@dataclass
class Asked:
    """A request of the trace."""

    call_id: int
    call: Call
    offset: int
    version: int
    cancelled_ms: float | None = None
    """Its age when it was cancelled."""


@dataclass
class Typist:
    """Types the trace and keeps every request."""

    document: Document
    sleep: Sleep
    asked: list[Asked] = field(default_factory=list)

    async def type(self, keys: Sequence[Keystroke]) -> None:
        for key in keys:
            self.document.type(key.text)
            self._cancel_pending()
            await self.sleep(DEBOUNCE_S)
            call_id, call = self.document.request()
            self.asked.append(Asked(call_id, call, self.document.cursor, self.document.version))
            await self.sleep(key.gap_s - DEBOUNCE_S)
        for asked in self.asked:
            await self.document.wire.answer(asked.call)

    def _cancel_pending(self) -> None:
        if not self.asked or self.asked[-1].call.answered.done():
            return
        last = self.asked[-1]
        last.cancelled_ms = (time.perf_counter() - last.call.sent_s) * 1000
        self.document.wire.cancel(last.call_id)


def typed_through(asked: Sequence[Asked], text: str) -> list[Asked]:
    """Return the requests whose answer is the rest of a suggestion shown before, along which the user typed."""
    found, shown = [], (0, "")
    for one in asked:
        answer = one.call.text
        if answer is None:
            continue
        start, suggestion = shown
        typed = text[start : one.offset]
        if suggestion.startswith(typed) and answer and answer == suggestion[len(typed) :] and typed:
            found.append(one)
        if answer:
            shown = (one.offset, answer)
    return found


def stale(asked: Sequence[Asked]) -> list[Asked]:
    """Return the requests answered with a suggestion after a later request was: that had a newer version."""
    found, latest = [], 0
    for one in sorted(asked, key=lambda a: a.call.order):
        if one.call.text and one.version < latest:
            found.append(one)
        latest = max(latest, one.version)
    return found


async def probe_stale(document: Document, count: int) -> int:
    """Ask, change and ask for a fence, all at once; return how many old answers came with text after the fence's.

    The fence is a request that the server answers as soon as it has read it, and so after it has read the change.
    """
    late, dice = 0, random.Random(SEED)
    for _ in range(count):
        document.cursor = dice.randrange(len(document.text))
        _, call = document.request(trigger=1)
        document.type("x")
        _, fence = document.wire.request("greencode/unknown", None)
        await document.wire.answer(call)
        await document.wire.answer(fence)
        late += bool(call.text) and call.order > fence.order
        document.replace(document.cursor - 1, document.cursor, "")
    return late


async def run(
    home: Path,
    scale: float,
    sleep: Sleep = asyncio.sleep,
    command: Sequence[str] = SERVE,
    model: str = "bundled",
) -> list[Figure]:
    """Type the trace with a model of `greencode.model`; return its figures."""
    count = max(3, round(KEYSTROKES * scale))
    before, rest = source(MODULE, BEFORE, START), source(MODULE, 4000, START + BEFORE)
    keys = trace(rest, count)
    typed = sum(len(key.text) for key in keys)
    async with connect(home, command, {"greencode": {"model": model}}) as wire:
        document = Document(wire, "file:///typed.py", before + "\n" + rest[typed : typed + AFTER], len(before))
        document.open()
        for _ in range(WARM_UP):
            await wire.answer(document.request()[1])
        await settle(wire)
        computed_before = len(generations(home))
        typist = Typist(document, sleep)
        await typist.type(keys)
        text = document.text
        await settle(wire)
        computed = generations(home)[computed_before:]
        late = await probe_stale(document, max(2, round(30 * scale)))
        assert await wire.end() == 0
    return _figures(typist.asked, text, late, computed, wire)


def _figures(asked: list[Asked], text: str, late: int, computed: Sequence[tuple[str, int]], wire: Wire) -> list[Figure]:
    answered = [one for one in asked if one.call.error_code is None]
    cached = typed_through(asked, text)
    cached_ms = [one.call.elapsed_ms for one in cached]
    answer_ms = [one.call.elapsed_ms for one in answered]
    at_least_ms = answer_ms + [one.cancelled_ms or 0.0 for one in asked if one.call.error_code is not None]
    wasted = sum(tokens for outcome, tokens in computed if outcome in ("superseded", "cancelled"))
    errors = [one for one in asked if one.call.error_code not in (None, REQUEST_CANCELLED)]
    others = [one.call.elapsed_ms for one in answered if one not in cached]
    return [
        Figure("keystrokes", len(asked)),
        Figure("answer p50, ms", percentile(answer_ms, 0.5), 60),
        Figure("answer p95, ms", percentile(answer_ms, 0.95), 150),
        Figure("p95 counting cancelled ones at their age, ms", percentile(at_least_ms, 0.95)),
        Figure("answers not typed through, p50, ms", percentile(others, 0.5)),
        Figure("answers not typed through, p95, ms", percentile(others, 0.95)),
        Figure("typed-through answers", len(cached)),
        Figure("typed-through answer p50, ms", percentile(cached_ms, 0.5)),
        Figure("typed-through answer p95, ms", percentile(cached_ms, 0.95), 5),
        Figure("answers with a suggestion", sum(bool(one.call.text) for one in asked)),
        Figure("answers with null", sum(one.call.error_code is None and one.call.text is None for one in asked)),
        Figure("cancelled", sum(one.call.error_code == REQUEST_CANCELLED for one in asked)),
        Figure("other errors", len(errors), 0),
        Figure("not answered exactly once", sum(len(one.call.answers) != 1 for one in asked), 0),
        Figure("stale answers", len(stale(asked)) + late, 0),
        Figure("generations", len(computed)),
        Figure("tokens", sum(tokens for _, tokens in computed)),
        Figure("wasted tokens, share", wasted / max(1, sum(tokens for _, tokens in computed)), 0.15),
        Figure("sentences shown", len(wire.notices)),
    ]

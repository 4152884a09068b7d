"""Simulated typists against a running team's engine: what they wait, and what the engine serves."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from greencode_lsp.completion.request import Request
from greencode_lsp.demo.positions import SAMPLES
from greencode_lsp.errors import TeamError
from greencode_lsp.settings import Settings
from greencode_lsp.team.messages import COMPLETE_PATH, MODEL_PATH, Asked, read_completed
from greencode_lsp.team.remote import TOKEN_VARIABLE, Address

MEAN_GAP_S = 2.0
"""Between an answer and the next request of a typist: what the cache of an editor's server does not answer itself."""
LONGEST_WAIT_S = 30.0


class Measured(msgspec.Struct):
    """What a load test has measured."""

    typists: int
    seconds: float
    service_ms: list[float] = []
    """In the engine, by completion."""
    waited_ms: list[float] = []
    """By the typist, by completion."""
    energy_j: float = 0.0
    problems: dict[str, int] = {}


@dataclass(slots=True)
class _Typists:
    client: Any
    texts: list[str]
    end_s: float
    measured: Measured
    problems: Counter[str] = field(default_factory=Counter)

    async def type(self, number: int) -> None:
        """Be one typist: go through a text, ask at places further and further in it."""
        rng = random.Random(number)
        text, offset = rng.choice(self.texts), 0
        await asyncio.sleep(rng.uniform(0, MEAN_GAP_S))
        while time.monotonic() < self.end_s:
            offset = (offset + rng.randint(1, 12)) % len(text)
            await self._ask(Request(text[:offset], offset, "python", "sample.py"))
            await asyncio.sleep(rng.expovariate(1 / MEAN_GAP_S))

    async def _ask(self, request: Request) -> None:
        start_s = time.perf_counter()
        try:
            body = msgspec.json.encode(Asked.of(request, Settings()))
            async with self.client.post(COMPLETE_PATH, data=body) as answer:
                status, content = answer.status, await answer.read()
        except Exception as error:  # noqa: BLE001 - the library's many; their names are the finding
            self.problems[type(error).__name__] += 1
            return
        if status != 200:
            self.problems[f"HTTP {status}"] += 1
            return
        made = read_completed.decode(content)
        self.measured.waited_ms.append((time.perf_counter() - start_s) * 1000)
        self.measured.service_ms.append(made.elapsed_ms)
        self.measured.energy_j += made.energy.energy_j


async def measure(url: str, typists: int, seconds: float) -> Measured:
    """Let so many typists ask for so long. Raises TeamError where nobody answers."""
    import aiohttp  # of the extra `serve`

    address = Address.of(url)
    headers = {"Authorization": f"Bearer {address.token}"}
    timeout = aiohttp.ClientTimeout(LONGEST_WAIT_S)
    connector = aiohttp.TCPConnector(limit=0, ssl=address.trust() if address.is_encrypted else False)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector, timeout=timeout) as client:
        try:
            async with client.get(MODEL_PATH) as first:
                status = first.status
        except aiohttp.ClientError as error:
            raise TeamError(f"No team's engine answers at {url} ({type(error).__name__}).") from error
        if status != 200:
            raise TeamError(f"The team's engine at {url} answers with HTTP {status}; set {TOKEN_VARIABLE}.")
        texts = [sample.read_text(encoding="utf8") for sample in sorted(SAMPLES.glob("*.txt"))]
        measured = Measured(typists, seconds)
        all_typists = _Typists(client, texts, time.monotonic() + seconds, measured)
        await asyncio.gather(*(all_typists.type(number) for number in range(typists)))
        measured.problems = dict(all_typists.problems)
        return measured


def quantile(values: list[float], share: float) -> float:
    """Return a quantile by rank; 0.0 of nothing."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0


def run(url: str, typists: int, seconds: float, file: Path | None, write: Callable[[str], None]) -> int:
    """Measure, write the figures, and keep it where that is wanted; 1 where a request was lost."""
    measured = asyncio.run(measure(url, typists, seconds))
    count = len(measured.waited_ms)
    waited = ", ".join(f"p{share * 100:.0f} {quantile(measured.waited_ms, share):.0f}" for share in (0.5, 0.95, 0.99))
    service = ", ".join(f"p{share * 100:.0f} {quantile(measured.service_ms, share):.0f}" for share in (0.5, 0.95))
    write(f"{typists} typists, {seconds:.0f} s: {count} completions, {count / seconds:.1f} a second")
    write(f"waited (ms): {waited}; in the engine (ms): {service}")
    write(f"energy: {measured.energy_j:.1f} J, {measured.energy_j / max(1, count):.3f} J a completion")
    write(f"problems: {measured.problems or 'none'}")
    if file is not None:
        file.write_bytes(msgspec.json.encode(measured))
    return 1 if measured.problems else 0

"""What a cancel costs: fifty requests queued and cancelled, and the time from a cancel until the worker is idle."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from greencode_lsp.completion.backend import Backend, load_backend
from greencode_lsp.errors import CancelledError
from greencode_lsp.records import DecodeConfig
from greencode_lsp.settings import Settings
from tests.soak.document import Document, settle, source
from tests.soak.figures import Figure, generations, percentile
from tests.soak.wire import REQUEST_CANCELLED, SERVE, Call, connect

QUEUED = 50
TRIALS = 200
PROMPT_TOKENS = 1000
NEW_TOKENS = 64
SEED = 14


async def queue_and_cancel(home: Path, count: int, documents: int, command: Sequence[str], text: str) -> list[Figure]:
    """Send `count` requests over some documents at once, then a cancel for each; return what they cost."""
    async with connect(home, command) as wire:
        opened = [Document(wire, f"file:///queued_{n}.py", text, len(text)) for n in range(documents)]
        for document in opened:
            document.open()
        before = len(generations(home))
        sent: list[tuple[int, Call]] = [opened[n % documents].request(trigger=1) for n in range(count)]
        for call_id, _ in sent:
            wire.cancel(call_id)
        for _, call in sent:
            await wire.answer(call)
        await settle(wire)
        assert await wire.end() == 0
    made = generations(home)[before:]
    where = f"{count} cancelled in {documents} document{'s' if documents > 1 else ''}"
    codes = [call.error_code for _, call in sent]
    return [
        Figure(f"{where}: generations that emitted a token", sum(tokens > 0 for _, tokens in made), 2),
        Figure(f"{where}: generations begun", len(made)),
        Figure(f"{where}: tokens", sum(tokens for _, tokens in made)),
        Figure(f"{where}: other errors", sum(code not in (None, REQUEST_CANCELLED) for code in codes), 0),
        Figure(f"{where}: not answered once", sum(len(call.answers) != 1 for _, call in sent), 0),
    ]


@dataclass
class Polled:
    """A control that tells when it has been asked `at` times whether to stop, and from then on obeys `stop`."""

    at: int
    count: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    def config(self) -> DecodeConfig:
        return DecodeConfig()

    def cancelled(self) -> bool:
        self.count += 1
        if self.count == self.at:
            self.reached.set()
        return self.stop.is_set()

    def end(self, job: object) -> None:
        """Wake whoever waits for a question that was never asked."""
        self.reached.set()


class Idle:
    """Measures how long the one worker thread is busy after its generation was asked to stop.

    The stop comes right after the generation asked whether to, so that it is heard as late as it can be; which of its
    questions that is, is left to seeded chance.
    """

    def __init__(self, backend: Backend, seed: int = SEED) -> None:
        self._engine, self._dice = backend.engine, random.Random(seed)
        self._worker = ThreadPoolExecutor(1)
        ids = backend.tokenizer.encode(source("shlex", 12_000))
        self._prompt = ids[: min(PROMPT_TOKENS, backend.engine.max_positions - NEW_TOKENS - 1)]

    def measure(self, phase: str, trials: int) -> list[float]:
        """Return milliseconds from the stop to idle, of trials whose stop was heard in the phase."""
        self._generate(phase, Polled(at=0))  # for decoding, the prompt is cached from here on
        undisturbed = Polled(at=0)
        self._generate(phase, undisturbed)
        found: list[float] = []
        for _ in range(trials * 5):
            control = Polled(self._dice.randint(1, undisturbed.count))
            job = self._worker.submit(self._generate, phase, control)
            job.add_done_callback(control.end)
            control.reached.wait()
            begun_s = time.perf_counter()
            control.stop.set()
            idle_s = self._worker.submit(time.perf_counter).result()
            if job.result() == phase:
                found.append((idle_s - begun_s) * 1000)
            if len(found) == trials:
                break
        return found

    def close(self) -> None:
        self._worker.shutdown()

    def _generate(self, phase: str, control: Polled) -> str:
        """Generate until asked to stop; return the phase in which that was heard, empty where it was too late."""
        prompt, tokens = self._prompt, NEW_TOKENS
        if phase == "prefill":  # a prompt that shares nothing with what is cached, run through all layers
            prompt, tokens = self._dice.sample(self._prompt, len(self._prompt)), 1
        emitted = 0
        try:
            for _ in self._engine.generate(prompt, control, max_new_tokens=tokens):
                emitted += 1
        except CancelledError:
            return "decode" if emitted else "prefill"
        return ""


def cancel_to_idle(trials: int) -> list[Figure]:
    """Measure with the bundled model in this process."""
    idle = Idle(load_backend(Settings()))
    try:
        decode = idle.measure("decode", trials)
        prefill = idle.measure("prefill", trials)
    finally:
        idle.close()
    return [
        Figure("cancels heard in decode", len(decode)),
        Figure("cancel to idle in decode, p50, ms", percentile(decode, 0.5)),
        Figure("cancel to idle in decode, p95, ms", percentile(decode, 0.95), 5),
        Figure("cancels heard in prefill", len(prefill)),
        Figure("cancel to idle in prefill, p50, ms", percentile(prefill, 0.5)),
        Figure("cancel to idle in prefill, p95, ms", percentile(prefill, 0.95), 25),
    ]


async def run(home: Path, scale: float, command: Sequence[str] = SERVE) -> list[Figure]:
    """Queue and cancel; then measure in this process. Return the figures."""
    text = source("textwrap", 3000, 6000) + "        return "
    figures: list[Figure] = []
    for documents in (1, QUEUED):
        figures += await queue_and_cancel(home, QUEUED, documents, command, text)
    return figures + cancel_to_idle(max(3, round(TRIALS * scale)))

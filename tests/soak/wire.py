"""A client that speaks bytes: it can say what no library would, and times every answer by itself."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent.parent
SERVE = ("-c", "import sys; from greencode_lsp.cli import main; sys.exit(main(['--stdio']))")
"""What the console script `greencode-lsp --stdio` runs, from this checkout."""
REQUEST_CANCELLED = -32800
PATIENCE_S = 60.0
"""A server that is silent for so long is taken for deaf."""
INLINE: dict[str, Any] = {"textDocument": {"inlineCompletion": {}}}


@dataclass
class Call:
    """A request and every answer it got."""

    method: str
    sent_s: float
    answered: asyncio.Future[None]
    answers: list[dict[str, Any]] = field(default_factory=list)
    answered_s: float = 0.0
    order: int = 0
    """How many answers had come when this one's did: the order in which the server spoke."""

    @property
    def elapsed_ms(self) -> float:
        return (self.answered_s - self.sent_s) * 1000

    @property
    def error_code(self) -> int | None:
        error = self.answers[0].get("error")
        return error["code"] if error else None

    @property
    def text(self) -> str | None:
        """The suggested text; empty for none, None for null and for an error."""
        result = self.answers[0].get("result")
        if result is None:
            return None
        return result["items"][0]["insertText"] if result["items"] else ""


def frame(body: bytes) -> bytes:
    """Return a message of the base protocol."""
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def encode(message: object) -> bytes:
    """Return the message as JSON."""
    return json.dumps(message, separators=(",", ":")).encode()


class Silent:
    """Stands for an answer that never comes."""


class Wire:
    """One session with a server process."""

    def __init__(self, process: asyncio.subprocess.Process, home: Path) -> None:
        self.process, self.home, self.patience_s = process, home, PATIENCE_S
        self.calls: dict[int | str, Call] = {}
        self.unexpected: list[dict[str, Any]] = []
        """Answers to nothing that was asked."""
        self.statuses: list[dict[str, Any]] = []
        """The latest alone."""
        self.notices: list[str] = []
        self.logged: list[str] = []
        self.configuration: Any = None
        """The answer to `workspace/configuration`; an exception for none."""
        self._answers = 0
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self.process.stdin is not None
        return self.process.stdin

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.stdin.write(data)

    def notify(self, method: str, params: object) -> None:
        """Send a notification."""
        self.raw(frame(encode({"jsonrpc": "2.0", "method": method, "params": params})))

    def expect(self, call_id: int | str, method: str) -> Call:
        """Note that the server owes an answer."""
        call = self.calls[call_id] = Call(method, time.perf_counter(), asyncio.get_running_loop().create_future())
        return call

    def request(self, method: str, params: object) -> tuple[int, Call]:
        """Send a request; return its id and its answer to come."""
        call_id = len(self.calls) + 1
        body = encode({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params})
        call = self.expect(call_id, method)
        self.raw(frame(body))
        return call_id, call

    async def ask(self, method: str, params: object) -> Call:
        """Send a request and wait for its answer. Raises asyncio.TimeoutError where the server is deaf."""
        call = self.request(method, params)[1]
        await self.answer(call)
        return call

    async def answer(self, call: Call) -> None:
        """Wait for an answer; asyncio.TimeoutError where none comes, or the server has ended."""
        await self.stdin.drain()
        await asyncio.wait({call.answered, self._reader}, timeout=self.patience_s, return_when=asyncio.FIRST_COMPLETED)
        if not call.answered.done():
            raise asyncio.TimeoutError(f"no answer to {call.method}")

    def cancel(self, call_id: int) -> None:
        """Send `$/cancelRequest`."""
        self.notify("$/cancelRequest", {"id": call_id})

    async def ready(self) -> None:
        """Wait until the model is loaded."""
        while not any(status["state"] in ("ready", "failed") for status in self.statuses):
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), PATIENCE_S)
        assert self.statuses[-1]["state"] == "ready", self.notices

    async def initialize(self, options: object = None, **others: Any) -> None:
        """Begin the session as a client with inline completion; others of its parameters may be given."""
        params = {"processId": None, "rootUri": None, "capabilities": INLINE, "initializationOptions": options}
        await self.ask("initialize", params | others)
        self.notify("initialized", {})
        await self.ready()

    async def end(self) -> int | None:
        """Shut the server down; return its exit code."""
        await self.ask("shutdown", None)
        self.notify("exit", None)
        code = await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        await self._reader
        return code

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while True:
            try:
                head = await self.process.stdout.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                message = json.loads(await self.process.stdout.readexactly(length))
            except asyncio.IncompleteReadError:
                return
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            if "id" in message:  # the server asks us: we have little to say
                is_asked = message["method"] == "workspace/configuration"
                answer = self.configuration if is_asked else None
                if answer is not Silent:
                    self.raw(frame(encode({"jsonrpc": "2.0", "id": message["id"], "result": answer})))
            elif message["method"] == "greencode/status":
                self.statuses = [message["params"]]
                self._news.set()
            elif message["method"] == "window/showMessage":
                self.notices.append(message["params"]["message"])
            elif message["method"] == "window/logMessage":
                self.logged.append(message["params"]["message"])
            return
        call = self.calls.get(message.get("id", ""))
        if call is None:
            self.unexpected.append(message)
            return
        call.answers.append(message)
        if not call.answered.done():
            self._answers += 1
            call.answered_s, call.order = time.perf_counter(), self._answers
            call.answered.set_result(None)


@asynccontextmanager
async def launch(
    home: Path, command: Sequence[str] = SERVE, stderr: IO[bytes] | None = None, cwd: Path = ROOT
) -> AsyncIterator[Wire]:
    """Start a server and say nothing; whatever happens it is gone afterwards."""
    environment = {**os.environ, "GREENCODE_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=environment,
        cwd=cwd,
        limit=1 << 26,
    )
    wire = Wire(process, home)
    try:
        yield wire
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        wire._reader.cancel()


@asynccontextmanager
async def connect(
    home: Path, command: Sequence[str] = SERVE, options: object = None, stderr: IO[bytes] | None = None
) -> AsyncIterator[Wire]:
    """Start a server and initialize it; whatever happens it is gone afterwards."""
    async with launch(home, command, stderr) as wire:
        await wire.initialize(options)
        yield wire

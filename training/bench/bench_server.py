"""The server as a process: how soon it answers, and how much memory it holds. Speaks plain JSON-RPC over its pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

URI = "file:///bench/sample.py"
TEXT = "import os\n\n\ndef read_lines(path):\n    with open(path) as file:\n        return file."


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the server."""

    initialize_s: float
    """From the process's start to the answer to `initialize`."""
    first_completion_s: float
    """From the process's start to the first answer of an inline completion."""
    rss_bytes: int
    """Resident after it."""


class _Client:
    def __init__(self, model: str) -> None:
        self._options = {
            "greencode": {"model": model, "sharedEngine": False}
        }  # all of it in the process that is measured
        command = [sys.executable, "-m", "greencode_lsp", "--stdio"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0"} | message).encode()
        self.process.stdin.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        message: dict[str, Any] = json.loads(self.process.stdout.read(length))
        return message

    def notify(self, method: str, params: dict[str, Any]) -> None:
        self._send({"method": method, "params": params})

    def request(self, number: int, method: str, params: dict[str, Any] | None) -> Any:
        """Return the result; what the server asks meanwhile is answered with our settings."""
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == number and "method" not in message:
                return message.get("result")
            if "id" in message:
                asked = message["params"].get("items", []) if message["method"] == "workspace/configuration" else None
                answer = None if asked is None else [self._options["greencode"]] * len(asked)
                self._send({"id": message["id"], "result": answer})

    def initialize(self) -> None:
        capabilities = {"textDocument": {"inlineCompletion": {}}, "workspace": {"configuration": True}}
        params = {"processId": os.getpid(), "rootUri": None, "capabilities": capabilities}
        self.request(1, "initialize", params | {"initializationOptions": self._options})
        self.notify("initialized", {})

    def complete(self) -> Any:
        document = {"uri": URI, "languageId": "python", "version": 1, "text": TEXT}
        self.notify("textDocument/didOpen", {"textDocument": document})
        line, character = TEXT.count("\n"), len(TEXT.rsplit("\n", 1)[-1])
        where = {"textDocument": {"uri": URI}, "position": {"line": line, "character": character}}
        return self.request(2, "textDocument/inlineCompletion", where | {"context": {"triggerKind": 1}})

    def close(self) -> None:
        self.request(3, "shutdown", None)
        self.notify("exit", {})
        self.process.wait(30)


def start(model: str) -> Start:
    """Start a server, complete once, stop it."""
    begun_s = time.perf_counter()
    client = _Client(model)
    try:
        client.initialize()
        initialize_s = time.perf_counter() - begun_s
        if not client.complete():
            raise RuntimeError("the server suggested nothing")
        first_completion_s = time.perf_counter() - begun_s
        rss_bytes = resident_bytes(client.process.pid)
        client.close()
    finally:
        client.process.kill()
    return Start(initialize_s, first_completion_s, rss_bytes)


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory, from /proc; 0 where there is none."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text(encoding="utf8").splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)

"""No source text in any log nor in the data folder, and no network, of the real server (I5, I6)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.fake_server import BROKEN
from tests.soak.document import Document
from tests.soak.wire import SERVE, Wire, connect, encode, frame

CANARY = "zanzibar_7f3a"
LOUD = (
    "import logging, pygls.lsp.server\n"
    "logging.basicConfig(level=logging.DEBUG)\n"
    "ours = [name for name in logging.root.manager.loggerDict if name.startswith('pygls')]\n"
    "for name in ('greencode_lsp', 'asyncio', *ours):\n"
    "    logging.getLogger(name).setLevel(logging.DEBUG)\n"
)
"""Every logger as loud as a user could make it, pygls' own children too."""
SERVE_REAL = SERVE[1] + "\n"
SERVE_FAKE = "import runpy; runpy.run_module('tests.fake_server', run_name='__main__')\n"
AUDIT = (
    "import socket, sys\n"
    "INET = (socket.AF_INET, socket.AF_INET6)\n"
    "def hook(event, args):\n"
    "    if event == 'socket.__new__' and args[1] in INET or event in ('socket.getaddrinfo', 'socket.gethostbyname'):\n"
    "        sys.stderr.write(f'NETWORK {event} {args[1:]}\\n')\n"
    "sys.addaudithook(hook)\n"
)
"""Sees every internet socket and name look-up of Python code, of libraries too; not what C code opens by itself."""


async def say_canary(wire: Wire, text: str) -> None:
    """Say the canary in every kind of message, broken ones too, and wait until all have been handled."""
    document = Document(wire, "file:///canary.py", f"{CANARY} = 1\n{text}", 0)
    document.open()
    document.cursor = len(document.text)
    await wire.answer(document.request(trigger=1)[1])
    document.replace(0, 0, f"# {CANARY}\n")
    document.cursor = len(document.text)
    await wire.answer(document.request()[1])
    wire.raw(frame(encode({"jsonrpc": "2.0", "id": 10**6, "method": "textDocument/inlineCompletion"})[:-2]))
    wire.raw(frame(f'{{"jsonrpc": "2.0", "method": "{CANARY}", '.encode()))
    params = {"textDocument": {"uri": "file:///canary.py", "text": CANARY}, "contentChanges": CANARY}
    for method in ("textDocument/didChange", "textDocument/didOpen", "workspace/didChangeConfiguration", "$/unknown"):
        wire.notify(method, params)
    wire.request("workspace/executeCommand", {"command": "greencode.accept", "arguments": [CANARY, CANARY]})
    await wire.ask("greencode/unknown", params)
    document.cursor = 10**6
    await wire.answer(wire.request("textDocument/inlineCompletion", document.params())[1])


def canaries(folder: Path) -> list[str]:
    """Return the files that hold the canary."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


async def test_no_log_at_any_level_and_no_file_holds_the_users_text(home: Path, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        async with connect(home, ("-c", LOUD + SERVE_REAL), stderr=log) as wire:
            await say_canary(wire, "def f(self):\n    return ")
            assert await wire.end() == 0
    assert "INFO:pygls." in (tmp_path / "log").read_text()  # the log is on
    assert (home / "ledger.sqlite").stat().st_size > 0
    assert canaries(home) == []
    assert canaries(tmp_path) == []


async def test_no_log_holds_the_users_text_where_a_generation_fails(home: Path, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        async with connect(home, ("-c", LOUD + SERVE_FAKE), stderr=log) as wire:
            await say_canary(wire, BROKEN[:8])
            assert await wire.end() == 0
    assert any("KeyError" in sentence for sentence in wire.notices)
    assert [sentence for sentence in wire.notices if CANARY in sentence] == []
    assert canaries(home) == []
    assert canaries(tmp_path) == []


async def test_serving_opens_no_internet_socket(home: Path, tmp_path: Path) -> None:
    """Python's sockets are seen all along by the audit hook; those of C code where they are open at the end."""
    with (tmp_path / "log").open("wb") as log:
        async with connect(home, ("-c", AUDIT + SERVE_REAL), stderr=log) as wire:
            document = Document(wire, "file:///a.py", "def f(self):\n    return ", 24)
            document.open()
            await wire.answer(document.request(trigger=1)[1])
            server = psutil.Process(wire.process.pid)
            processes = (server, *server.children(recursive=True))  # the shared engine is one
            assert not any(process.net_connections("inet") for process in processes)
            assert await wire.end() == 0
    assert "NETWORK" not in (tmp_path / "log").read_text()


def test_onnx_runtime_keeps_nothing_to_send(tmp_path: Path) -> None:
    """Where it has telemetry, it gives the user an id and a database of events as soon as it is loaded."""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    program = "import greencode_lsp.engine.onnx.model"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_the_audit_hook_sees_an_internet_socket() -> None:
    program = AUDIT + "socket.socket(socket.AF_INET).close()\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "NETWORK socket.__new__" in done.stderr

"""Servers of several editors with the bundled model, at one engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.soak.document import Document
from tests.soak.wire import SERVE, Wire, connect

TEXT = "def add(first, second):\n    return "


@asynccontextmanager
async def server(home: Path, **settings: Any) -> AsyncIterator[Wire]:
    async with connect(home, SERVE, {"greencode": {"model": "bundled", **settings}}) as wire:
        yield wire
        assert await wire.end() == 0


def engines(home: Path) -> list[psutil.Process]:
    """Return the shared engines of a home folder."""
    running = []
    for process in psutil.process_iter(["cmdline"]):
        is_engine = "greencode_lsp.host" in (process.info["cmdline"] or [])
        if is_engine and process.environ().get("GREENCODE_HOME") == str(home):
            running.append(process)
    return running


async def suggested(wire: Wire, uri: str = "file:///a.py") -> str | None:
    document = Document(wire, uri, TEXT, len(TEXT))
    document.open()
    call = document.request(trigger=1)[1]
    await wire.answer(call)
    document.close()
    return call.text


async def test_two_servers_share_one_engine_and_outlive_it(home: Path) -> None:
    async with server(home) as first, server(home) as second:
        texts = [await suggested(first), await suggested(second)]
        (engine,) = engines(home)
        assert first.statuses[-1]["answered_by"] == "shared"
        engine.kill()
        engine.wait(10)
        texts += [await suggested(second, "file:///b.py"), await suggested(first, "file:///b.py")]
        assert len(set(texts)) == 1
        assert texts[0]
        (replacement,) = engines(home)
        assert first.notices == second.notices == []
    await asyncio.to_thread(replacement.wait, 30)  # with nobody left


async def test_a_server_may_keep_its_model_to_itself(home: Path) -> None:
    async with server(home, sharedEngine=False) as wire:
        assert await suggested(wire)
        assert engines(home) == []
        assert wire.statuses[-1]["answered_by"] == "server"


async def test_a_remote_that_is_none_is_one_sentence_and_the_own_engine_completes(home: Path) -> None:
    async with server(home, remote="http://example.org", sharedEngine=False) as wire:
        assert await suggested(wire)
        assert [notice for notice in wire.notices if "greencode.remote must" in notice] == wire.notices != []


async def test_where_no_socket_can_be_the_server_runs_the_model_and_says_so_once(home: Path) -> None:
    (home / "run").write_text("no folder")
    async with server(home) as wire:
        assert await suggested(wire)
        assert len(wire.notices) == 1
        assert "this editor runs the model itself" in wire.notices[0]
        assert wire.statuses[-1]["answered_by"] == "server"

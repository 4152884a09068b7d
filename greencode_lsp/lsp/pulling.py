"""Pulling a model for the editor: in a process of its own, with progress that the user can cancel."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from greencode_lsp.isolated import isolated_module

PULL_COMMAND = "greencode.pullModel"
MODELS_COMMAND = "greencode.models"
PROGRAM = (*isolated_module("greencode_lsp"), "models", "pull", "--json", "--")
LONGEST_LINE = 1 << 16


class ModelPull:
    """At most one pull of this editor at a time.

    A process, so that a cancel ends whatever it waits for, and the server does not keep what the download imported.
    """

    def __init__(self, server: LanguageServer, program: Sequence[str] = PROGRAM) -> None:
        self._server, self._program, self._numbers = server, program, itertools.count(1)
        self._process: asyncio.subprocess.Process | None = None
        self._is_busy = False

    async def run(self, name: str) -> str | None:
        """Pull a model and return its name; None, and a sentence for the user, where it was cancelled or failed."""
        if self._is_busy:
            self._say(types.MessageType.Warning, "A model is being pulled already; wait until it ends, or cancel it.")
            return None
        self._is_busy = True
        token = None
        try:
            token = await self._begin(name)
            return await self._follow(name, token)
        finally:
            self._is_busy = False
            if token is not None:
                self._server.work_done_progress.end(token, types.WorkDoneProgressEnd())

    def stop(self) -> None:
        """Kill the running pull and what it has started; what it fetched is gone on with by the next one."""
        if self._process is None or self._process.returncode is not None:
            return
        import psutil  # not at the server's start

        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for one in [*process.children(recursive=True), process]:
                with suppress(psutil.Error):
                    one.kill()

    async def _begin(self, name: str) -> str | None:
        """Return the token of the progress that the client shows; None where it shows none."""
        window = self._server.client_capabilities.window
        if window is None or not window.work_done_progress:
            self._say(types.MessageType.Info, f"Pulling {name}; a message says when it is here.")
            return None
        token, progress = f"greencode-pull-{next(self._numbers)}", self._server.work_done_progress
        with suppress(JsonRpcException):
            await progress.create_async(token)
            progress.begin(token, types.WorkDoneProgressBegin(title=f"Pulling {name}", cancellable=True, percentage=0))
            progress.tokens[token].add_done_callback(lambda future: self.stop() if future.cancelled() else None)
            return token
        return None

    async def _follow(self, name: str, token: str | None) -> str | None:
        pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = self._process = await asyncio.create_subprocess_exec(
            *self._program, name, stdin=none, stdout=pipe, stderr=none, limit=LONGEST_LINE
        )
        assert process.stdout is not None, "asked for"
        last: dict[str, Any] = {}
        try:
            async for line in process.stdout:
                last = _read(line) or last
                self._report(token, last)
            await process.wait()
        finally:
            self.stop()
        is_cancelled = token is not None and self._server.work_done_progress.tokens[token].cancelled()
        if isinstance(last.get("model"), str):
            self._say(types.MessageType.Info, f"{last['model']} is here.")
            return str(last["model"])
        if not is_cancelled:
            why = last.get("error") or f"pulling {name} ended early; `greencode-lsp models pull {name}` says why."
            self._say(types.MessageType.Error, str(why))
        return None

    def _report(self, token: str | None, said: dict[str, Any]) -> None:
        if token is None:
            return
        done, total = said.get("done_bytes"), said.get("total_bytes")
        if isinstance(done, int) and isinstance(total, int) and total > 0:
            message, percentage = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB", min(100, 100 * done // total)
            report = types.WorkDoneProgressReport(message=message, percentage=percentage)
        else:
            report = types.WorkDoneProgressReport(message=str(said.get("sentence", "")))
        self._server.work_done_progress.report(token, report)

    def _say(self, kind: types.MessageType, sentence: str) -> None:
        self._server.window_show_message(types.ShowMessageParams(kind, sentence))


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None

"""Work-done progress while a model loads, for clients that show it."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from greencode_lsp.completion.status import Status


class LoadProgress:
    """Begins with the state `loading` and ends with any other."""

    def __init__(self, server: LanguageServer) -> None:
        self._server, self._numbers = server, itertools.count(1)
        self._token: str | None = None
        self._turn = asyncio.Lock()

    async def follow(self, status: Status) -> None:
        """Show where loading begins or ends; statuses are followed one after the other."""
        window = self._server.client_capabilities.window
        if window is None or not window.work_done_progress:
            return
        async with self._turn:
            is_loading, progress = status.state == "loading", self._server.work_done_progress
            if is_loading and self._token is None:
                token = f"greencode-load-{next(self._numbers)}"
                with suppress(JsonRpcException):
                    await progress.create_async(token)
                    title, message = "greencode", f"loading {status.model}"
                    progress.begin(token, types.WorkDoneProgressBegin(title=title, message=message))
                    self._token = token
            elif not is_loading and self._token is not None:
                progress.end(self._token, types.WorkDoneProgressEnd(message=f"{status.model}: {status.state}"))
                self._token = None

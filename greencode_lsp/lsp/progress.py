"""Work-done progress while a model loads, for clients that show it."""

from __future__ import annotations

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
        self._is_loading = False

    async def follow(self, status: Status) -> None:
        """Show where loading begins or ends."""
        was, self._is_loading = self._is_loading, status.state == "loading"
        window = self._server.client_capabilities.window
        if was == self._is_loading or window is None or not window.work_done_progress:
            return
        progress = self._server.work_done_progress
        if not self._is_loading:
            if self._token is not None:
                progress.end(self._token, types.WorkDoneProgressEnd(message=f"{status.model}: {status.state}"))
                self._token = None
            return
        token = f"greencode-load-{next(self._numbers)}"
        with suppress(JsonRpcException):
            await progress.create_async(token)
            progress.begin(token, types.WorkDoneProgressBegin(title="greencode", message=f"loading {status.model}"))
            if self._is_loading:
                self._token = token
            else:  # it was faster than the client
                progress.end(token, types.WorkDoneProgressEnd())

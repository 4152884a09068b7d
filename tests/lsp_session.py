"""One editor's session with a server over standard input and output."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest_lsp
from lsprotocol import types

ROOT = Path(__file__).parent.parent
INLINE = types.TextDocumentClientCapabilities(inline_completion=types.InlineCompletionClientCapabilities())
PULL = types.WorkspaceClientCapabilities(configuration=True)


class Editor:
    """What an editor does, in a word each. Positions are the client's units."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.result: Any = None
        """The answer to `initialize`."""
        self.statuses: list[dict[str, Any]] = []
        self.registered: list[str] = []
        self.copilot_kinds: list[str] = []
        self.news = asyncio.Event()
        self._numbers = itertools.count(1)

    @property
    def notices(self) -> list[str]:
        """The sentences shown to the user."""
        return [message.message for message in self.client.messages]

    @property
    def logged(self) -> list[str]:
        """The lines written into the editor's log."""
        return [message.message for message in self.client.log_messages]

    def open(self, text: str, uri: str = "") -> str:
        """Open a new document and return its URI."""
        uri = uri or f"file:///sample_{next(self._numbers)}.py"
        item = types.TextDocumentItem(uri, "python", 1, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))
        return uri

    def request(
        self,
        uri: str,
        line: int,
        character: int,
        selected: types.SelectedCompletionInfo | None = None,
        *,
        invoked: bool = False,
    ) -> tuple[str, asyncio.Future[Any]]:
        """Ask for an inline completion; return the request's id and its answer to come."""
        request_id = f"request-{next(self._numbers)}"
        kinds = types.InlineCompletionTriggerKind
        context = types.InlineCompletionContext(kinds.Invoked if invoked else kinds.Automatic, selected)
        position = types.Position(line, character)
        params = types.InlineCompletionParams(context, types.TextDocumentIdentifier(uri), position)
        future = self.client.protocol.send_request(types.TEXT_DOCUMENT_INLINE_COMPLETION, params, msg_id=request_id)
        return request_id, asyncio.wrap_future(future)

    async def inline(
        self,
        uri: str,
        line: int,
        character: int,
        selected: types.SelectedCompletionInfo | None = None,
        *,
        invoked: bool = False,
    ) -> list[tuple[str, types.Range]]:
        """Return each item's text and range."""
        answer = await asyncio.wait_for(self.request(uri, line, character, selected, invoked=invoked)[1], 30)
        return [(item.insert_text, item.range) for item in answer.items]

    async def status(self, check: Callable[[dict[str, Any]], bool] = bool, **wanted: Any) -> dict[str, Any]:
        """Wait for a status with these values that passes the check, the latest first."""
        while True:
            for seen in self.statuses[::-1]:
                if wanted.items() <= seen.items() and check(seen):
                    return seen
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 30)

    def on_status(self, params: Any) -> None:
        """Note a `greencode/status`."""
        self.statuses.append(_plain(params))
        self.news.set()

    def configure(self, settings: Any) -> None:
        """Push settings."""
        self.client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings))


def _plain(value: Any) -> Any:
    """Return pygls' generic objects as dictionaries."""
    if hasattr(value, "_asdict"):
        return {key: _plain(inner) for key, inner in value._asdict().items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


@asynccontextmanager
async def session(
    home: Path,
    command: Sequence[str] = ("-m", "tests.fake_server"),
    capabilities: types.ClientCapabilities | None = None,
    options: Any = None,
    configuration: dict[str, Any] | None = None,
    folders: Sequence[Path] = (),
) -> AsyncIterator[Editor]:
    """Start a server and initialize it; at the end shut it down and require exit code 0."""
    client = pytest_lsp.make_test_lsp_client()
    editor = Editor(client)
    client.set_configuration(configuration or {})

    @client.feature("greencode/status")  # type: ignore[untyped-decorator]
    def on_status(params: Any) -> None:
        editor.on_status(params)

    environment = {**os.environ, "GREENCODE_HOME": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    @client.feature(types.CLIENT_REGISTER_CAPABILITY)  # type: ignore[untyped-decorator]
    def on_register(params: types.RegistrationParams) -> None:
        editor.registered.extend(registration.method for registration in params.registrations)
        editor.news.set()

    @client.feature("didChangeStatus")  # type: ignore[untyped-decorator]
    def on_copilot_status(params: Any) -> None:
        editor.copilot_kinds.append(params.kind)

    await client.start_io(sys.executable, *command, env=environment, cwd=str(ROOT))
    params = types.InitializeParams(
        capabilities=capabilities or types.ClientCapabilities(text_document=INLINE),
        initialization_options=options,
        workspace_folders=[types.WorkspaceFolder(folder.as_uri(), folder.name) for folder in folders],
    )
    editor.result = await client.initialize_session(params)
    try:
        yield editor
    finally:
        await asyncio.wait_for(client.shutdown_session(), 30)
        await client.stop()
    assert client._server.returncode == 0

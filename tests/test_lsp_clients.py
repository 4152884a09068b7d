"""The same session as VS Code, Neovim and Emacs: their recorded capabilities, their encodings, their way of asking."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
import pytest_lsp
from lsprotocol import types

from greencode_lsp.completion.status import Status
from greencode_lsp.lsp.progress import LoadProgress
from tests.fake_server import TABBED
from tests.lsp_session import INLINE, Editor, session
from tests.soak.document import Document
from tests.soak.wire import connect
from tests.test_end_to_end import COMMAND

pytestmark = pytest.mark.filterwarnings("error::pytest_lsp.LspSpecificationWarning")

Encoding = types.PositionEncodingKind
UNITS = {Encoding.Utf8: "utf-8", Encoding.Utf16: "utf-16-le", Encoding.Utf32: "utf-32-le"}
WIDTHS = {Encoding.Utf8: 1, Encoding.Utf16: 2, Encoding.Utf32: 4}


@dataclass(frozen=True)
class Client:
    """How one editor introduces itself."""

    recorded: str
    encodings: list[Encoding] = field(default_factory=lambda: [Encoding.Utf16])
    has_inline: bool = True

    def capabilities(self) -> types.ClientCapabilities:
        found: types.ClientCapabilities = pytest_lsp.client_capabilities(self.recorded)
        found.general = found.general or types.GeneralClientCapabilities()
        found.general.position_encodings = list(self.encodings)
        assert found.text_document is not None
        found.text_document.inline_completion = INLINE.inline_completion if self.has_inline else None
        return found

    def units(self, text: str) -> int:
        """Return the length of a text as this editor counts."""
        encoding = self.encodings[0]
        return len(text.encode(UNITS[encoding])) // WIDTHS[encoding]


CLIENTS = {
    "vscode": Client("visual_studio_code"),
    "neovim": Client("neovim", [Encoding.Utf8, Encoding.Utf16, Encoding.Utf32]),
    "neovim counting in utf-16": Client("neovim", [Encoding.Utf16]),
    "emacs": Client("emacs", [Encoding.Utf32, Encoding.Utf8, Encoding.Utf16], has_inline=False),
    "an editor with popups, in utf-8": Client("emacs", [Encoding.Utf8], has_inline=False),
}
each_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())


async def suggested(editor: Editor, client: Client, uri: str, before: str) -> list[tuple[str, types.Range]]:
    """Return each item's text and range, asked for as the client asks, until there is an answer."""
    line, left = before.count("\n"), before.rpartition("\n")[2]
    position = types.Position(line, client.units(left))
    if client.has_inline:
        return await editor.inline(uri, position.line, position.character, invoked=True)
    params = types.CompletionParams(types.TextDocumentIdentifier(uri), position)
    answer: Any = await asyncio.wait_for(editor.client.text_document_completion_async(params), 30)
    if not answer.items:  # incomplete: the generation goes on, and is in the cache when the editor asks again
        await editor.status(lambda status: status["last"] is not None, state="ready")
        answer = await asyncio.wait_for(editor.client.text_document_completion_async(params), 30)
    return [(item.text_edit.new_text, item.text_edit.range) for item in answer.items]


@each_client
async def test_a_suggestion_behind_emoji_and_tabs_has_its_place_in_the_clients_units(
    client: Client, tmp_path: Path
) -> None:
    async with session(tmp_path, capabilities=client.capabilities()) as editor:
        assert editor.result.capabilities.position_encoding == client.encodings[0]
        assert (editor.result.capabilities.completion_provider is None) is client.has_inline
        await editor.status(state="ready")
        before = "# 😀\n" + TABBED[: TABBED.index("me = smile")]
        uri = editor.open(before)
        [(text, where)] = await suggested(editor, client, uri, before)
        word = "" if client.has_inline else "na"
        line = before.rpartition("\n")[2]
        start = client.units(line.removesuffix(word))
        assert (text, where) == (
            word + "me = smile",
            types.Range(types.Position(1, start), types.Position(1, client.units(line))),
        )


@pytest.mark.parametrize("client", [CLIENTS["vscode"], CLIENTS["emacs"]], ids=["inline", "popup"])
async def test_the_bundled_model_answers_by_either_route(client: Client, tmp_path: Path) -> None:
    before = "def total(items):\n    result = 0\n    for item in items:\n        result += item\n    return re"
    async with session(tmp_path, COMMAND, capabilities=client.capabilities()) as editor:
        uri = editor.open(before + "\n")
        (text, _), *_ = await suggested(editor, client, uri, before)
        assert text.removeprefix("re") == "sult"


async def test_formatting_options_of_copilots_clients_indent_where_the_file_shows_none(tmp_path: Path) -> None:
    async with connect(tmp_path, ("-m", "tests.fake_server")) as wire:
        document = Document(wire, "file:///a.py", "for item in items:", 18)
        document.open()
        params = {
            "textDocument": {"uri": document.uri, "version": 1},
            "position": {"line": 0, "character": 18},
            "context": {"triggerKind": 1},
            "formattingOptions": {"tabSize": 4, "insertSpaces": False},
        }
        answer = await wire.ask(types.TEXT_DOCUMENT_INLINE_COMPLETION, params)
        assert answer.text == "\n\tresult.append(item)"
        assert await wire.end() == 0


async def test_a_client_of_copilots_is_reported_the_status_its_way(tmp_path: Path) -> None:
    options = {"editorInfo": {"name": "Emacs"}, "editorPluginInfo": {"name": "copilot.el"}}
    async with session(tmp_path, options=options) as editor:
        await editor.status(state="ready")
        await editor.inline(editor.open("    for it"), 0, 10)
    assert editor.copilot_kinds[:2] == ["Inactive", "Normal"]
    assert editor.notices == []


async def test_a_part_that_copilots_clients_accept_is_settled(tmp_path: Path) -> None:
    async with session(tmp_path) as editor:
        uri = editor.open("    for it")
        answer = await editor.request(uri, 0, 10)[1]
        [item] = answer.items
        command = {"command": item.command.command, "title": "", "arguments": item.command.arguments}
        notify = editor.client.protocol.notify
        notify("textDocument/didShowCompletion", {"item": {"command": command}})
        notify("textDocument/didFocus", {"textDocument": {"uri": uri}})
        notify("textDocument/didPartiallyAcceptCompletion", {"item": {"command": command}, "acceptedLength": 5})
        await editor.status(lambda status: status["today"]["accepted"] == 1)


def computed(status: dict[str, Any]) -> int:
    """Return how many completions a status counts today."""
    return int(status["today"]["completions"]) if status["today"] else 0


async def test_a_document_that_is_turned_to_again_is_read_in_advance(tmp_path: Path) -> None:
    async with session(tmp_path, options={"preference": "accuracy"}) as editor:
        uri = editor.open("    for it")
        await editor.inline(uri, 0, 10)
        await editor.inline(editor.open("    for it"), 0, 10)
        await editor.status(lambda status: computed(status) == 3)
        editor.client.protocol.notify("textDocument/didFocus", {"textDocument": {"uri": uri}})
        await editor.status(lambda status: computed(status) == 4)


@pytest.mark.parametrize("params", [None, {}, {"textDocument": None}, {"textDocument": {"uri": 7}}])
async def test_a_document_that_is_none_is_not_turned_to(tmp_path: Path, params: Any) -> None:
    async with session(tmp_path) as editor:
        editor.client.protocol.notify("textDocument/didFocus", params)
        editor.client.protocol.notify("textDocument/didFocus", {"textDocument": {"uri": "file:///closed.py"}})
        assert await editor.inline(editor.open("    for it"), 0, 10)
        assert editor.notices == []


async def test_loading_is_shown_as_progress_where_the_client_shows_it() -> None:
    server = Mock()
    server.work_done_progress.create_async = AsyncMock()
    progress = LoadProgress(server)
    for state in ("loading", "loading", "ready", "ready", "loading", "failed"):
        await progress.follow(Status(state, "m", 0.5))
    names = [name for name, _, _ in server.work_done_progress.method_calls]
    assert names == ["create_async", "begin", "end"] * 2


async def test_a_client_that_shows_no_progress_is_sent_none() -> None:
    server = Mock()
    server.client_capabilities.window.work_done_progress = None
    await LoadProgress(server).follow(Status("loading", "m", 0.5))
    assert server.work_done_progress.method_calls == []


async def test_settings_of_a_workspace_folder_hold_in_it(tmp_path: Path) -> None:
    """A client that is asked answers for each folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / ".gitignore").write_text("ignored.py\n")
    async with session(tmp_path / "home", folders=[folder]) as editor:
        await editor.status(state="ready")
        assert await editor.inline(editor.open("    for it", (folder / "ignored.py").as_uri()), 0, 10) == []
        await editor.status(lambda status: ".gitignore" in (status["reason"] or ""))
        assert await editor.inline(editor.open("    for it", (folder / "other.py").as_uri()), 0, 10) != []

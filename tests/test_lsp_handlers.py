"""What the server does between its handlers and the service, in one process."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from lsprotocol import types

from greencode_lsp.completion.request import Request
from greencode_lsp.completion.status import Suggested
from greencode_lsp.lsp import server as server_module
from greencode_lsp.lsp import session as session_module
from greencode_lsp.lsp.server import create_server
from greencode_lsp.lsp.session import GreenCodeServer

URI = "file:///a.py"


class Service:
    """A service that answers at once, after what happens meanwhile has happened."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.late: list[int] = []
        self.parts: list[int | None] = []

    async def complete(self, document: str, request: Request) -> Suggested:
        self.meanwhile()
        await self.may_answer.wait()
        return Suggested("text", 1)

    def shown(self, document: str, suggested: Suggested, request: Request) -> None:
        """Nothing."""

    def refuses(self, document: str, path: str, language: str) -> bool:
        return False

    def dropped(self, suggested: Suggested) -> None:
        self.late.append(suggested.number)

    def accepted(self, number: int, characters: int | None = None) -> None:
        self.parts.append(characters)


def server() -> GreenCodeServer:
    made = GreenCodeServer(lambda notify, report: Service())  # type: ignore[arg-type, return-value]
    made.protocol._workspace = made.documents
    made.workspace.put_text_document(types.TextDocumentItem(URI, "python", 1, "x = "))
    return made


PARAMS = types.InlineCompletionParams(
    types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
    types.TextDocumentIdentifier(URI),
    types.Position(0, 4),
)


async def test_an_answer_for_the_same_version_is_given() -> None:
    answer = await server().answer_inline(PARAMS)
    assert answer is not None
    assert [item.insert_text for item in answer.items] == ["text"]


async def test_an_answer_for_a_document_that_changed_meanwhile_is_null() -> None:
    made = server()
    change = types.TextDocumentContentChangeWholeDocument("y")
    changed = types.VersionedTextDocumentIdentifier(2, URI)
    service: Any = made.service
    service.meanwhile = lambda: made.workspace.update_text_document(changed, change)
    assert await made.answer_inline(PARAMS) is None


async def test_an_answer_that_a_popup_no_longer_waits_for_was_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "POPUP_WAIT_S", 0.001)
    made = server()
    service: Any = made.service
    service.may_answer.clear()
    answer = await made.answer_popup(types.CompletionParams(PARAMS.text_document, PARAMS.position))
    assert answer.items == []
    service.may_answer.set()
    await asyncio.gather(*made._tasks)
    assert service.late == [1]


async def test_a_part_of_less_than_nothing_is_not_passed_on() -> None:
    made = server()
    service: Any = made.service
    await made.answer_inline(PARAMS)
    for code_units in (-1, 2):
        made.accept("1", code_units)
    assert service.parts == [2]


def test_two_servers_share_nothing() -> None:
    first, second = (create_server(lambda notify, report: Service()) for _ in range(2))  # type: ignore[arg-type, return-value]
    assert isinstance(first, GreenCodeServer)
    assert isinstance(second, GreenCodeServer)
    assert first.service is not second.service
    assert first.protocol is not second.protocol


def test_handlers_only_unpack_hand_over_and_pack() -> None:
    source = inspect.getsource(server_module)
    assert len(source.splitlines()) < 200
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    builders = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
    handlers = [n for builder in builders for n in builder.body if isinstance(n, functions)]
    assert len(handlers) > 8
    assert all((n.end_lineno or 0) - n.lineno < 15 for n in handlers)

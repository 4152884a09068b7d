"""The language server: handlers unpack, hand over to the session and the completion service, and pack."""

from __future__ import annotations

import logging
import sys
from typing import Any, BinaryIO, cast

from lsprotocol import types

from greencode_lsp.completion.service import CompletionService
from greencode_lsp.lsp import copilot
from greencode_lsp.lsp.configuration import pull_settings, watch_settings
from greencode_lsp.lsp.frames import Frames, Output
from greencode_lsp.lsp.identity import identity
from greencode_lsp.lsp.protocol import REPORT_METHOD
from greencode_lsp.lsp.pulling import MODELS_COMMAND, PULL_COMMAND
from greencode_lsp.lsp.session import ACCEPT_COMMAND, GreenCodeServer, MakeService
from greencode_lsp.models.store import move_out_of_workspace


def _quotes_nothing(record: logging.LogRecord) -> bool:
    """Let nothing pass that quotes what is sent: a suggestion may be made of the user's own words."""
    return not str(record.msg).startswith("Sending data")


def create_server(make_service: MakeService) -> GreenCodeServer:
    """Build a server with all its handlers; two servers share nothing."""
    logging.getLogger("pygls").setLevel(logging.CRITICAL)  # below, its records quote messages, and code with them
    logging.getLogger("pygls.protocol.json_rpc").addFilter(_quotes_nothing)  # whatever level that one is given
    server = GreenCodeServer(make_service)
    _follow_settings(server)
    _follow_documents(server)
    _answer(server)
    _obey(server)
    copilot.listen(server, server.accept, server.focus)
    return server


def _follow_settings(server: GreenCodeServer) -> None:
    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        server.begin(params.process_id, list(params.workspace_folders or ()))
        server.service.configure(params.initialization_options, initial=True)
        server.asks_for_copilot_status = copilot.asks_for_status(params.initialization_options)
        text_document = params.capabilities.text_document
        if text_document is None or text_document.inline_completion is None:
            server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions())(completion)

    async def completion(params: types.CompletionParams) -> types.CompletionList:
        return await server.answer_popup(params)

    @server.feature(types.INITIALIZED)
    async def initialized(params: types.InitializedParams) -> None:
        await pull_settings(server, server.service)
        server.service.start()
        await watch_settings(server)

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def did_change_configuration(params: types.DidChangeConfigurationParams) -> None:
        server.service.configure(params.settings)
        await pull_settings(server, server.service)

    @server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    async def did_change_workspace_folders(params: types.DidChangeWorkspaceFoldersParams) -> None:
        await pull_settings(server, server.service)


def _follow_documents(server: GreenCodeServer) -> None:
    def changed(uri: str) -> None:
        document = server.documents.find(uri)
        if document is not None and document.refusal is None:
            server.service.changed(identity(document.uri), lambda: server.documents.above(document) + document.source)

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: types.DidOpenTextDocumentParams) -> None:
        document = server.documents.find(params.text_document.uri)
        if document is not None:
            server.service.neighbours.opened(identity(document.uri), document.path, lambda: document.known_source)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def did_save(params: types.DidSaveTextDocumentParams) -> None:
        server.service.neighbours.touched(identity(params.text_document.uri))

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(params: types.DidChangeTextDocumentParams) -> None:
        changed(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: types.DidCloseTextDocumentParams) -> None:
        server.service.forget(identity(params.text_document.uri))

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def did_change_notebook(params: types.DidChangeNotebookDocumentParams) -> None:
        cells = params.change.cells
        for content in (cells.text_content if cells else None) or ():
            changed(content.document.uri)
        structure = cells.structure if cells else None
        for closed in (structure.did_close if structure else None) or ():
            if server.documents.find(closed.uri) is None:  # else it has moved
                server.service.forget(identity(closed.uri))

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def did_close_notebook(params: types.DidCloseNotebookDocumentParams) -> None:
        for cell in params.cell_text_documents:
            server.service.forget(identity(cell.uri))

    @server.feature(types.SHUTDOWN)
    def shutdown(params: None) -> None:
        server.exit_code = 0
        server.pull.stop()
        server.service.close()


def _answer(server: GreenCodeServer) -> None:
    # without options the capability is not advertised
    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline_completion(params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
        return await server.answer_inline(params)

    @server.feature(REPORT_METHOD)
    async def report(ls: GreenCodeServer, params: object) -> dict[str, Any] | None:
        return await server.answer_report(getattr(params, "scope", None), getattr(params, "format", None))


def _obey(server: GreenCodeServer) -> None:
    # `ls` is named: pygls would hand the server to any first parameter that may hold it, and `object` may
    @server.command(ACCEPT_COMMAND)
    def accept(ls: GreenCodeServer, *arguments: object) -> None:
        for argument in arguments[:1]:
            server.accept(str(argument))

    @server.command("greencode.setPreference")
    def set_preference(ls: GreenCodeServer, *arguments: object) -> float | None:
        return server.service.prefer(arguments[0] if arguments else None)

    @server.command("greencode.report")
    async def report(ls: GreenCodeServer, *arguments: object) -> dict[str, Any] | None:
        return await server.answer_report(*arguments[:2])

    @server.command(PULL_COMMAND)
    async def pull_model(ls: GreenCodeServer, *arguments: object) -> dict[str, str] | None:
        return await server.pull_model(arguments[0] if arguments else None)

    @server.command(MODELS_COMMAND)
    async def models(ls: GreenCodeServer, *arguments: object) -> dict[str, Any]:
        return await server.service.models()

    @server.command("greencode.pause")
    def pause(ls: GreenCodeServer, *arguments: object) -> None:
        server.service.pause(paused=True)

    @server.command("greencode.resume")
    def resume(ls: GreenCodeServer, *arguments: object) -> None:
        server.service.pause(paused=False)


def serve_stdio(make_service: MakeService = CompletionService) -> int:
    """Serve one client on standard input and output until it says exit or goes away; return the exit code."""
    move_out_of_workspace()
    server = create_server(make_service)
    stdin = Frames(sys.stdin.buffer, server.refused)
    stdout = Output(sys.stdout.buffer, server.abandon)
    server.start_io(stdin=cast("BinaryIO", stdin), stdout=cast("BinaryIO", stdout))
    stdout.close()
    return server.exit_code

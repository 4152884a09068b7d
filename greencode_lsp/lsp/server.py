"""The language server: handlers unpack, hand over to the completion service, and pack."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from lsprotocol import types
from pygls.exceptions import FeatureRequestError, JsonRpcException
from pygls.lsp.server import LanguageServer

from greencode_lsp import __version__
from greencode_lsp.completion.service import CompletionService, Status
from greencode_lsp.completion.worker import SupersededError
from greencode_lsp.errors import PositionError
from greencode_lsp.lsp import answers
from greencode_lsp.lsp.answers import Answer
from greencode_lsp.lsp.positions import Document, locate
from greencode_lsp.lsp.protocol import STATUS_METHOD, QuietProtocol, status_params
from greencode_lsp.prompt.secrets import is_secret
from greencode_lsp.settings import SECTION

MakeService = Callable[[Callable[[str], None], Callable[[Status], None]], CompletionService]
"""Makes the service from what tells the user a sentence and what reports a status."""

ACCEPT_COMMAND = "greencode.accept"
POPUP_WAIT_S = 1.0
"""A completion popup waits for the slowest server: where there is no inline completion, this is all we take."""

logger = logging.getLogger(__name__)


class GreenCodeServer(LanguageServer):
    """One client's server in front of one completion service."""

    def __init__(self, make_service: MakeService) -> None:
        super().__init__("greencode-lsp", __version__, protocol_cls=QuietProtocol)
        self.service = make_service(self.tell, self.report)
        self.answer_ids = itertools.count(1)

    def tell(self, sentence: str) -> None:
        """Show one sentence to the user."""
        self.window_show_message(types.ShowMessageParams(types.MessageType.Warning, sentence))

    def report(self, status: Status) -> None:
        """Send `greencode/status`."""
        self.protocol.notify(STATUS_METHOD, status_params(status))

    def report_server_error(self, error: Exception, source: Any) -> None:  # noqa: ANN401 - pygls' own signature
        """Tell of a message that cannot be handled, without what it said; a failed request has its own answer."""
        if source is not FeatureRequestError:
            sentence = f"greencode-lsp could not handle a message of the editor ({type(error).__name__}); it goes on."
        self.service.notify_once(sentence)

    def shutdown(self) -> None:
        """Stop the running generation, then the server; also when the client is gone without a word."""
        self.service.close()
        super().shutdown()  # type: ignore[no-untyped-call]

    async def watch_settings(self) -> None:
        """Ask the client to tell of changed settings, where it takes such wishes after the start."""
        workspace = self.client_capabilities.workspace
        watched = workspace.did_change_configuration if workspace else None
        if watched is None or not watched.dynamic_registration:
            return
        wish = types.Registration("greencode-settings", types.WORKSPACE_DID_CHANGE_CONFIGURATION, {"section": SECTION})
        with suppress(JsonRpcException):
            await self.client_register_capability_async(types.RegistrationParams([wish]))

    async def pull_settings(self) -> None:
        """Ask the client for our section of its configuration, where it can be asked."""
        workspace = self.client_capabilities.workspace
        if workspace is None or not workspace.configuration:
            return
        with suppress(JsonRpcException):
            item = types.ConfigurationItem(section=SECTION)
            values = await self.workspace_configuration_async(types.ConfigurationParams([item]))
            self.service.configure({SECTION: values[0]} if values else None)

    async def complete(self, params: types.InlineCompletionParams | types.CompletionParams) -> Answer | None:
        """Return what to insert and where; None where the request is no longer wanted.

        Whatever is wrong with the document or the position is told, and answered with nothing to insert.
        """
        uri = params.text_document.uri
        if is_secret(unquote(uri)):
            return Answer("", 0, "", self.workspace.position_encoding or "")
        document = self.workspace.get_text_document(uri)
        version, encoding = document.version, self.workspace.position_encoding or ""
        try:
            request = locate(document, params.position, encoding)
        except PositionError as error:
            self.service.notify_once(str(error))
            return Answer("", 0, "", encoding)
        try:
            text = await self.service.complete(uri, request)
        except SupersededError:
            return None
        except Exception as error:  # noqa: BLE001 - the boundary: no error but a cancel reaches the editor
            self.report_server_error(error, None)
            return Answer("", 0, "", encoding)
        is_stale = self.workspace.get_text_document(uri).version != version
        return None if is_stale else Answer(request.text, request.offset, text, encoding)

    async def answer_inline(self, params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
        """Answer `textDocument/inlineCompletion`: null for superseded, no items for nothing to suggest."""
        answer = await self.complete(params)
        if answer is None:
            return None
        accept = types.Command("Accept", ACCEPT_COMMAND, arguments=[str(next(self.answer_ids))])
        return answers.inline_list(answer, params.context.selected_completion_info, accept)

    async def answer_popup(self, params: types.CompletionParams) -> types.CompletionList:
        """Answer `textDocument/completion` with at most one item; the client is to ask again while typing."""
        answer: Answer | None = None
        with suppress(asyncio.TimeoutError):
            answer = await asyncio.wait_for(self.complete(params), POPUP_WAIT_S)
        return answers.popup_list(answer)


def create_server(make_service: MakeService) -> LanguageServer:
    """Build a server with all its handlers; two servers share nothing."""
    logging.getLogger("pygls").setLevel(logging.CRITICAL)  # below, its records quote messages, and code with them
    server = GreenCodeServer(make_service)

    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        server.service.initialise(params.initialization_options)
        text_document = params.capabilities.text_document
        if text_document is None or text_document.inline_completion is None:
            server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions())(completion)

    @server.feature(types.INITIALIZED)
    async def initialized(params: types.InitializedParams) -> None:
        await server.pull_settings()
        server.service.start()
        await server.watch_settings()

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def did_change_configuration(params: types.DidChangeConfigurationParams) -> None:
        server.service.configure(params.settings)
        await server.pull_settings()

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: types.DidOpenTextDocumentParams) -> None:
        opened, workspace = params.text_document, server.workspace
        workspace.text_documents[unquote(opened.uri)] = Document(
            opened.uri, opened.text, opened.version, opened.language_id, position_codec=workspace.position_codec
        )

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: types.DidCloseTextDocumentParams) -> None:
        server.service.cancel(params.text_document.uri)

    @server.feature(types.SHUTDOWN)
    def shutdown(params: None) -> None:
        server.service.close()

    @server.command(ACCEPT_COMMAND)
    def accept(answer_id: str) -> None:
        logger.info("Completion %s was accepted", answer_id)

    # without options the capability is not advertised
    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline_completion(params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
        return await server.answer_inline(params)

    async def completion(params: types.CompletionParams) -> types.CompletionList:
        return await server.answer_popup(params)

    return server


def serve_stdio() -> None:
    """Serve one client on standard input and output until it says exit or goes away."""
    create_server(CompletionService).start_io()

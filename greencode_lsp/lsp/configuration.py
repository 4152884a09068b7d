"""Asking the client for its settings, and to be notified of changes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from greencode_lsp.completion.service import CompletionService
from greencode_lsp.imports import distrust
from greencode_lsp.limits import CONFIGURATION_S
from greencode_lsp.lsp.identity import path_of
from greencode_lsp.settings import SECTION


async def watch_settings(server: LanguageServer) -> None:
    """Ask the client to notify of changed settings, where it supports dynamic registration."""
    workspace = server.client_capabilities.workspace
    watched = workspace.did_change_configuration if workspace else None
    if watched is None or not watched.dynamic_registration:
        return
    wish = types.Registration("greencode-settings", types.WORKSPACE_DID_CHANGE_CONFIGURATION, {"section": SECTION})
    with suppress(JsonRpcException, asyncio.CancelledError):
        await server.client_register_capability_async(types.RegistrationParams([wish]))


async def pull_settings(server: LanguageServer, service: CompletionService) -> None:
    """Ask the client for our section of its configuration, in general and for each folder, where it can be asked.

    Waits a moment for the answer, which counts whenever it comes; one that is no list is none.
    """
    root = server.workspace.root_uri
    uris = [folder.uri for folder in server.workspace.folders.values()] or ([root] if root else [])
    folders = {path_of(uri): uri for uri in uris}
    distrust(folders)
    service.configure_folders(dict.fromkeys(folders))  # ignored files are ignored before the client answers
    workspace = server.client_capabilities.workspace
    if workspace is None or not workspace.configuration:
        return
    items = [types.ConfigurationItem(section=SECTION)]
    items += [types.ConfigurationItem(scope_uri=uri, section=SECTION) for uri in folders.values()]
    asked = asyncio.ensure_future(server.workspace_configuration_async(types.ConfigurationParams(items)))

    def take(done: asyncio.Future[Any]) -> None:
        values = None if done.cancelled() or done.exception() else done.result()
        if isinstance(values, (list, tuple)) and values:
            service.configure({SECTION: values[0]})
            service.configure_folders(dict.fromkeys(folders) | dict(zip(folders, values[1:], strict=False)))

    asked.add_done_callback(take)
    await asyncio.wait({asked}, timeout=CONFIGURATION_S)

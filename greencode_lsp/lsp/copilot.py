"""What Copilot's clients say and expect beyond the protocol, so that copilot.el and its like work as they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pygls.lsp.server import LanguageServer

from greencode_lsp.completion.status import Status

STATUS_METHOD = "didChangeStatus"
SHOWN_METHOD = "textDocument/didShowCompletion"
PART_METHOD = "textDocument/didPartiallyAcceptCompletion"
FOCUS_METHOD = "textDocument/didFocus"
KINDS = {"loading": "Inactive", "ready": "Normal", "paused": "Inactive", "failed": "Error"}


def asks_for_status(options: object) -> bool:
    """Return whether a client's `initializationOptions` are those of a client of Copilot's server."""
    return isinstance(options, Mapping) and "editorPluginInfo" in options


def status_params(status: Status) -> dict[str, Any]:
    """Return the payload of `didChangeStatus`."""
    kind = "Warning" if status.state == "ready" and status.reason else KINDS[status.state]
    return {"message": status.reason or f"greencode: {status.state}", "kind": kind, "busy": status.state == "loading"}


def listen(
    server: LanguageServer, accepted: Callable[[str, int], None], focused: Callable[[str], Awaitable[None]]
) -> None:
    """Take the notifications.

    `accepted` is given an item's number and how many code units of it were taken, `focused` the URI of the document
    that the user has turned to.
    """

    @server.feature(SHOWN_METHOD)
    def did_show(params: Any) -> None:  # noqa: ANN401 - untyped in pygls
        """Nothing: an answer counts as shown when it is given."""

    @server.feature(FOCUS_METHOD)
    async def did_focus(params: Any) -> None:  # noqa: ANN401 - untyped in pygls
        uri = getattr(getattr(params, "textDocument", None), "uri", None)
        if isinstance(uri, str):
            await focused(uri)

    @server.feature(PART_METHOD)
    def did_partially_accept(params: Any) -> None:  # noqa: ANN401 - untyped in pygls
        command = getattr(getattr(params, "item", None), "command", None)
        numbers, length = getattr(command, "arguments", None), getattr(params, "acceptedLength", None)
        if numbers and isinstance(length, int):
            accepted(str(numbers[0]), length)

"""A thousand random messages; `python -m tests.fuzz lsp` sends a hundred times as many."""

from __future__ import annotations

import asyncio

import pytest


async def test_random_messages_spoil_no_later_request_and_the_server_ends_well() -> None:
    pytest.importorskip("hypothesis")
    from tests.fuzz import messages

    figures = {figure.name: figure.value for figure in await asyncio.to_thread(messages.run, 0.01, 1)}
    assert (figures["messages"], figures["later requests spoilt"], figures["exit code"]) == (1000, 0, 0)

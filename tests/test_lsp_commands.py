"""Commands and the report over the wire: what the client passes is what arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from lsprotocol import types

from tests.lsp_session import Editor, session


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def editor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Editor]:
    """Return an editor whose server is ready."""
    async with session(tmp_path_factory.mktemp("home")) as running:
        await running.status(state="ready")
        yield running


async def execute(editor: Editor, command: str, *arguments: Any) -> Any:
    params = types.ExecuteCommandParams(command, list(arguments))
    return await editor.client.workspace_execute_command_async(params)


@pytest.mark.parametrize(("value", "number"), [("energy", 0.0), (0, 0.0), (0.25, 0.25), ("balanced", 0.5)])
async def test_a_preference_holds_for_the_session(editor: Editor, value: Any, number: float) -> None:
    assert await execute(editor, "greencode.setPreference", value) == number
    await editor.status(preference=number)


async def test_a_bad_preference_is_reported(editor: Editor) -> None:
    assert await execute(editor, "greencode.setPreference", "cheap") is None
    assert any("'cheap' is no preference" in sentence for sentence in editor.notices)


async def test_pause_and_resume_are_seen_in_the_status(editor: Editor) -> None:
    await execute(editor, "greencode.pause")
    await editor.status(state="paused")
    editor.statuses.clear()
    await execute(editor, "greencode.resume")
    await editor.status(state="ready")


async def test_the_report_comes_by_command_and_by_request(editor: Editor) -> None:
    by_command = await execute(editor, "greencode.report", "all", "html")
    by_request = await editor.client.protocol.send_request_async("greencode/report", {"scope": "all", "format": "html"})
    for report in (by_command, by_request):  # pygls gives the one as a dictionary, the other as an object
        html = report["html"] if isinstance(report, dict) else report.html
        assert "<html" in html.lower()

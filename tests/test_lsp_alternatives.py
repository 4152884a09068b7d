"""Several suggestions on the wire: three where the user asks, one by itself, each accepted by its own command."""

from __future__ import annotations

from pathlib import Path

from lsprotocol import types

from tests.lsp_session import Editor, session


async def items(editor: Editor, uri: str, *, invoked: bool) -> list[types.InlineCompletionItem]:
    answer = await editor.request(uri, 0, 7, invoked=invoked)[1]
    return list(answer.items)


async def test_up_to_three_distinct_items_come_where_the_user_asks_and_one_otherwise(tmp_path: Path) -> None:
    async with session(tmp_path, options={"debounceMs": 0}) as editor:
        await editor.status(state="ready")
        uri = editor.open("fork = ")
        assert [item.insert_text for item in await items(editor, uri, invoked=False)] == ["left"]
        several = await items(editor, uri, invoked=True)
        assert several[0].insert_text == "left"
        assert {item.insert_text for item in several} == {"left", "right", "middle"}
        assert len({str(item.range) for item in several}) == 1
        numbers = [item.command.arguments for item in several if item.command]
        assert len({str(number) for number in numbers}) == 3


async def test_the_accepted_one_counts(tmp_path: Path) -> None:
    async with session(tmp_path, options={"debounceMs": 0}) as editor:
        await editor.status(state="ready")
        uri = editor.open("fork = ")
        third = (await items(editor, uri, invoked=True))[2]
        assert third.command is not None
        params = types.ExecuteCommandParams(third.command.command, third.command.arguments)
        await editor.client.workspace_execute_command_async(params)
        await editor.status(lambda status: status["today"]["accepted"] == 1)

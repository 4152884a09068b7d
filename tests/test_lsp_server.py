"""The server as an editor sees it, over standard input and output, with a model that has memorised a few texts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from lsprotocol import types

from tests.fake_server import BROKEN, EMOJI, LONG, SLOW
from tests.lsp_session import INLINE, PULL, Editor, session

STATUS = {
    "state",
    "reason",
    "model",
    "device",
    "answered_by",
    "exit_policy",
    "preference",
    "power",
    "last",
    "today",
    "choices",
}
LAST = {"energy_j", "energy_tier", "full_depth_j", "saved_j", "exit_layers", "layers", "tokens", "elapsed_ms"}
COMMANDS = {
    "greencode.accept",
    "greencode.setPreference",
    "greencode.pause",
    "greencode.resume",
    "greencode.report",
    "greencode.models",
    "greencode.pullModel",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def editor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Editor]:
    """Return an editor with inline completion that counts in UTF-16, as most do."""
    async with session(tmp_path_factory.mktemp("home")) as running:
        yield running


def at(line: int, start: int, end: int | None = None) -> types.Range:
    return types.Range(types.Position(line, start), types.Position(line, start if end is None else end))


async def test_inline_completion_is_advertised_and_popups_are_left_to_others(editor: Editor) -> None:
    capabilities = editor.result.capabilities
    assert capabilities.inline_completion_provider is not None
    assert capabilities.completion_provider is None
    assert set(capabilities.execute_command_provider.commands) == COMMANDS


async def test_a_completion_comes_with_an_empty_range_at_the_cursor_and_a_command(editor: Editor) -> None:
    uri = editor.open("x = 0\n    for it")
    answer = await editor.request(uri, 1, 10)[1]
    [item] = answer.items
    assert (item.insert_text, item.range) == ("em in items:", at(1, 10))
    assert item.command.command == "greencode.accept"
    accepted = types.ExecuteCommandParams(item.command.command, item.command.arguments)
    assert await editor.client.workspace_execute_command_async(accepted) is None


async def test_nothing_to_suggest_is_an_empty_list(editor: Editor) -> None:
    assert await editor.inline(editor.open("unheard of"), 0, 10) == []


async def test_an_empty_document_is_answered(editor: Editor) -> None:
    assert await editor.inline(editor.open(""), 0, 0) == []


async def test_an_emoji_line_is_counted_in_the_clients_units(editor: Editor) -> None:
    uri = editor.open("smile = '😀'; na")
    assert await editor.inline(uri, 0, 16) == [("me = smile", at(0, 16))]


async def test_changes_reach_the_next_completion(editor: Editor) -> None:
    uri = editor.open("\x0cx = 0\n    for")
    document = types.VersionedTextDocumentIdentifier(2, uri)
    change = types.TextDocumentContentChangePartial(range=at(1, 7), text=" it")
    editor.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))
    assert await editor.inline(uri, 1, 10) == [("em in items:", at(1, 10))]


async def test_a_cancelled_request_is_answered_with_request_cancelled_and_the_next_one_runs(editor: Editor) -> None:
    uri = editor.open(SLOW[:6])
    request_id, answer = editor.request(uri, 0, 6)
    editor.client.cancel_request(types.CancelParams(request_id))
    with pytest.raises(Exception, match="cancel") as error:
        await asyncio.wait_for(answer, 30)
    assert error.value.code == -32800  # type: ignore[attr-defined]
    assert await editor.inline(editor.open("    for it"), 0, 10) != []


async def test_of_two_requests_the_older_is_answered_with_null_and_the_newer_with_items(editor: Editor) -> None:
    uri = editor.open(f"{SLOW[:6]}\n{EMOJI[:6]}")
    older = editor.request(uri, 0, 6)[1]
    newer = editor.open(EMOJI[:6], uri), editor.request(uri, 0, 6)[1]
    assert await asyncio.wait_for(older, 30) is None
    assert len((await asyncio.wait_for(newer[1], 30)).items) == 1


async def test_a_closed_document_gives_up_its_request(editor: Editor) -> None:
    uri = editor.open(SLOW[:6])
    answer = editor.request(uri, 0, 6)[1]
    editor.client.text_document_did_close(types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(uri)))
    assert await asyncio.wait_for(answer, 30) is None


@pytest.mark.parametrize(
    ("selected", "span", "expected"),
    [
        ("fgh", at(0, 5), [("fgh = 12345", at(0, 5))]),
        ("abcdefgh", at(0, 0, 5), [("abcdefgh = 12345", at(0, 0, 5))]),
        ("abcdxyz", at(0, 0, 5), []),
        ("abcdefgh", at(0, 0, 4), []),
        ("abcdefgh", at(7, 0, 4), []),
    ],
    ids=["at the cursor", "over the typed word", "another word", "not up to the cursor", "outside the document"],
)
async def test_the_item_selected_in_the_popup_is_extended_or_nothing_is_said(
    editor: Editor, selected: str, span: types.Range, expected: list[tuple[str, types.Range]]
) -> None:
    uri = editor.open(LONG[:5])
    assert await editor.inline(uri, 0, 5, types.SelectedCompletionInfo(span, selected)) == expected


async def test_a_position_outside_the_file_is_a_line_in_the_log_and_the_server_goes_on(editor: Editor) -> None:
    uri, notices = editor.open("    for it"), len(editor.notices)
    assert await editor.inline(uri, 5, 0) == []
    assert editor.logged[-1].startswith("Line 6 is outside the document")
    assert len(editor.notices) == notices
    assert await editor.inline(uri, 0, 10) != []


async def test_a_document_that_is_not_open_is_neither_read_nor_reported(editor: Editor, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("    for it")
    notices = len(editor.notices)
    assert await editor.inline((tmp_path / "a.py").as_uri(), 0, 10) == []
    assert "not open" in editor.logged[-1]
    assert len(editor.notices) == notices


async def test_a_failing_generation_is_one_sentence_without_the_text(editor: Editor) -> None:
    assert await editor.inline(editor.open(BROKEN[:8]), 0, 8) == []
    assert "KeyError" in editor.notices[-1]
    assert "broken" not in editor.notices[-1]
    assert await editor.inline(editor.open("    for it"), 0, 10) != []


async def test_a_bad_setting_is_reported_and_the_server_goes_on(editor: Editor) -> None:
    editor.configure({"greencode": {"preference": "fast", "maxNewTokens": 30}})
    assert await editor.inline(editor.open("    for it"), 0, 10) != []
    assert editor.notices[-1].startswith("The setting greencode.preference must be")


async def test_pushed_settings_are_reported_with_the_energy_of_the_last_completion(editor: Editor) -> None:
    editor.configure({"preference": "energy"})
    uri = editor.open("    for it")
    await editor.inline(uri, 0, 10)
    status = await editor.status(preference=0.0)
    assert set(status) == STATUS
    assert (status["state"], status["model"], status["device"]) == ("ready", "fake-1", "cpu")
    assert set(status["last"]) == LAST
    assert [choice["name"] for choice in status["choices"]] == ["accuracy", "balanced", "energy"]
    assert status["last"]["energy_tier"] == "modelled"
    assert status["today"]["energy_j"] >= 10.0


async def test_a_missing_model_is_reported_and_another_is_taken(tmp_path: Path) -> None:
    async with session(tmp_path, options={"greencode": {"model": "/nowhere", "colour": 1}}) as editor:
        uri = editor.open("    for it")
        assert await editor.inline(uri, 0, 10) == []
        assert editor.notices[0].startswith("There is no setting greencode.colour")
        assert editor.notices[1] == "There is no model in /nowhere."
        editor.configure({"model": "bundled"})
        assert await editor.inline(uri, 0, 10) != []


async def test_settings_are_pulled_from_a_client_that_can_be_asked(tmp_path: Path) -> None:
    capabilities = types.ClientCapabilities(text_document=INLINE, workspace=PULL)
    section = {"greencode": {"preference": 0.25}}
    async with session(tmp_path, capabilities=capabilities, configuration=section) as editor:
        await editor.status(preference=0.25, state="ready")
        editor.client.set_configuration({"greencode": {"preference": 0.75}})
        editor.configure(None)
        await editor.status(preference=0.75)


async def test_changes_of_the_settings_are_asked_for_where_the_client_takes_such_wishes(tmp_path: Path) -> None:
    watched = types.DidChangeConfigurationClientCapabilities(dynamic_registration=True)
    workspace = types.WorkspaceClientCapabilities(did_change_configuration=watched)
    async with session(tmp_path, capabilities=types.ClientCapabilities(workspace=workspace)) as editor:
        while not editor.registered:
            editor.news.clear()
            await asyncio.wait_for(editor.news.wait(), 30)
        assert editor.registered == ["workspace/didChangeConfiguration"]


async def test_a_client_without_inline_completion_gets_one_popup_item_over_the_typed_word(tmp_path: Path) -> None:
    capabilities = types.ClientCapabilities(
        general=types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf8])
    )
    async with session(tmp_path, capabilities=capabilities) as editor:
        assert editor.result.capabilities.inline_completion_provider is not None
        assert editor.result.capabilities.completion_provider is not None
        await editor.status(state="ready")
        uri = editor.open("smile = '😀'; na")
        params = types.CompletionParams(types.TextDocumentIdentifier(uri), types.Position(0, 18))
        answer = await editor.client.text_document_completion_async(params)
        [item] = answer.items
        assert answer.is_incomplete
        assert item.text_edit == types.TextEdit(at(0, 16, 18), "name = smile")
        assert item.label == item.filter_text == "name = smile"
        assert item.detail == "greencode 10 J modelled"
        assert item.sort_text is None  # the fake is sure


async def test_neither_unknown_messages_nor_failures_are_written_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with session(tmp_path) as editor:
        editor.client.protocol.notify("unknown/method", {"secret": "password"})
        assert await editor.inline(editor.open(BROKEN[:8]), 0, 8) == []
    assert capfd.readouterr().err == ""


async def test_a_running_generation_does_not_hold_up_the_shutdown(tmp_path: Path) -> None:
    async with session(tmp_path) as editor:
        await editor.status(state="ready")
        answer = editor.request(editor.open(SLOW[:6]), 0, 6)[1]
    assert answer.done()

"""Other open files in a suggestion, on the wire; the model says `tally_of` only where it has read `near.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsprotocol import types

from tests.lsp_session import Editor, session

NEAR, TEXT = "tally_of = tally\n", "tally = "
OPTIONS = {"greencode": {"context": "open", "maxPromptTokens": 200, "debounceMs": 0}}


async def said(editor: Editor, uri: str) -> str:
    [(text, _)] = await editor.inline(uri, 0, len(TEXT), invoked=True)
    return text


def uri_of(folder: Path, name: str) -> str:
    return (folder / name).as_uri()


async def test_an_open_file_of_the_workspace_is_read_until_it_is_closed_or_changed(tmp_path: Path) -> None:
    async with session(tmp_path / "home", options=OPTIONS, folders=[tmp_path]) as editor:
        await editor.status(state="ready")
        main, near = (
            editor.open(text, uri_of(tmp_path, name)) for text, name in ((TEXT, "main.py"), (NEAR, "near.py"))
        )
        assert await said(editor, main) == "tally_of"
        near_id = types.VersionedTextDocumentIdentifier(version=2, uri=near)
        change = types.TextDocumentContentChangeWholeDocument("nothing_of_the_kind = 1\n")
        editor.client.text_document_did_change(types.DidChangeTextDocumentParams(near_id, [change]))
        assert await said(editor, main) == "1"
        editor.client.text_document_did_change(
            types.DidChangeTextDocumentParams(near_id, [types.TextDocumentContentChangeWholeDocument(NEAR)])
        )
        assert await said(editor, main) == "tally_of"
        editor.client.text_document_did_close(types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(near)))
        assert await said(editor, main) == "1"


@pytest.mark.parametrize("name", ["id_rsa.py", "secret/near.py", "../near.py"])
async def test_ignored_files_and_those_outside_the_workspace_are_not_read(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (root / "secret").mkdir(parents=True)
    (root / ".greencodeignore").write_text("secret/\n")
    async with session(tmp_path / "home", options=OPTIONS, folders=[root]) as editor:
        await editor.status(state="ready")
        main = editor.open(TEXT, uri_of(root, "main.py"))
        editor.open(NEAR, uri_of(root, name))
        assert await said(editor, main) == "1"


async def test_by_default_no_other_file_is_read(tmp_path: Path) -> None:
    async with session(tmp_path / "home", options={"debounceMs": 0}, folders=[tmp_path]) as editor:
        await editor.status(state="ready")
        main = editor.open(TEXT, uri_of(tmp_path, "main.py"))
        editor.open(NEAR, uri_of(tmp_path, "near.py"))
        assert await said(editor, main) == "1"

"""What a suggestion says, as an editor sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from lsprotocol import types

from tests.fakes import at_cursor
from tests.lsp_session import Editor, session


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def editor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Editor]:
    async with session(tmp_path_factory.mktemp("home")) as running:
        yield running


def replace_all(editor: Editor, uri: str, version: int, text: str) -> None:
    document = types.VersionedTextDocumentIdentifier(version, uri)
    change = types.TextDocumentContentChangeWholeDocument(text)
    editor.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))


async def suggested(editor: Editor, uri: str, text: str, offset: int, *, invoked: bool = True) -> str:
    """Return what is suggested at an offset of an open document."""
    line, column = text.count("\n", 0, offset), offset - text.rfind("\n", 0, offset) - 1
    return "".join(inserted for inserted, _ in await editor.inline(uri, line, column, invoked=invoked))


SAYS = {
    "brackets to the right": ("if len(|) > 0:\n", "names"),
    "brackets in brackets to the right": ("def g(x) -> Tuple[Optional[|], int]:\n", "str"),
    "tabs without formatting options": ("def f():\n\tif tabbed:|\n", "\n\t\txs"),
    "inside a word": ("put_|value(1)\n", ""),
    "a licence": ("# Cop|\n", ""),
    "windows line ends": ("x = 1\r\ntry:|\r\n", "\r\n    act()\r\n    end()"),
    "line ends of one character": ("x = 1\ntry:|\n", "\n    act()\n    end()"),
}


@pytest.mark.parametrize(("marked", "expected"), SAYS.values(), ids=SAYS.keys())
async def test_what_is_asked_for_fits_the_text(editor: Editor, marked: str, expected: str) -> None:
    text, offset = at_cursor(marked)
    assert await suggested(editor, editor.open(text), text, offset) == expected


async def test_an_accepted_and_undone_suggestion_comes_again_only_when_asked_for(editor: Editor) -> None:
    uri = editor.open("abcdef")
    text = await suggested(editor, uri, "abcdef", 6, invoked=False)
    assert text == "gh = 12345"
    replace_all(editor, uri, 2, "abcdef" + text)
    replace_all(editor, uri, 3, "abcdef")
    assert await suggested(editor, uri, "abcdef", 6, invoked=False) == ""
    assert await suggested(editor, uri, "abcdef", 6) == text


async def test_a_name_changed_above_is_a_changed_suggestion(editor: Editor) -> None:
    text = "OLD = 1\n# what follows is far enough\nwhich = "
    uri = editor.open(text)
    assert await suggested(editor, uri, text, len(text)) == "OLD"
    replace_all(editor, uri, 2, text.replace("OLD", "NEW"))
    assert await suggested(editor, uri, text, len(text)) == "NEW"


async def test_manual_is_silent_until_asked(editor: Editor) -> None:
    uri = editor.open("    for it")
    editor.configure({"greencode": {"trigger": "manual"}})
    try:
        assert await editor.inline(uri, 0, 10) == []
        assert len(await editor.inline(uri, 0, 10, invoked=True)) == 1
    finally:
        editor.configure({"greencode": {}})

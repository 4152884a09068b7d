"""The command an editor starts, the bundled model, a real file of the standard library: nothing is faked."""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from tests.lsp_session import session

COMMAND = ("-c", "import sys; from greencode_lsp.cli import main; sys.exit(main(['--stdio']))")
"""What the console script `greencode-lsp --stdio` runs, from this checkout."""
SOURCE = inspect.getsource(textwrap)
INSIDE = "def wrap(self, text):"


def position_after(fragment: str) -> tuple[int, int]:
    """Return the 0-based line and column right behind the first `fragment` of the method."""
    offset = SOURCE.index(fragment, SOURCE.index(INSIDE)) + len(fragment)
    before = SOURCE[:offset]
    return before.count("\n"), len(before.rpartition("\n")[2])


def something_was_saved(status: dict[str, Any]) -> bool:
    """Return whether the last completion cost less than full depth: by copies, which this text is full of, or exits."""
    last = status["last"]
    return last is not None and last["saved_j"] > 0


def every_token_ran_all_layers(status: dict[str, Any]) -> bool:
    """Return whether the last completion was verified or ran at full depth."""
    last = status["last"]
    return last is not None and set(last["exit_layers"]) == {last["layers"]}


async def test_a_session_completes_obeys_the_preference_cancels_and_ends_well(tmp_path: Path) -> None:
    async with session(tmp_path, COMMAND) as editor:
        uri = editor.open(SOURCE, (tmp_path / "textwrap.py").as_uri())
        line, column = position_after("chunks = self.")
        text = SOURCE.splitlines(keepends=True)
        opened = "".join(text[:line]) + text[line][:column] + "\n" + "".join(text[line + 1 :])
        change = types.TextDocumentContentChangeWholeDocument(opened)
        version = types.VersionedTextDocumentIdentifier(2, uri)
        editor.client.text_document_did_change(types.DidChangeTextDocumentParams(version, [change]))

        [(first, where), *_] = await editor.inline(uri, line, column, invoked=True)
        assert first.strip()
        assert "\n" not in first
        assert where == types.Range(types.Position(line, column), types.Position(line, column))
        await editor.status(lambda status: status["last"] is not None, state="ready", preference=0.5)

        editor.configure({"greencode": {"preference": "energy", "exitPolicy": "agent"}})
        await editor.inline(uri, line, column, invoked=True)
        await editor.status(something_was_saved, state="ready", preference=0.0)

        editor.configure({"greencode": {"preference": "accuracy"}})
        [(second, _), *_] = await editor.inline(uri, line, column, invoked=True)
        assert second.strip()
        await editor.status(every_token_ran_all_layers, state="ready", preference=1.0)

        uri = editor.open(opened.replace("chunks", "pieces"))  # nothing of it is in the cache
        request_id, answer = editor.request(uri, line, column, invoked=True)
        editor.client.cancel_request(types.CancelParams(request_id))
        with pytest.raises(Exception, match="cancel") as error:
            await asyncio.wait_for(answer, 30)
        assert error.value.code == -32800  # type: ignore[attr-defined]
        assert editor.notices == []

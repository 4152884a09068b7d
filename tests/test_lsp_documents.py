"""Documents: positions as the protocol has them, one identity per file, bounds; most of it on the wire."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from greencode_lsp import limits
from greencode_lsp.errors import DocumentError
from greencode_lsp.lsp.documents import Document, Documents
from greencode_lsp.lsp.identity import identity, path_of
from tests.fuzz import documents
from tests.soak.document import Document as Open
from tests.soak.wire import Wire, connect

FAKE = ("-m", "tests.fake_server")
KNOWN = "    for it"
ENDING = "em in items:"


def span(start: tuple[int, int], end: tuple[int, int]) -> types.Range:
    return types.Range(types.Position(*start), types.Position(*end))


def edited(text: str, where: types.Range, new: str = "") -> str:
    document = Document(types.TextDocumentItem("file:///a.py", "python", 1, text), "utf-16")
    document.apply_change(types.TextDocumentContentChangePartial(range=where, text=new))
    return document.source


@pytest.mark.parametrize(
    ("text", "where", "new", "expected"),
    [
        ("self.x", span((0, 6), (0, 7)), "", "self.x"),
        ("old = 1", span((0, 0), (0, 99999)), "", ""),
        ("hello\n", span((0, 0), (0, 6)), "", "\n"),
        ("a\r\nb", span((0, 9), (1, 0)), "", "ab"),
        ("a\rb", span((1, 0), (1, 0)), "\n", "a\r\nb"),
        ("a\n", span((7, 3), (9, 9)), "b", "a\nb"),
        ("ab", span((0, 2), (0, 0)), "c", "c"),
        ("a\nb\nc", span((0, 1), (2, 0)), "", "ac"),
    ],
)
def test_an_edit_is_clamped_to_the_line_as_the_protocol_says(
    text: str, where: types.Range, new: str, expected: str
) -> None:
    assert edited(text, where, new) == expected


def test_random_edits_make_the_text_that_splicing_makes() -> None:
    figures = {figure.name: figure.value for figure in documents.run(0.02, 1)}
    assert figures == {"edits": 1200, "differences": 0}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("file:///c%3A/w/a.py", "file:///C:/w/a.py"),
        ("file:///w/a%20b.py", "file:///w/a b.py"),
        ("file://localhost/w/a.py", "file:///w/a.py"),
        ("vscode-notebook-cell:/w/a.ipynb#W0", "vscode-notebook-cell:/w/%61.ipynb#W0"),
        ("FILE:///w/a.py", "file:///w/a.py"),
    ],
)
def test_spellings_of_one_file_are_one_document(one: str, other: str) -> None:
    assert identity(one) == identity(other)


def test_cells_of_a_notebook_and_revisions_of_a_file_are_documents_of_their_own() -> None:
    uris = ("vscode-notebook-cell:/a.ipynb#W0", "vscode-notebook-cell:/a.ipynb#W1", "git:/a.py?1", "git:/a.py?2")
    assert len(set(map(identity, uris))) == 4


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///w/a%20b.py", "/w/a b.py"),
        ("untitled:Untitled-1", "Untitled-1"),
        ("vscode-notebook-cell:/w/n.ipynb#W0sZmlsZQ%3D%3D", "/w/n.ipynb"),
        ("vscode-remote://ssh-remote%2Bhost/w/a.py", "/w/a.py"),
        ('git:/w/a.py?{"path":"/w/a.py","ref":"~"}', "/w/a.py"),
        ("http://[x/a.py", "//[x/a.py"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
def test_a_documents_path_is_that_of_the_file_it_belongs_to(uri: str, path: str) -> None:
    assert path_of(uri) == path


def test_what_is_beyond_the_limits_is_not_kept_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greencode_lsp.lsp.documents.DOCUMENT_CHARACTERS", 10)
    monkeypatch.setattr("greencode_lsp.lsp.documents.ALL_CHARACTERS", 15)
    monkeypatch.setattr("greencode_lsp.lsp.documents.DOCUMENTS", 3)
    kept = Documents(None)
    for name, text in (("a", "x" * 10), ("b", "x" * 11), ("c", "x" * 9)):
        kept.put_text_document(types.TextDocumentItem(f"file:///{name}", "python", 1, text))
    with pytest.raises(DocumentError, match="3 are open"):
        kept.put_text_document(types.TextDocumentItem("file:///d", "python", 1, ""))
    refused = [document.refusal for document in map(kept.find, ("file:///a", "file:///b", "file:///c")) if document]
    assert [why and why.split(";")[0] for why in refused] == [
        None,
        "The file is longer than 5 million characters",
        "Too much text is open for this file to be completed as well",
    ]


async def ask(wire: Wire, uri: str, line: int = 0, character: int = len(KNOWN)) -> str | None:
    params = {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}
    call = await wire.ask("textDocument/inlineCompletion", params | {"context": {"triggerKind": 1}})
    assert call.error_code is None
    return call.text


async def test_a_file_opened_under_one_spelling_is_completed_under_another(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        Open(wire, "file:///c%3A/w/a.py", KNOWN, 0).open()
        assert await ask(wire, "file:///C:/w/a.py") == ENDING
        assert wire.notices == []


@pytest.mark.parametrize("version", [None, "x", 1.5, "missing"])
async def test_a_change_without_a_version_is_taken(home: Path, version: Any) -> None:
    async with connect(home, FAKE) as wire:
        document = Open(wire, "file:///a.py", "    for", 7)
        document.open()
        versioned = {"uri": document.uri} | ({} if version == "missing" else {"version": version})
        change = {"range": {"start": {"line": 0, "character": 7}, "end": {"line": 0, "character": 7}}, "text": " it"}
        wire.notify("textDocument/didChange", {"textDocument": versioned, "contentChanges": [change]})
        assert await ask(wire, document.uri) == ENDING


async def test_after_a_change_that_cannot_be_read_nothing_is_guessed_until_the_full_text_comes(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        document = Open(wire, "file:///a.py", KNOWN, 10)
        document.open()
        named = {"uri": document.uri, "version": 2}
        broken = {"range": {"start": {"line": 0}}, "text": "x"}
        wire.notify("textDocument/didChange", {"textDocument": named, "contentChanges": [broken]})
        assert await ask(wire, document.uri) == ""
        wire.notify("textDocument/didChange", {"textDocument": named, "contentChanges": [{"text": KNOWN}]})
        assert await ask(wire, document.uri) == ENDING


async def test_two_thousand_ranges_in_one_change_are_taken(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        document = Open(wire, "file:///a.py", "x\n" * 2000 + KNOWN, 0)
        document.open()
        changes = [
            {"range": {"start": {"line": n, "character": 1}, "end": {"line": n, "character": 1}}, "text": "y"}
            for n in range(2000)
        ]
        named = {"uri": document.uri, "version": 2}
        wire.notify("textDocument/didChange", {"textDocument": named, "contentChanges": changes})
        assert await ask(wire, document.uri, line=2000) == ENDING


async def test_a_line_too_long_is_refused_with_a_reason_and_others_are_answered(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        Open(wire, "file:///data.py", "x" * 1_000_000, 0).open()
        other = Open(wire, "file:///a.py", KNOWN, 10)
        other.open()
        assert await ask(wire, "file:///data.py", character=5) == ""
        while f"{limits.LINE_CHARACTERS:,}" not in (wire.statuses[-1]["reason"] or ""):
            await wire.ask("greencode/none", None)
        assert await ask(wire, other.uri) == ENDING


async def test_documents_and_places_that_are_not_there_are_empty_answers_and_one_line_in_the_log(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        document = Open(wire, "file:///a.py", KNOWN, 10)
        document.open()
        for _ in range(5):
            assert await ask(wire, "file:///never/opened.py") == ""
            assert await ask(wire, document.uri, line=77) == ""
        assert wire.notices == []
        assert len(wire.logged) == 2


@pytest.mark.parametrize(
    "name", [".env%2520", "sub/../.env", ".env#cell", "prod-secrets.yml", ".kube/config", "soft.py", "hard.py"]
)
async def test_a_secret_is_refused_under_every_name(home: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text("")
    (tmp_path / "soft.py").symlink_to(tmp_path / ".env")
    (tmp_path / "hard.py").hardlink_to(tmp_path / ".env")
    async with connect(home, FAKE) as wire:
        for scheme in ("file://", "file://localhost", "vscode-notebook-cell:", "git:"):
            document = Open(wire, f"{scheme}{tmp_path}/{name}", KNOWN, 10)
            document.open()
            assert await ask(wire, document.uri) == ""
        assert await ask(wire, document.uri) == ""
        Open(wire, f"file://{tmp_path}/app.py", KNOWN, 10).open()
        assert await ask(wire, f"file://{tmp_path}/app.py") == ENDING


async def test_a_cell_of_a_notebook_in_an_ignored_folder_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("private/\n!private/public.ipynb\n")
    async with connect(home, FAKE) as wire:
        uri = f"vscode-notebook-cell:{tmp_path}/private/public.ipynb#W0"
        Open(wire, uri, KNOWN, 10).open()
        assert await ask(wire, uri) == ""


async def test_a_folder_name_of_300_characters_is_no_obstacle(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        uri = "file:///" + "d" * 300 + "/a.py"
        Open(wire, uri, KNOWN, 10).open()
        assert await ask(wire, uri) == ENDING

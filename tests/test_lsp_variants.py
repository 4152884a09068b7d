"""What else clients were seen to send, or might: each is answered or passed over, and the session goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.soak.document import Document
from tests.soak.wire import INLINE, Call, Wire, connect, launch

FAKE = ("-m", "tests.fake_server")
HANGING = ("-m", "tests.hanging_server")
KNOWN, ENDING = "    for it", "em in items:"
NOT_INITIALIZED, INVALID_PARAMS = -32002, -32602
ENDS_S = 10.0
HOSTILE_URIS = (
    *("file://", "file:", "file:///", "", " ", "/", "untitled:", "untitled:a/b.py", "file:///%", "file:///%zz.py"),
    *("file:///a%2Fb.py", "file:///a%5Cb.py", "file:///..%2f..%2f.env/x.py", "file:///c%3a/x.py", "file:///C|/x.py"),
    *("file:////server/share/x.py", "file://server/x.py", "file://[::1]/x.py", "file://[/x.py", "file:///\ud800.py"),
    *("file:///%ff%fe.py", "file:///%00/x.py", "\\\\server\\x.py", "C:\\x.py", "http://x/y.py", "file:///x.py?a#b"),
    "file:///" + "d/" * 2000 + "x.py",
)


async def known(wire: Wire, uri: str = "file:///known.py") -> str | None:
    """Return what is suggested where the model knows what comes."""
    document = Document(wire, uri, KNOWN, len(KNOWN))
    document.open()
    call = document.request(trigger=1)[1]
    await wire.answer(call)
    document.close()
    return call.text


async def asked_again(wire: Wire, document: Document) -> Call:
    call = document.request(trigger=1)[1]
    await wire.answer(call)
    return call


AT_END = {"line": 0, "character": len(KNOWN)}
INSERT = {"range": {"start": AT_END, "end": AT_END}, "text": ""}


@pytest.mark.parametrize("version", [None, "7", 1.5, -3, True, 2**31, 10**30, [], {}], ids=repr)
async def test_a_change_is_taken_whatever_its_version(home: Path, version: Any) -> None:
    async with connect(home, FAKE) as wire:
        document = Document(wire, "file:///a.py", "    for i", len(KNOWN))
        document.open()
        change = {"range": {"start": {"line": 0, "character": 9}, "end": {"line": 0, "character": 9}}, "text": "t"}
        named = {"uri": document.uri, "version": version}
        wire.notify("textDocument/didChange", {"textDocument": named, "contentChanges": [change]})
        document.text = KNOWN
        assert (await asked_again(wire, document)).text == ENDING


@pytest.mark.parametrize(
    "changes",
    [
        None,
        5,
        {},
        [None],
        [{}],
        [{"text": None}],
        [{"text": 5}],
        [{"text": "x", "range": 5}],
        [{"text": "x", "range": {"start": {"line": -1, "character": 0}, "end": AT_END}}],
        [{"text": "x", "range": {"start": {"line": 0, "character": 0.5}, "end": AT_END}}],
        [{"text": "x", "range": {"start": {"line": 0, "character": None}, "end": AT_END}}],
        [{"text": "x", "range": {"start": {"line": "0", "character": 0}, "end": AT_END}}],
        [{"text": "x", "range": {"start": {"line": 0, "character": 10**30}, "end": AT_END}}],
        [{"text": "x", "range": {"start": AT_END}}],
    ],
    ids=repr,
)
async def test_a_change_that_cannot_be_read_leads_to_no_other_text_and_a_full_text_fixes_it(
    home: Path, changes: Any
) -> None:
    async with connect(home, FAKE) as wire:
        document = Document(wire, "file:///a.py", KNOWN, len(KNOWN))
        document.open()
        named = {"uri": document.uri, "version": 2}
        wire.notify("textDocument/didChange", {"textDocument": named, "contentChanges": changes})
        first = await asked_again(wire, document)
        assert first.error_code is None
        assert first.text in ("", ENDING)  # refused, or as the text was
        wire.notify("textDocument/didChange", {"textDocument": named, "contentChanges": [{"text": KNOWN}]})
        assert (await asked_again(wire, document)).text == ENDING


@pytest.mark.parametrize(
    "position",
    [
        *(None, 5, [], {}, {"line": 0}, {"line": -1, "character": 0}, {"line": 0, "character": -1}),
        {"line": 10**30, "character": 0},
    ],
    ids=repr,
)
async def test_a_position_that_is_none_is_an_error_and_the_session_goes_on(home: Path, position: Any) -> None:
    async with connect(home, FAKE) as wire:
        document = Document(wire, "file:///a.py", KNOWN, len(KNOWN))
        document.open()
        params = document.params(trigger=1) | {"position": position}
        assert (await wire.ask("textDocument/inlineCompletion", params)).error_code == INVALID_PARAMS
        assert (await asked_again(wire, document)).text == ENDING


@pytest.mark.parametrize("line", [0.5, "0"])
async def test_a_line_in_another_spelling_of_a_number_is_no_obstacle(home: Path, line: Any) -> None:
    async with connect(home, FAKE) as wire:
        document = Document(wire, "file:///a.py", KNOWN, len(KNOWN))
        document.open()
        params = document.params(trigger=1) | {"position": {"line": line, "character": 0}}
        assert (await wire.ask("textDocument/inlineCompletion", params)).error_code in (None, INVALID_PARAMS)
        assert (await asked_again(wire, document)).text == ENDING


async def test_whatever_a_document_is_called_it_is_answered_and_nothing_fails(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        for uri in HOSTILE_URIS:
            document = Document(wire, uri, KNOWN, len(KNOWN))
            document.open()
            call = await asked_again(wire, document)
            assert call.error_code is None, uri
            document.close()
        assert await known(wire) == ENDING


@pytest.mark.parametrize(
    "start", ["\ufeff", "\ud83d\n", "\udc00\n", "# 😀\n", "\x00\n", "\u2028\n", "\x0c\n", "a\rb\n"]
)
async def test_characters_that_are_rare_in_files_are_no_obstacle(home: Path, start: str) -> None:
    async with connect(home, FAKE) as wire:
        document = Document(wire, "file:///a.py", start + "\n" + KNOWN, 0)
        document.open()
        lines = start.replace("\r", "\n").count("\n") + 1
        params = document.params(trigger=1) | {"position": {"line": lines, "character": len(KNOWN)}}
        assert (await wire.ask("textDocument/inlineCompletion", params)).text == ENDING


@pytest.mark.parametrize(
    "settings",
    [
        [None],
        [5],
        ["x"],
        [[]],
        [{"perLanguage": 5}],
        [{"perLanguage": {"python": 5, "java": {"preference": []}}}],
        [{"perLanguage": {"python": {"perLanguage": {"python": {"maxNewTokens": -1}}}}}],
        [{"energy": []}],
        [{"energy": {"report": {}, "carbonIntensity": "x"}}],
        [{"languages": {"python": 1}}],
        [{"exclude": [5, None, "*" * 5000]}],
        [{"maxNewTokens": 10**30, "contextTokens": -1, "debounce": 1e308}],
        [{"preference": True, "minAgreement": "x", "exitPolicy": ["agent"]}],
        [{"": 1, "no.such": {}, "model": {"name": "x"}}],
        [{}, {}, {}, {}],
        [],
    ],
    ids=repr,
)
async def test_settings_of_any_kind_leave_a_server_that_completes(home: Path, settings: Any) -> None:
    async with launch(home, FAKE) as wire:
        wire.configuration = settings
        await wire.initialize(capabilities=INLINE | {"workspace": {"configuration": True}})
        assert await known(wire) == ENDING
        wire.notify("workspace/didChangeConfiguration", {"settings": {"greencode": settings}})
        wire.notify("workspace/didChangeConfiguration", {"settings": settings})
        assert await known(wire, "file:///other.py") == ENDING
        assert await wire.end() == 0


@pytest.mark.parametrize(
    "options", [5, "x", [], [None], True, {"greencode": 5}, {"greencode": {"model": []}}], ids=repr
)
async def test_initialization_options_of_any_kind_are_no_obstacle(home: Path, options: Any) -> None:
    async with connect(home, FAKE, options) as wire:
        assert await known(wire) == ENDING


@pytest.mark.parametrize(
    "wrong",
    [
        *({"capabilities": None}, {"capabilities": 5}, {"processId": "x"}),
        *({"workspaceFolders": 5}, {"workspaceFolders": [{}]}),
    ],
    ids=repr,
)
async def test_an_initialize_that_cannot_be_read_is_an_error_and_another_is_taken(
    home: Path, wrong: dict[str, Any]
) -> None:
    async with launch(home, FAKE) as wire:
        params = {"processId": None, "rootUri": None, "capabilities": INLINE}
        assert (await wire.ask("initialize", params | wrong)).error_code == INVALID_PARAMS
        await wire.initialize()
        assert await known(wire) == ENDING


@pytest.mark.parametrize("process_id", [0, -1, 2**31 - 1, 10**30], ids=repr)
async def test_a_process_that_cannot_be_is_not_waited_for(home: Path, process_id: int) -> None:
    async with launch(home, FAKE) as wire:
        call = await wire.ask("initialize", {"processId": process_id, "rootUri": None, "capabilities": INLINE})
        assert call.error_code in (None, INVALID_PARAMS)
        if call.error_code is None:
            wire.notify("initialized", {})
            await wire.ready()
            assert await known(wire) == ENDING


async def test_shutdown_before_initialize_is_refused_and_exit_ends_with_code_1(home: Path) -> None:
    async with launch(home, FAKE) as wire:
        assert (await wire.ask("shutdown", None)).error_code == NOT_INITIALIZED
        wire.notify("exit", None)
        assert await asyncio.wait_for(wire.process.wait(), ENDS_S) == 1


async def test_the_end_of_the_input_before_initialize_ends_the_server(home: Path) -> None:
    async with launch(home, FAKE) as wire:
        wire.stdin.close()
        assert await asyncio.wait_for(wire.process.wait(), ENDS_S) == 1


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_signal_ends_a_server_whose_model_never_loads(home: Path, number: signal.Signals) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("what started the tests has this signal ignored, as nohup does")
    async with launch(home, HANGING) as wire:
        await wire.ask("initialize", {"processId": None, "rootUri": None, "capabilities": INLINE})
        wire.notify("initialized", {})
        wire.process.send_signal(number)
        assert await asyncio.wait_for(wire.process.wait(), ENDS_S) is not None

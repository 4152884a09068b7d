"""The order of a session and its end, on the wire; and what a client may say that no client should."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.soak.document import Document
from tests.soak.wire import INLINE, Silent, connect, encode, frame, launch

FAKE = ("-m", "tests.fake_server")
HANGING = ("-m", "tests.hanging_server")
"""Its model never finishes loading."""
ENDS_S = 10.0
KNOWN = "    for it"
NOT_INITIALIZED, INVALID = -32002, -32600
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")


async def test_a_request_before_initialize_is_refused_and_the_session_goes_on(home: Path) -> None:
    async with launch(home, FAKE) as wire:
        assert (await wire.ask("textDocument/inlineCompletion", {})).error_code == NOT_INITIALIZED
        wire.notify("textDocument/didOpen", {})
        await wire.initialize()
        assert await wire.end() == 0


async def test_a_second_initialize_is_refused_and_loses_nothing(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        document = Document(wire, "file:///a.py", KNOWN, len(KNOWN))
        document.open()
        again = await wire.ask("initialize", {"processId": None, "rootUri": None, "capabilities": INLINE})
        assert again.error_code == INVALID
        call = document.request(trigger=1)[1]
        await wire.answer(call)
        assert call.text == "em in items:"


async def test_a_request_after_shutdown_is_refused(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        await wire.ask("shutdown", None)
        assert (await wire.ask("greencode/report", {})).error_code == INVALID
        assert (await wire.ask("shutdown", None)).error_code == INVALID
        wire.notify("exit", None)
        assert await asyncio.wait_for(wire.process.wait(), ENDS_S) == 0


async def test_exit_without_shutdown_is_code_1(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        wire.notify("exit", None)
        assert await asyncio.wait_for(wire.process.wait(), ENDS_S) == 1


async def test_the_end_of_the_input_ends_the_server(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        wire.stdin.close()
        assert await asyncio.wait_for(wire.process.wait(), ENDS_S) == 1


@POSIX
async def test_a_closed_output_ends_the_server(home: Path) -> None:
    command = [sys.executable, *FAKE]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "GREENCODE_HOME": str(home)}
    )
    assert process.stdin
    assert process.stdout
    params = {"processId": None, "rootUri": None, "capabilities": INLINE}
    process.stdin.write(frame(encode({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})))
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    try:
        assert await asyncio.to_thread(process.wait, ENDS_S) == 1
    finally:
        process.kill()
        process.stdin.close()


async def test_the_end_of_the_editors_process_ends_the_server_though_the_pipe_is_held(home: Path) -> None:
    editor = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    async with launch(home, FAKE) as wire:
        await wire.initialize(processId=editor.pid)
        assert wire.process.returncode is None
        editor.kill()
        await editor.wait()
        assert await asyncio.wait_for(wire.process.wait(), ENDS_S) == 1


async def test_a_process_of_another_machine_is_not_waited_for(home: Path) -> None:
    async with launch(home, FAKE) as wire:
        await wire.initialize(processId=2**30)
        assert await wire.end() == 0


async def test_a_model_that_never_loads_does_not_hold_up_the_end(home: Path) -> None:
    async with launch(home, HANGING) as wire:
        await wire.ask("initialize", {"processId": None, "rootUri": None, "capabilities": INLINE})
        wire.notify("initialized", {})
        await wire.ask("shutdown", None)
        wire.notify("exit", None)
        assert await asyncio.wait_for(wire.process.wait(), ENDS_S) == 0


@POSIX
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_a_signal_ends_the_server_in_order_whatever_hangs(home: Path, name: str) -> None:
    number = getattr(signal, name)
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("what started the tests has this signal ignored, as nohup does")
    async with launch(home, HANGING) as wire:
        await wire.ask("initialize", {"processId": None, "rootUri": None, "capabilities": INLINE})
        wire.notify("initialized", {})
        await wire.ask("greencode/none", None)
        wire.process.send_signal(number)
        assert await asyncio.wait_for(wire.process.wait(), ENDS_S) == 1


@POSIX
async def test_a_current_folder_that_is_gone_does_not_keep_the_server_from_starting(home: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from greencode_lsp.cli import main; sys.exit(main(['--stdio']))"
    async with launch(home, ("-c", code), cwd=gone) as wire:
        await wire.ask("initialize", {"processId": None, "rootUri": None, "capabilities": INLINE})
        assert await wire.end() == 0


@pytest.mark.parametrize("answer", [None, 5, [], "x", [5], {"a": 1}, Silent], ids=str)
async def test_the_model_loads_at_once_whatever_the_client_says_of_its_configuration(home: Path, answer: Any) -> None:
    async with launch(home, FAKE) as wire:
        wire.configuration = answer
        capabilities = INLINE | {"workspace": {"configuration": True}}
        await wire.initialize(capabilities=capabilities)  # waits until the model is ready
        assert all(sentence.startswith("The setting greencode must be") for sentence in wire.notices)
        assert await wire.end() == 0


@pytest.mark.parametrize("call_id", [[1], {"a": 1}, None, True, 1.5, "x" * 1000, 10**30], ids=lambda v: str(v)[:10])
async def test_an_id_that_is_none_is_answered_with_an_error_and_the_session_goes_on(home: Path, call_id: Any) -> None:
    async with connect(home, FAKE) as wire:
        wire.raw(frame(encode({"jsonrpc": "2.0", "id": call_id, "method": "greencode/report", "params": {}})))
        wire.notify("$/cancelRequest", {"id": call_id})
        await wire.ask("greencode/report", {})
        assert [message["error"]["code"] for message in wire.unexpected] == [INVALID]
        assert wire.notices == []
        assert await wire.end() == 0


@pytest.mark.parametrize("length", [10**13, 3 * 10**9, 10**25])
async def test_a_length_beyond_the_limit_is_passed_over(home: Path, length: int) -> None:
    async with connect(home, FAKE) as wire:
        wire.raw(b"Content-Length: %d\r\n\r\n{" % length)
        call = await wire.ask("greencode/report", {})
        assert call.error_code is None
        assert any("passed over" in line for line in wire.logged)
        assert await wire.end() == 0


async def test_headers_are_read_in_any_case(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        body = encode({"jsonrpc": "2.0", "id": 999, "method": "greencode/report", "params": {}})
        call = wire.expect(999, "greencode/report")
        wire.raw(b"content-type: x\r\ncontent-length:%d\r\n\r\n" % len(body) + body)
        await wire.answer(call)


async def test_nesting_beyond_the_limit_is_passed_over(home: Path) -> None:
    async with connect(home, FAKE) as wire:
        for depth in (200, 100_000):
            body = b'{"jsonrpc":"2.0","id":5000,"method":"greencode/report","params":' + b"[" * depth + b"]" * depth
            wire.raw(frame(body + b"}"))
        assert (await wire.ask("greencode/report", {})).error_code is None
        assert await wire.end() == 0


async def test_many_changes_of_the_model_load_at_most_the_running_and_the_last(home: Path, tmp_path: Path) -> None:
    async with connect(home, ("-m", "tests.hanging_server", "--count", str(tmp_path / "loads"))) as wire:
        for number in range(30):
            wire.notify("workspace/didChangeConfiguration", {"settings": {"greencode": {"model": f"m{number}"}}})
        await wire.ask("greencode/none", None)
        begun_s = time.monotonic()
        while "m29" not in (tmp_path / "loads").read_text():
            assert time.monotonic() - begun_s < ENDS_S
            await wire.ask("greencode/none", None)
        loads = (tmp_path / "loads").read_text().split()
        assert loads[0] == "auto"
        assert loads[-1] == "m29"
        assert len(loads) <= 3

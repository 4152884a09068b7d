"""The shared engine as a process: found, started, replaced, outlived; and what happens without one."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from greencode_lsp.completion.request import Request
from greencode_lsp.errors import EngineError, HostError
from greencode_lsp.files import make_private
from greencode_lsp.host import join as joining
from greencode_lsp.host import meeting as meetings
from greencode_lsp.host.join import join, start_detached
from greencode_lsp.host.meeting import Meeting, Transport
from greencode_lsp.host.shared import SharedEngine
from tests.host_engine import (
    Running,
    ignore,
    launch_fake,
    live,
    local_model,
    meeting_place,
    no_launch,
    parts,
    request,
    running,
    shared,
)

posix = pytest.mark.skipif(os.name != "posix", reason="Unix sockets and their owners")


@pytest.fixture(params=["unix", "tcp"])
def meeting(request: pytest.FixtureRequest) -> Iterator[Meeting]:
    with meeting_place(request.param) as place:
        yield place


@pytest.fixture
def unix_meeting() -> Iterator[Meeting]:
    with meeting_place() as place:
        make_private(place.folder)
        yield place


def process_ids(meeting: Meeting) -> list[int]:
    return [int(path.stem) for path in meeting.folder.glob("*.pid")]


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(process_id: int) -> None:
    end_s = time.monotonic() + 20
    while is_alive(process_id):
        assert time.monotonic() < end_s
        threading.Event().wait(0.01)


def test_the_first_editor_starts_an_engine_and_the_last_ends_it(meeting: Meeting) -> None:
    first, second = shared(meeting, launch_fake), shared(meeting, no_launch)
    (process_id,) = process_ids(meeting)
    assert first.complete(request(), live(), ignore).text == second.complete(request(), live(), ignore).text
    first.close()
    second.close()
    wait_for_end(process_id)
    assert not meeting.path.exists()


def test_editors_that_start_at_once_start_one_engine(meeting: Meeting) -> None:
    models = []
    threads = [threading.Thread(target=lambda: models.append(shared(meeting, launch_fake))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(process_ids(meeting)) == 1
    assert [model.complete(request(), live(), ignore).text for model in models] == [
        local_model().complete(request(), live(), ignore).text
    ] * 4
    for model in models:
        model.close()


def test_a_killed_engine_is_replaced_for_the_next_request(meeting: Meeting) -> None:
    model = shared(meeting, launch_fake)
    (killed,) = process_ids(meeting)
    os.kill(killed, signal.SIGKILL)
    wait_for_end(killed)
    assert model.complete(request(), live(), ignore).text
    assert model.answered_by == "shared"
    model.close()


def test_an_engine_killed_over_a_request_is_replaced_once(meeting: Meeting) -> None:
    model = shared(meeting, launch_fake)
    with pytest.raises(EngineError, match="ended twice"):
        model.complete(Request("deadly = ", 9, "python", invoked=True), live(), ignore)
    assert model.complete(request(), live(), ignore).text
    model.close()


def test_an_engine_that_cannot_be_replaced_lets_the_server_run_the_model(meeting: Meeting) -> None:
    launches = [launch_fake]
    notices: list[str] = []
    model = shared(meeting, lambda place: launches.pop()(place), local_model, notices.append)
    (killed,) = process_ids(meeting)

    def no_more(place: Meeting) -> object:
        raise PermissionError(13, "Permission denied")

    launches.append(no_more)  # type: ignore[arg-type]
    os.kill(killed, signal.SIGKILL)
    wait_for_end(killed)
    assert model.complete(request(), live(), ignore).text
    assert model.answered_by == "server"
    assert len(notices) == 1
    assert "Permission denied" in notices[0]


def test_a_killed_editor_ends_neither_the_engine_nor_the_others(meeting: Meeting) -> None:
    program = "import sys; from tests.host_engine import *; from greencode_lsp.host.meeting import Meeting\n"
    program += f"m = shared(Meeting(Path({str(meeting.folder)!r}), 'test', {meeting.transport!r}))\n"
    program += "print('here', flush=True); m.complete(Request('slow = ', 7, 'python', invoked=True), live(), ignore)"
    other = shared(meeting, launch_fake)
    editor = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert editor.stdout is not None
    assert editor.stdout.readline() == b"here\n"
    editor.kill()
    editor.wait(10)
    editor.stdout.close()
    assert other.complete(request(), live(), ignore).text
    other.close()


def test_a_stale_socket_is_replaced(unix_meeting: Meeting) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(unix_meeting.path))
    model = shared(unix_meeting, launch_fake)
    assert model.complete(request(), live(), ignore).text
    model.close()


@posix
def test_another_users_engine_is_refused(unix_meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    Running(unix_meeting, SharedEngine(unix_meeting.listen(), parts()))
    monkeypatch.setattr(meetings, "peer_user", lambda connection: os.geteuid() + 1)
    with pytest.raises(HostError, match="another user"):
        join(unix_meeting, no_launch)


@posix
def test_another_users_editor_is_refused(unix_meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    Running(unix_meeting, SharedEngine(unix_meeting.listen(), parts()))
    wire = unix_meeting.connect()
    assert wire is not None
    monkeypatch.setattr(meetings, "peer_user", lambda connection: os.geteuid() + 1)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(unix_meeting.path))
        connection.settimeout(10)
        assert connection.recv(1) == b""


@posix
def test_a_folder_that_others_may_enter_is_refused(unix_meeting: Meeting) -> None:
    unix_meeting.folder.chmod(0o755)
    with pytest.raises(HostError, match="alone"):
        join(unix_meeting, no_launch)


@posix
def test_a_file_at_the_sockets_place_is_refused(unix_meeting: Meeting) -> None:
    unix_meeting.path.write_text("x")
    with pytest.raises(HostError, match="something else"):
        join(unix_meeting, no_launch)


@posix
def test_the_socket_is_the_users_alone() -> None:
    with running() as engine:
        assert stat.S_IMODE(engine.meeting.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(engine.meeting.path.stat().st_mode) == 0o600


@posix
def test_the_tokens_file_is_the_users_alone() -> None:
    with running("tcp") as engine:
        assert stat.S_IMODE(engine.meeting.path.stat().st_mode) == 0o600
        engine.meeting.path.chmod(0o644)
        with pytest.raises(HostError, match="others may read"):
            join(engine.meeting, no_launch)


def test_who_listens_without_the_token_learns_nothing() -> None:
    with meeting_place("tcp") as meeting, socket.socket() as thief:
        Running(meeting, SharedEngine(meeting.listen(), parts()))
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        written = meeting.path.read_bytes()
        port = int(written.split(b'"port":')[1].split(b",")[0])
        meeting.path.write_bytes(written.replace(str(port).encode(), str(thief.getsockname()[1]).encode()))
        heard = bytearray()

        def listen() -> None:
            connection = thief.accept()[0]
            connection.settimeout(5)
            connection.sendall(bytes(32))
            while part := connection.recv(1000):
                heard.extend(part)
                if len(heard) == 64:
                    connection.sendall(bytes(32))  # no proof

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        assert meeting.connect() is None
        thread.join(10)
        assert len(heard) == 64  # random bytes and a proof of the token, no word of a document


def test_a_wrong_token_is_hung_up_on() -> None:
    with running("tcp") as engine:
        port = int(engine.meeting.path.read_bytes().split(b'"port":')[1].split(b",")[0])
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.recv(32)
            connection.sendall(bytes(64))
            assert connection.recv(1) == b""


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_an_older_engine_is_drained_and_a_new_one_started(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(transport) as engine:
        old = shared(engine.meeting)
        monkeypatch.setattr(joining, "__version__", "999")
        monkeypatch.setattr("greencode_lsp.host.connection.__version__", "0.0.1")

        def launch(place: Meeting) -> object:
            monkeypatch.setattr("greencode_lsp.host.connection.__version__", "999")
            Running(place, SharedEngine(place.listen(), parts()))

            class Process:
                returncode = None

            return Process()

        new = shared(engine.meeting, launch)  # type: ignore[arg-type]
        assert new.complete(request(), live(), ignore).text
        assert old.complete(request(), live(), ignore).text  # on the old one, until it leaves
        old.close()
        assert engine.has_ended()
        assert new.complete(request(), live(), ignore).text
        new.close()


def test_a_newer_engine_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as engine:
        monkeypatch.setattr(joining, "__version__", "0.0.1")
        notices: list[str] = []
        model = shared(engine.meeting, no_launch, local_model, notices.append)
        assert model.answered_by == "server"
        assert "restart the editor" in notices[0]


def test_an_engine_that_ends_at_once_lets_the_server_run_the_model(unix_meeting: Meeting) -> None:
    notices: list[str] = []
    model = shared(unix_meeting, lambda place: start_detached(["/bin/false"], "/"), local_model, notices.append)
    assert model.complete(request(), live(), ignore).text
    assert notices == ["The shared engine did not start; this editor runs the model itself."]


@posix
def test_no_folder_for_a_socket_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    monkeypatch.setattr(meetings, "_candidates", lambda transport: [blocked])
    with pytest.raises(HostError, match="no private folder"):
        Meeting.of_user()


def test_editors_with_other_folders_have_other_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Meeting.of_user().name
    monkeypatch.setenv("GREENCODE_HOME", "/elsewhere")
    assert Meeting.of_user().name != first


def test_an_engine_without_torch_is_not_shared_with_an_editor_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for spec in (None, object()):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
        names.append(Meeting.of_user().name)
    assert names[0] != names[1]


@posix
def test_an_address_is_taken_away_once(unix_meeting: Meeting) -> None:
    """The next engine's may have the number of the one before."""
    listener, other = unix_meeting.listen(), unix_meeting.folder / "other"
    os.link(unix_meeting.path, other)
    listener.vanish()
    assert not unix_meeting.path.exists()
    os.link(other, unix_meeting.path)
    listener.vanish()
    assert unix_meeting.path.exists()

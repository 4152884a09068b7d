"""The editor's side of a team's engine: asked first, never waited for, and never in the way."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.errors import TeamError
from greencode_lsp.limits import TEAM_ANSWER_S
from greencode_lsp.models.store import data_home
from greencode_lsp.team import remote
from greencode_lsp.team.gate import Gate
from greencode_lsp.team.messages import COMPLETE_PATH
from greencode_lsp.team.remote import Address, TeamModel
from greencode_lsp.team.users import Accounts, add_user
from tests.host_engine import ignore, live, local_model, request
from tests.team_gate import Counted, a_body, copies


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


@contextmanager
def serving(gate: Gate, delay_s: float = 0.0, nonsense: bytes | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == COMPLETE_PATH:
                threading.Event().wait(delay_s)
            authorization = self.headers.get("Authorization", "")
            reply = asyncio.run(gate.answer(self.command, self.path, authorization, lambda: a_body(data)))
            body = reply.body if nonsense is None or self.path != COMPLETE_PATH else nonsense
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(body)

        def finish(self) -> None:
            with suppress(OSError):  # the editor has hung up
                super().finish()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def open_gate() -> Gate:
    return Gate(copies(), Accounts(None), Counted())


def team_model(url: str, notices: list[str] | None = None) -> TeamModel:
    return TeamModel(Address.of(url), local_model(), (notices if notices is not None else []).append)


def test_a_team_that_answers_answers() -> None:
    with serving(open_gate()) as url:
        model = team_model(url)
        made = model.complete(request(), live(), ignore)
    assert made.text == local_model().complete(request(), live(), ignore).text
    assert (model.answered_by, made.device, made.energy.devices) == ("team", "team cpu", ("team cpu",))


def test_a_connection_is_kept_between_requests() -> None:
    with serving(open_gate()) as url:
        model = team_model(url)
        model.complete(request(), live(), ignore)
        first = model._connection
        model.complete(request(), live(), ignore)
        assert first is not None
        assert model._connection is first


@pytest.mark.parametrize("nonsense", [b"", b"{}", b"[" * 100_000, b'{"type": "Completed"}', bytes(1000)])
def test_a_team_that_answers_nonsense_is_told_once_and_the_own_engine_completes(nonsense: bytes) -> None:
    notices: list[str] = []
    with serving(open_gate(), nonsense=nonsense) as url:
        model = team_model(url, notices)
        for _ in range(2):
            assert model.complete(request(), live(), ignore).text
    assert model.answered_by == "server"
    assert len(notices) == 1


def test_a_slow_team_is_not_waited_for() -> None:
    notices: list[str] = []
    with serving(open_gate(), delay_s=5.0) as url:
        model = team_model(url, notices)
        start_s = time.monotonic()
        assert model.complete(request(), live(), ignore).text
        first_s = time.monotonic() - start_s
        model.complete(request(), live(), ignore)
        both_s = time.monotonic() - start_s
    assert first_s < 3 * TEAM_ANSWER_S
    assert both_s - first_s < TEAM_ANSWER_S  # it is left alone for a while
    assert len(notices) == 1


def test_a_team_that_is_away_is_no_obstacle() -> None:
    notices: list[str] = []
    model = team_model("http://127.0.0.1:1", notices)
    assert model.complete(request(), live(), ignore).text
    assert len(notices) == 1
    assert "your own engine completes meanwhile" in notices[0]


def test_a_team_that_is_back_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TEAM_AWAY_S", 0.0)
    with serving(open_gate()) as url:
        model = team_model("http://127.0.0.1:1")
        model._address = Address.of(url)
        model.complete(request(), live(), ignore)
        assert model.answered_by == "team"


def test_a_wrong_token_is_one_sentence(users: Path) -> None:
    add_user(users, "anna")
    notices: list[str] = []
    with serving(Gate(copies(), Accounts(users), Counted())) as url:
        model = team_model(url, notices)
        for _ in range(3):
            assert model.complete(request(), live(), ignore).text
    assert len(notices) == 1
    assert "it does not know your token" in notices[0]


def test_a_cancelled_request_is_hung_up_on() -> None:
    stop = threading.Event()
    with serving(open_gate(), delay_s=5.0) as url:
        model = team_model(url)
        threading.Timer(0.05, stop.set).start()
        start_s = time.monotonic()
        assert model.complete(request(), live(cancelled=stop.is_set), ignore).text == ""
        assert time.monotonic() - start_s < TEAM_ANSWER_S


def test_the_team_sees_a_cancelled_request_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        connection = http.client.HTTPConnection("127.0.0.1", server.getsockname()[1], timeout=10)
        connection.connect()
        theirs, _ = server.accept()
        theirs.settimeout(10)
        answer = connection.sock.makefile("rb")  # as a thread holds it that waits for the answer
        remote._close(connection)
        assert theirs.recv(1) == b""
        answer.close()
        theirs.close()


def test_a_teams_completion_is_not_audited_here() -> None:
    with serving(open_gate()) as url:
        model = team_model(url)
        made = model.complete(request(), live(), ignore)
        assert model.audit(made, lambda: False).agreed is None


@pytest.mark.parametrize(
    "url", ["http://example.org", "ftp://example.org", "example.org", "https://", "https://h:99999", "https://h/x"]
)
def test_an_address_that_is_none_or_unsafe_is_refused(url: str) -> None:
    with pytest.raises(TeamError, match=r"greencode\.remote must"):
        Address.of(url)


def test_a_token_is_read_from_the_users_data_folder() -> None:
    (data_home() / "remote.token").write_text("secret\n")
    assert Address.of("https://example.org").token == "secret"

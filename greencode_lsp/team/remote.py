"""A team's engine as an editor's server sees it, with the user's own engine for when it is away."""

from __future__ import annotations

import http.client
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from greencode_lsp.completion.model import NO_ENERGY, AnsweredBy, CompletingModel, ModelAudit, ModelFacts, nothing_made
from greencode_lsp.completion.pipeline import CompletionControl
from greencode_lsp.completion.request import Request
from greencode_lsp.errors import CancelledError, TeamError
from greencode_lsp.files import UnsafeFileError, read_regular
from greencode_lsp.host.client import completion_of
from greencode_lsp.host.messages import BadMessageError
from greencode_lsp.limits import HOST_MESSAGE_BYTES, TEAM_ANSWER_S, TEAM_AWAY_S
from greencode_lsp.models.store import data_home
from greencode_lsp.records import Completion
from greencode_lsp.team.messages import (
    COMPLETE_PATH,
    MODEL_PATH,
    Asked,
    read,
    read_completed,
    read_facts,
    read_problem,
)

TOKEN_VARIABLE = "GREENCODE_REMOTE_TOKEN"
TOKEN_NAME, AUTHORITY_NAME = "remote.token", "remote-ca.pem"
LISTEN_S = 0.005
TEAM = "team "
"""Before the name of a device that is the team's."""
LATE = f"no answer within {TEAM_ANSWER_S * 1000:.0f} ms"
MEANWHILE = "your own engine completes meanwhile"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a team's engine is, and how it knows the user."""

    host: str
    port: int
    is_encrypted: bool
    token: str
    authority: Path | None = None
    """The certificate that the team's is signed by; None: one that the system trusts."""

    @classmethod
    def of(cls, url: str) -> Address:
        """Return the address that `greencode.remote` names; raises TeamError with what to change."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port, parts = "", None, urlsplit("")
        if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or parts.query:
            raise TeamError(f"greencode.remote must be the address of a team's engine, https://HOST:PORT, not {url!r}.")
        if parts.scheme == "http" and host not in _LOOPBACK:
            raise TeamError("greencode.remote must begin with https: your text would cross the network unencrypted.")
        authority = data_home() / AUTHORITY_NAME
        is_encrypted = parts.scheme == "https"
        return cls(
            host,
            port or (443 if is_encrypted else 80),
            is_encrypted,
            _token(),
            authority if authority.exists() else None,
        )

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, not yet made. Raises TeamError for a bad authority."""
        if not self.is_encrypted:
            return http.client.HTTPConnection(self.host, self.port, timeout=TEAM_ANSWER_S)
        return http.client.HTTPSConnection(self.host, self.port, timeout=TEAM_ANSWER_S, context=self.trust())

    def trust(self) -> ssl.SSLContext:
        """Return what an encrypted connection trusts. Raises TeamError for a bad authority."""
        try:
            context = ssl.create_default_context(cafile=self.authority)
        except (OSError, ValueError) as error:
            raise TeamError(f"{self.authority} holds no certificate ({error}).") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def _token() -> str:
    """Return the user's token: the variable's, else the file's in the user's data folder; empty for none."""
    given = os.environ.get(TOKEN_VARIABLE, "")
    if given:
        return given.strip()
    try:
        return read_regular(data_home(), TOKEN_NAME, max_bytes=4096).decode("ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        reason = error if isinstance(error, UnsafeFileError) else getattr(error, "strerror", None) or "no text"
        raise TeamError(f"The token in {data_home() / TOKEN_NAME} cannot be read ({reason}).") from error


class AwayError(Exception):
    """The team's engine does not answer as it should, or not in time; the text is the reason."""


class TeamModel:
    """A team's engine while it answers in time, the user's own otherwise. Blocking; belongs to the worker's thread."""

    def __init__(self, address: Address, own: CompletingModel, notify: Callable[[str], None]) -> None:
        self._address, self._own, self._notify = address, own, notify
        self._connection: http.client.HTTPConnection | None = None
        self._team: ModelFacts | None = None
        self._away_until_s = float("-inf")
        self._notified = ""
        self._answered_by_team = False
        self._ask_facts()

    @property
    def facts(self) -> ModelFacts:
        """Of whichever has answered last."""
        return self._team if self._team is not None and self._answered_by_team else self._own.facts

    @property
    def answered_by(self) -> AnsweredBy:
        """See `CompletingModel`."""
        return "team" if self._answered_by_team else self._own.answered_by

    def complete(self, request: Request, control: CompletionControl, said: Callable[[str], None]) -> Completion:
        """See `CompletingModel`. A team's completion comes in one piece."""
        if time.monotonic() >= self._away_until_s:
            try:
                body = msgspec.json.encode(Asked.of(request, control.settings()))
                made = read(self._exchange("POST", COMPLETE_PATH, body, control.cancelled), read_completed)
                self._answered_by_team, self._notified = True, ""
                return _of_team(completion_of(made))
            except CancelledError:
                return nothing_made(self.facts)
            except (AwayError, BadMessageError, TeamError) as error:
                self._is_away(str(error))
        self._answered_by_team = False
        return self._own.complete(request, control, said)

    def audit(self, completion: Completion, cancelled: Callable[[], bool]) -> ModelAudit:
        """See `CompletingModel`: only of what the user's own engine has made, the team's has its own thresholds."""
        if completion.device.startswith(TEAM):
            return ModelAudit(None, 0, NO_ENERGY, 0.0)
        return self._own.audit(completion, cancelled)

    def close(self) -> None:
        """See `CompletingModel`; from any thread."""
        self._hang_up()
        self._own.close()

    def _ask_facts(self) -> None:
        try:
            made = read(self._exchange("GET", MODEL_PATH, b"", lambda: False), read_facts)
            self._team = ModelFacts(made.manifest, made.device, made.precision, made.layers)
            self._answered_by_team = True
        except (AwayError, BadMessageError, TeamError) as error:
            self._is_away(str(error))

    def _is_away(self, reason: str) -> None:
        """Leave the team's engine alone for a while; say why, once until it answers again."""
        self._hang_up()
        self._away_until_s = time.monotonic() + TEAM_AWAY_S
        if reason != self._notified:
            self._notified = reason
            self._notify(f"The team's engine at {self._address.host} does not help ({reason}); {MEANWHILE}.")

    def _exchange(self, method: str, path: str, body: bytes, cancelled: Callable[[], bool]) -> bytes:
        """Return the answer's body; raises AwayError, at the latest after TEAM_ANSWER_S, CancelledError before.

        The talking is a thread's: finding a name's address has no time limit, and an answer may come in drops.
        """
        end_s = time.monotonic() + TEAM_ANSWER_S
        kept, self._connection = self._connection, None
        connection = kept or self._address.connect()
        said: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        arguments = (connection, method, path, body, self._address.token, said)
        threading.Thread(target=_talk, args=arguments, name="greencode-team", daemon=True).start()
        answer: bytes | Exception | None = None
        while answer is None and not cancelled() and time.monotonic() < end_s:
            with suppress(queue.Empty):
                answer = said.get(timeout=LISTEN_S)
        if isinstance(answer, bytes):
            self._connection = connection
            return answer
        _close(connection)  # the other side stops then
        if answer is None and cancelled():
            raise CancelledError("The request is not wanted any more.")
        if isinstance(answer, AwayError):
            raise answer
        if answer is not None and kept is not None:  # closed by the other side while nobody asked
            return self._exchange(method, path, body, cancelled)
        raise AwayError(LATE if answer is None else _reason(answer))

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _close(connection)


def _close(connection: http.client.HTTPConnection) -> None:
    """Hang up, also on an answer that a thread still waits for: its file holds the socket open."""
    held = connection.sock  # which that thread may close meanwhile
    if held is not None:
        with suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)
    connection.close()


def _of_team(completion: Completion) -> Completion:
    """Return a completion whose devices say that they are not this machine's."""
    energy = replace(completion.energy, devices=tuple(TEAM + name for name in completion.energy.devices))
    return replace(completion, device=TEAM + completion.device, energy=energy)


def _talk(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes,
    token: str,
    said: queue.SimpleQueue[bytes | Exception],
) -> None:
    """Ask and hear the answer, or what went wrong; all that a socket does is bounded by its own time limit."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        data = answer.read(HOST_MESSAGE_BYTES + 1)
        is_whole = len(data) <= HOST_MESSAGE_BYTES
        said.put(data if answer.status == 200 and is_whole else AwayError(_problem(answer.status, data)))
    except Exception as error:  # noqa: BLE001 - whatever a connection that is closed meanwhile raises
        said.put(error)


def _problem(status: int, data: bytes) -> str:
    """Return what the other side says is wrong, if it says it as agreed."""
    known = {401: "it does not know your token", 429: "your quota is used up"}
    if status in known:
        return known[status]
    try:
        return read(data, read_problem).sentence[:200]
    except BadMessageError:
        return f"HTTP status {status}"


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'not trusted'}"
    if isinstance(error, TimeoutError):
        return LATE
    return getattr(error, "strerror", None) or type(error).__name__

"""Where the editors of one user meet their engine, and how each side knows the other.

A Unix socket lies in a folder that only the user can enter; the kernel names the user at the other end. Where there are
no such sockets, the engine listens on the loopback interface and both sides prove that they can read a token in a file
that only the user can read: by HMAC over fresh random bytes, so that whoever has taken over a port learns nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import os
import secrets
import socket
import stat
import struct
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from greencode_lsp.cache_folder import cache_home
from greencode_lsp.errors import HostError
from greencode_lsp.files import UnsafeFileError, atomic_write, is_private, make_private, read_regular
from greencode_lsp.host.wire import Wire, WireLostError
from greencode_lsp.limits import HELLO_S, HOST_CONNECTIONS, QUEUE_S, QUEUE_STEP_S
from greencode_lsp.models.store import data_home

Transport = Literal["unix", "tcp"]
TRANSPORT: Transport = "unix" if hasattr(socket, "AF_UNIX") and os.name == "posix" else "tcp"
LONGEST_PATH = 100
"""Bytes of a Unix socket's path: 104 on macOS, 108 on Linux."""
DECISIVE = (
    *("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "XDG_DATA_HOME"),
    *("XDG_CACHE_HOME",),
)
"""Variables by which an engine would find other models or compute otherwise: who has others has another engine."""
NONCE_BYTES = 32
_LOOPBACK = "127.0.0.1"


class _Port(msgspec.Struct, frozen=True):
    """What the token's file says."""

    port: int
    token: str


@dataclass(frozen=True, slots=True)
class Meeting:
    """One engine's address."""

    folder: Path
    name: str
    transport: Transport = TRANSPORT

    @classmethod
    def of_user(cls, transport: Transport = TRANSPORT) -> Meeting:
        """Return where this user's engine listens. Raises HostError where no private folder can be had."""
        decisive = [str(data_home()), str(cache_home()), *(os.environ.get(name, "") for name in DECISIVE)]
        decisive.append(str(importlib.util.find_spec("torch") is not None))  # an engine without it has no GPU
        name = hashlib.sha256("\n".join(decisive).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return cls(_private_folder(transport, name), name, transport)

    @property
    def path(self) -> Path:
        """The socket, or the file with port and token."""
        return self.folder / f"{self.name}.{'sock' if self.transport == 'unix' else 'port'}"

    @property
    def lock(self) -> Path:
        """Held by who starts an engine."""
        return self.folder / f"{self.name}.lock"

    def connect(self) -> Wire | None:
        """Return a connection to whoever listens, known to be this user's; None where nobody does.

        Raises HostError where somebody else's socket or file is there.
        """
        try:
            _check_owner(self.path, socket_wanted=self.transport == "unix")
            return self._connect_unix() if self.transport == "unix" else self._connect_tcp()
        except (FileNotFoundError, ConnectionError, TimeoutError, WireLostError):
            return None
        except BlockingIOError:
            raise HostError(
                "More editors wait for the shared engine than it takes; this editor runs the model itself."
            ) from None
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            reason = error if isinstance(error, UnsafeFileError) else getattr(error, "strerror", None) or error
            raise HostError(
                f"The shared engine cannot be reached at {self.path} ({reason}); delete it. Until then this editor "
                "runs the model itself."
            ) from error

    def listen(self) -> Listener:
        """Listen at the place, instead of whatever was left there. Raises OSError."""
        make_private(self.folder)
        return _listen_unix(self) if self.transport == "unix" else _listen_tcp(self)

    def _connect_unix(self) -> Wire:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(HELLO_S)
            _connect_in_turn(connection, str(self.path))
            if peer_user(connection) not in (None, os.geteuid()):
                raise UnsafeFileError("another user listens there")
            return Wire(connection)
        except BaseException:
            connection.close()
            raise

    def _connect_tcp(self) -> Wire:
        data = read_regular(self.folder, self.path.name, max_bytes=4096)
        port = msgspec.json.decode(data, type=_Port)
        wire = Wire(socket.create_connection((_LOOPBACK, port.port), HELLO_S))
        try:
            _prove_first(wire, bytes.fromhex(port.token))
        except BaseException:
            wire.close()
            raise
        return wire


def _connect_in_turn(connection: socket.socket, path: str) -> None:
    """Connect; where others wait in front of the engine, try again until it has had time to greet them."""
    end_s = time.monotonic() + QUEUE_S
    while True:
        try:
            return connection.connect(path)
        except BlockingIOError:  # a Unix socket's queue is full, whatever the timeout
            if time.monotonic() >= end_s:
                raise
            time.sleep(QUEUE_STEP_S)


@dataclass(slots=True)
class Listener:
    """An engine's ear."""

    listening: socket.socket
    path: Path
    token: bytes
    _inode: int
    """Of the path: another's is not removed."""

    def accept(self) -> socket.socket:
        """Return the next connection, of whoever it is; raises OSError once closed."""
        return self.listening.accept()[0]

    def admit(self, connection: socket.socket) -> Wire | None:
        """Return a connection of this user's; None (and it is closed) for any other. Takes HELLO_S at most."""
        wire = None
        with suppress(OSError, WireLostError):
            if not self.token:
                if peer_user(connection) in (None, os.geteuid()):
                    return Wire(connection)
            else:
                wire = Wire(connection)
                if _prove_second(wire, self.token):
                    return wire
        connection.close()
        if wire is not None:
            wire.close()
        return None

    def vanish(self) -> None:
        """Take the address away, and nobody new in; those connected stay."""
        with suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        self._inode = -1  # once: the number may be the next engine's
        with suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()


def peer_user(connection: socket.socket) -> int | None:
    """Return the user at the other end of a Unix socket; None where the system does not say."""
    if hasattr(socket, "SO_PEERCRED"):
        size = struct.calcsize("3i")
        return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])
    if hasattr(socket, "LOCAL_PEERCRED"):  # macOS: struct xucred {version, uid, ...} at level 0
        return int(struct.unpack_from("2I", connection.getsockopt(0, socket.LOCAL_PEERCRED, 76))[1])
    return None


def _private_folder(transport: Transport, name: str) -> Path:
    """Return a folder that only the user can enter, made where it is not there."""
    first: Exception | None = None
    for folder in _candidates(transport):
        if transport == "unix" and len(os.fsencode(folder / f"{name}.sock.4194304")) > LONGEST_PATH:
            continue
        try:
            return make_private(folder)
        except OSError as error:
            first = first or error
    reason = first if isinstance(first, UnsafeFileError) else getattr(first, "strerror", None) or "paths too long"
    raise HostError(
        f"There is no private folder for the shared engine's socket ({reason}); this editor runs the model itself."
    )


def _candidates(transport: Transport) -> list[Path]:
    if transport == "tcp":
        return [data_home() / "host"]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    folders = [Path(runtime) / "greencode-lsp"] if runtime and is_private(Path(runtime)) else []
    mine = f"greencode-lsp-{os.geteuid()}"
    return [*folders, Path(tempfile.gettempdir()) / mine, Path("/tmp") / mine]


def _check_owner(path: Path, *, socket_wanted: bool) -> None:
    path.parent.lstat()
    if not is_private(path.parent):
        raise UnsafeFileError(f"{path.parent} is not this user's alone")
    status = path.lstat()
    if not (stat.S_ISSOCK(status.st_mode) if socket_wanted else stat.S_ISREG(status.st_mode)):
        raise UnsafeFileError("it is something else")
    if os.name == "posix" and status.st_uid != os.geteuid():
        raise UnsafeFileError("it is another user's")
    if os.name == "posix" and not socket_wanted and status.st_mode & 0o077:
        raise UnsafeFileError("others may read it")


def _listen_unix(meeting: Meeting) -> Listener:
    """Bind beside the place and move there: who looks finds a socket that is listened to, or none."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    beside = meeting.folder / f"{meeting.path.name}.{os.getpid()}"
    try:
        beside.unlink(missing_ok=True)
        listening.bind(str(beside))
        beside.chmod(0o600)
        listening.listen(HOST_CONNECTIONS)
        beside.replace(meeting.path)
        return Listener(listening, meeting.path, b"", meeting.path.stat().st_ino)
    except BaseException:
        listening.close()
        beside.unlink(missing_ok=True)
        raise


def _listen_tcp(meeting: Meeting) -> Listener:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.bind((_LOOPBACK, 0))
        listening.listen(HOST_CONNECTIONS)
        token = secrets.token_bytes(NONCE_BYTES)
        atomic_write(meeting.path, msgspec.json.encode(_Port(listening.getsockname()[1], token.hex())))
        return Listener(listening, meeting.path, token, meeting.path.stat().st_ino)
    except BaseException:
        listening.close()
        raise


def _proof(token: bytes, who: bytes, nonces: bytes) -> bytes:
    return hmac.new(token, who + nonces, hashlib.sha256).digest()


def _prove_first(wire: Wire, token: bytes) -> None:
    """As the editor: answer the engine's random bytes, then check its answer to ours. Raises WireLostError."""
    nonces = wire.exactly(NONCE_BYTES, HELLO_S) + secrets.token_bytes(NONCE_BYTES)
    wire.send_bytes(nonces[NONCE_BYTES:] + _proof(token, b"editor", nonces))
    if not hmac.compare_digest(wire.exactly(NONCE_BYTES, HELLO_S), _proof(token, b"engine", nonces)):
        raise WireLostError("The other side does not know the token.")


def _prove_second(wire: Wire, token: bytes) -> bool:
    """As the engine; see `_prove_first`."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    wire.send_bytes(nonce)
    answer = wire.exactly(2 * NONCE_BYTES, HELLO_S)
    nonces = nonce + answer[:NONCE_BYTES]
    if not hmac.compare_digest(answer[NONCE_BYTES:], _proof(token, b"editor", nonces)):
        return False
    wire.send_bytes(_proof(token, b"engine", nonces))
    return True

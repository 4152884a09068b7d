"""Whole messages over a socket, each behind its length in four bytes; bounded in size and in time."""

from __future__ import annotations

import math
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TypeVar

import msgspec

from greencode_lsp.host.messages import BadMessageError, Message, decode, encode
from greencode_lsp.limits import HOST_MESSAGE_BYTES, REST_OF_MESSAGE_S, SEND_S

_LENGTH = struct.Struct(">I")
_BUFFER = 1 << 20
"""Asked of the kernel for what waits to be read; it may give less."""

Decoded = TypeVar("Decoded")


class WireLostError(Exception):
    """The other side is gone, or does not keep to the protocol."""


class Wire:
    """One end of a connection. One thread receives; any may send."""

    def __init__(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        if connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reading = connection
        self._writing = connection.dup()  # with a time limit of its own
        self._writing.settimeout(SEND_S)
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message. Raises WireLostError, at the latest after SEND_S, where the other side does not take it."""
        data = encode(message)
        with self._lock:
            try:
                self._writing.sendall(_LENGTH.pack(len(data)) + data)
            except OSError as error:
                self.close()  # a part may have been sent: nothing after it could be read
                raise WireLostError("The other side does not read.") from error

    def has_room(self) -> bool:
        """Tell whether a short message can be sent without waiting."""
        return is_ready(self._writing, 0, selectors.EVENT_WRITE)

    def has_news(self, wait_s: float) -> bool:
        """Tell whether there is something to receive (an end, too), waiting so long for it at most."""
        return is_ready(self._reading, wait_s)

    def receive(self, decoder: msgspec.msgpack.Decoder[Decoded], wait_s: float | None = None) -> Decoded:
        """Return the next message, waiting for its beginning for ever or so long.

        Raises WireLostError at the end, BadMessageError for what is none or is too long.
        """
        length = _LENGTH.unpack(self._exactly(_LENGTH.size, wait_s))[0]
        if length > HOST_MESSAGE_BYTES:
            raise BadMessageError("too long")
        return decode(self._exactly(length, REST_OF_MESSAGE_S), decoder)

    def exactly(self, size: int, wait_s: float) -> bytes:
        """Return so many bytes that are no message; raises WireLostError."""
        return self._exactly(size, wait_s)

    def send_bytes(self, data: bytes) -> None:
        """Send a few bytes that are no message; raises WireLostError."""
        try:
            self._writing.sendall(data)
        except OSError as error:
            raise WireLostError("The other side does not read.") from error

    def close(self) -> None:
        """Hang up; a thread that receives wakes up."""
        for connection in (self._reading, self._writing):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for connection in (self._reading, self._writing):
            connection.close()

    def _exactly(self, size: int, wait_s: float | None) -> bytes:
        data = bytearray()
        try:
            self._reading.settimeout(wait_s)
            end_s = math.inf if wait_s is None else time.monotonic() + wait_s
            while len(data) < size:
                part = self._reading.recv(min(size - len(data), 1 << 20))
                if not part:
                    raise WireLostError("The other side has hung up.")
                end_s = min(end_s, time.monotonic() + REST_OF_MESSAGE_S)  # also for who sends a byte now and then
                data += part
                self._reading.settimeout(max(0.001, end_s - time.monotonic()))
        except OSError as error:
            raise WireLostError("The other side is gone.") from error
        return bytes(data)


def is_ready(connection: socket.socket, wait_s: float, event: int = selectors.EVENT_READ) -> bool:
    """Ask one socket, waiting so long at most; without `select`, whose numbers end at 1023."""
    kind = getattr(selectors, "PollSelector", selectors.SelectSelector)
    with kind() as selector:
        try:
            selector.register(connection, event)
        except (ValueError, OSError):  # closed: reading it says so
            return True
        return bool(selector.select(wait_s))

"""Standard input and output: framing that recovers, bounds on what a client may announce, writes off the event loop."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable
from typing import BinaryIO

from greencode_lsp.limits import HEADER_BYTES, MESSAGE_BYTES, UNSENT_BYTES

HEADER = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,30})[ \t]*\r?\n\Z", re.IGNORECASE)
NO_HEADER = b"X: \r\n"
LONGEST_HEADER = 64
"""Bytes of one that counts."""


class Frames:
    """A client's bytes; a header is found wherever in a line it begins.

    JSON ends without a line end, so that after a message of a wrong length the next header is glued to what is left of
    it, and pygls, which looks for headers at the beginning of a line, would be deaf from then on. A length beyond the
    limit is no header: the body is passed over like any other noise, without being kept.
    """

    def __init__(self, stdin: BinaryIO, refused: Callable[[int], None] = lambda length: None) -> None:
        self._stdin, self._refused = stdin, refused
        self._tail = b""
        """The end of a line that was too long to be read at once: a header may begin in it."""

    def readline(self, size: int | None = -1) -> bytes:
        """Return the next line, from a header in it on, in the spelling that pygls knows; empty at the end."""
        line = self._stdin.readline(HEADER_BYTES if size is None or size < 0 else size)
        header = HEADER.search(self._tail + line)
        self._tail = b"" if line.endswith(b"\n") else line[-LONGEST_HEADER:]
        if header is None:
            return line
        length = int(header.group(1))
        if length > MESSAGE_BYTES:
            self._refused(length)
            return NO_HEADER
        return b"Content-Length: %d\r\n" % length

    def read(self, size: int = -1) -> bytes:
        """Return the bytes of a body."""
        return self._stdin.read(size)


class Output:
    """Writes on a thread of its own: a client that does not read holds nobody up.

    `lost` is called, on that thread, when the client is gone or has left too much unread.
    """

    def __init__(self, stdout: BinaryIO, lost: Callable[[], None]) -> None:
        self._stdout, self._lost = stdout, lost
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="greencode-output", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Queue a message."""
        with self._lock:
            self._waiting += len(data)
            is_full = self._waiting > UNSENT_BYTES
        if is_full:
            self._lost()
        else:
            self._queue.put(data)

    def flush(self) -> None:
        """Nothing: each message is flushed once it is written."""

    def close(self) -> None:
        """Write what is queued; a client that does not read is waited for until the process has to end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                self._stdout.write(data)
                self._stdout.flush()
            except (OSError, ValueError):  # closed on the other side, or on ours
                self._lost()
                return
            with self._lock:
                self._waiting -= len(data)

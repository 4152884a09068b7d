"""Standard input whose framing recovers: a message never finished costs the one it swallows, and no later one."""

from __future__ import annotations

from typing import BinaryIO

HEADER = b"Content-Length:"


class Frames:
    """A client's bytes; a header is found wherever in a line it begins.

    JSON ends without a line end, so that after a message of a wrong length the next header is glued to what is left of
    it, and pygls, which looks for headers at the beginning of a line, would be deaf from then on.
    """

    def __init__(self, stdin: BinaryIO) -> None:
        self._stdin = stdin

    def readline(self, size: int | None = -1) -> bytes:
        """Return the next line, from a header in it on."""
        line = self._stdin.readline(-1 if size is None else size)
        start = line.rfind(HEADER)
        return line[start:] if start > 0 else line

    def read(self, size: int = -1) -> bytes:
        """Return the bytes of a body."""
        return self._stdin.read(size)

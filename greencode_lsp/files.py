"""Files from outside are opened safely and bounded; files of ours are written whole.

A model folder may come from anybody: what it names must be plain names, regular files, in the folder, of bounded size.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

MAX_NAME_BYTES = 255
"""What common file systems take."""
_BLOCK = 1 << 20
_OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_SAFELY = _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""A link is not followed, and a FIFO that takes the file's place does not block."""
HAS_OWNERS = os.name == "posix"


class UnsafeFileError(OSError):
    """What is at a path is no file that may be read: a device, a link that leads out, a name with a path in it."""


# ---- text from outside


def harmless(text: str) -> str:
    """Return text without what a terminal obeys: controls but tab and line end, and marks that turn its direction."""
    return _OBEYED.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


# ---- files from outside


def is_plain_name(name: object) -> bool:
    """Return True where `name` is the name of a file in a folder, on every platform: no path, no control character."""
    if not isinstance(name, str) or not name or name in (".", "..") or not name.isprintable():
        return False
    return not set(name) & set('/\\:*?"<>|') and len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES


def regular_file(folder: Path, name: str, *, max_bytes: int, root: Path | None = None) -> Path:
    """Return the real path of a regular file in `folder`, at most `max_bytes` long; opens nothing.

    A link is taken where it stays below `root`, by default the folder. Raises FileNotFoundError, UnsafeFileError or
    another OSError; the text of an UnsafeFileError is a sentence.
    """
    if not is_plain_name(name):
        raise UnsafeFileError(f"{name!r} is no plain file name")
    path = folder / name
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(root or folder)):
        raise UnsafeFileError(f"{path} leads out of its folder; put the file itself there")
    _check_regular(path, os.lstat(real), max_bytes)
    return real


def open_regular(folder: Path, name: str, *, max_bytes: int, root: Path | None = None) -> BinaryIO:
    """Open what `regular_file` returns, to read bytes; raises the same."""
    real = regular_file(folder, name, max_bytes=max_bytes, root=root)
    descriptor = os.open(real, os.O_RDONLY | _SAFELY)
    try:
        _check_regular(real, os.fstat(descriptor), max_bytes)  # again: of what was opened
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(folder: Path, name: str, *, max_bytes: int, root: Path | None = None) -> bytes:
    """Return a small file's bytes; raises what `regular_file` does, also where it grows while it is read."""
    with open_regular(folder, name, max_bytes=max_bytes, root=root) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise UnsafeFileError(f"{folder / name} is larger than {max_bytes} bytes")
    return data


def sha256_of(file: BinaryIO) -> str:
    """Return the hex SHA-256 of what is left of an open file."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _check_regular(path: Path, status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFileError(f"{path} is no regular file")
    if status.st_size > max_bytes:
        raise UnsafeFileError(f"{path} has {status.st_size} bytes, more than the {max_bytes} that are read")


# ---- files of ours


def open_to_append(path: Path) -> BinaryIO:
    """Open a file of ours after what is there, mode 0600; raises UnsafeFileError for a link or a device there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _SAFELY, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a FIFO that nobody reads
            raise UnsafeFileError(f"{path} is no regular file; delete it") from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or path.is_symlink():
        os.close(descriptor)
        raise UnsafeFileError(f"{path} is no file of its own; delete it")
    return os.fdopen(descriptor, "ab")


def atomic_write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that readers see whole or not at all; a link there is replaced, never followed. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:64]}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        os.replace(temporary, path)  # noqa: PTH105 - as its counterpart mkstemp
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def make_private(folder: Path) -> Path:
    """Make a folder that only the user can enter, whatever the umask, and what is missing above it; raises OSError.

    One that is there is narrowed to mode 0700. Raises UnsafeFileError where it is a link, no folder or somebody else's.
    """
    missing = []
    for parent in (folder, *folder.parents):
        if os.path.lexists(parent):
            break
        missing.append(parent)
    for parent in reversed(missing):
        with suppress(FileExistsError):  # another process was faster
            parent.mkdir(mode=0o700)
    if open_to_others(folder):
        folder.chmod(0o700)
    return folder


def is_private(folder: Path) -> bool:
    """Tell whether a folder is there, is the user's, and only the user can enter it; never raises."""
    try:
        return not open_to_others(folder)
    except OSError:
        return False


def open_to_others(folder: Path) -> int:
    """Return what others may do (mode bits) in a folder of the user's; raises UnsafeFileError where it is none."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeFileError(f"{folder} is no folder of its own")
    if not HAS_OWNERS:
        return 0
    if status.st_uid != os.geteuid():
        raise UnsafeFileError(f"{folder} belongs to another user")
    return status.st_mode & 0o077

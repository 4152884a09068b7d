"""Files from outside are opened safely and bounded, files of ours are written whole, caches are private and verified.

A model folder may come from anybody: what it names must be plain names, regular files, in the folder, of bounded size.
A cached artefact is executed or mapped, so its folder must be the user's alone; the recorded sizes and SHA-256 guard
against truncation and damage, not against somebody who can write into that folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs
from filelock import FileLock, Timeout

from greencode_lsp.errors import CacheError

CACHE_VARIABLE = "GREENCODE_CACHE"
MAX_NAME_BYTES = 255
"""What common file systems take."""
BUILD_WAIT_S = 900.0
"""How long one process waits for another that builds the same entry."""
RECORD_NAME = "entry.json"
"""Written last into a cache entry: where it is, the entry is whole."""
MAX_RECORD_BYTES = 1 << 20
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_SAFELY = _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""A link is not followed, and a FIFO that takes the file's place does not block."""
_WRITE = 0o022
"""Mode bits by which others may write."""
_HAS_OWNERS = os.name == "posix"


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
    if _open_to_others(folder):
        folder.chmod(0o700)
    return folder


def _open_to_others(folder: Path) -> int:
    """Return what others may do (mode bits) in a folder of the user's; raises UnsafeFileError where it is none."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeFileError(f"{folder} is no folder of its own")
    if not _HAS_OWNERS:
        return 0
    if status.st_uid != os.geteuid():
        raise UnsafeFileError(f"{folder} belongs to another user")
    return status.st_mode & 0o077


# ---- caches


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is recorded of one file of a cache entry."""

    size: int
    mtime_ns: int
    sha256: str


def cache_home() -> Path:
    """Return the folder of what can be made again: `GREENCODE_CACHE`, else the platform's; it may not exist yet."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).expanduser() if override else platformdirs.user_cache_path("greencode-lsp", appauthor=False)


class CacheFolder:
    """Folders of artefacts by key, below the user's cache folder: private, verified, built once.

    A key names what an entry is made from (the SHA-256 of a checkpoint, say, with the versions of what made it); a
    changed source is a new key. At most `keep` entries stay, those used last.
    """

    def __init__(self, name: str, *, keep: int = 4, home: Path | None = None) -> None:
        if not _KEY.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a cache")
        self.folder = (home or cache_home()).absolute() / name
        self._keep = keep

    def read(self, key: str, *, verify: bool = False) -> Path | None:
        """Return the entry's folder, or None where it is missing or not as it was built.

        Each file's type, owner, mode, size and time of change are compared, which takes microseconds; its SHA-256 where
        the time differs or with `verify` (0.5 s for 500 MB). Never raises for what the disk does.
        """
        folder = self._path(key)
        try:
            if not self._is_trusted():
                return None
            if _open_to_others(folder) & _WRITE or not _is_whole(folder, verify=verify):
                return None
            with suppress(OSError):  # read-only: then nothing is thrown away by age either
                os.utime(folder)
        except OSError:
            return None
        return folder

    def build(self, key: str, make: Callable[[Path], None], *, wait_s: float = BUILD_WAIT_S) -> Path:
        """Return the entry's folder; where there is none, or a damaged one, `make` fills an empty folder first.

        Of several processes one builds, the others wait for it. Nobody sees half an entry. Raises CacheError where the
        cache cannot be written; what `make` raises is passed on, and nothing stays of what it wrote.
        """
        entry = self.read(key)
        if entry is not None:
            return entry
        path = self._path(key)
        with self._one_sentence():
            if not self._is_trusted():
                self._make_anew()
            lock = FileLock(self.folder / f".{key}.lock", timeout=wait_s, mode=0o600)
        with self._held(lock):
            entry = self.read(key)
            if entry is not None:
                return entry
            with self._one_sentence():
                for stale in self.folder.glob(f".part-{key}-*"):  # of a process that was killed: we hold its lock
                    _delete(stale)
                part = Path(tempfile.mkdtemp(prefix=f".part-{key}-", dir=self.folder))
            try:
                with self._one_sentence(_FULL):
                    make(part)
                with self._one_sentence():
                    _record(part)
                    _delete(path)
                    part.rename(path)
            except BaseException:
                _delete(part, quietly=True)
                raise
            self._prune(path)
        return path

    def remove(self, key: str) -> None:
        """Delete an entry, if there is one. Raises CacheError."""
        with self._one_sentence():
            _delete(self._path(key))

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} cannot be the key of a cache entry")
        return self.folder / key

    def _is_trusted(self) -> bool:
        """Return True where the folder is the user's and nobody else can have put anything into it."""
        try:
            return not _open_to_others(self.folder) & _WRITE
        except FileNotFoundError:
            return False

    def _make_anew(self) -> None:
        """Make the folder private and empty: what was in it while others could write is not believed."""
        is_there = os.path.lexists(self.folder)
        make_private(self.folder)
        if is_there:
            for entry in self.folder.iterdir():
                _delete(entry)

    def _prune(self, newest: Path) -> None:
        with suppress(OSError):
            entries = [path for path in self.folder.iterdir() if _KEY.fullmatch(path.name) and path != newest]
            entries.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for path in entries[max(self._keep - 1, 0) :]:
                _delete(path, quietly=True)

    @contextmanager
    def _held(self, lock: FileLock) -> Iterator[None]:
        with self._one_sentence():
            try:
                lock.acquire()
            except Timeout as error:
                raise CacheError(
                    f"Another process has been filling the cache folder {self.folder} for very long; end it, or set "
                    f"{CACHE_VARIABLE} to another folder."
                ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _one_sentence(self, of: tuple[int, ...] | None = None) -> Iterator[None]:
        """Turn an OSError, or one of these numbers alone, into what the user can do."""
        try:
            yield
        except OSError as error:
            if of is not None and error.errno not in of:
                raise
            how = "free some space" if error.errno in _FULL else "make it yours and writable"
            raise CacheError(
                f"The cache folder {self.folder} cannot be used ({error.strerror or error}); {how}, or set "
                f"{CACHE_VARIABLE} to another folder."
            ) from error


def _record(folder: Path) -> None:
    """Write the record of the files that `make` left in the folder, and make them the user's alone."""
    entries: dict[str, _Entry] = {}
    for path in sorted(folder.iterdir()):
        path.chmod(0o600)
        with open_regular(folder, path.name, max_bytes=1 << 63) as file:
            digest = sha256_of(file)
            status = os.fstat(file.fileno())
        entries[path.name] = _Entry(status.st_size, status.st_mtime_ns, digest)
    record = {name: asdict(entry) for name, entry in entries.items()}
    atomic_write(folder / RECORD_NAME, json.dumps({"files": record}, indent=1).encode())


def _is_whole(folder: Path, *, verify: bool) -> bool:
    """Compare the files of an entry with its record; raises OSError."""
    entries = _read_record(folder)
    if entries is None or {path.name for path in folder.iterdir()} != {*entries, RECORD_NAME}:
        return False
    for name, entry in entries.items():
        status = os.lstat(folder / name)
        is_ours = not _HAS_OWNERS or (status.st_uid == os.geteuid() and not status.st_mode & _WRITE)
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size or not is_ours:
            return False
        if verify or status.st_mtime_ns != entry.mtime_ns:
            with open_regular(folder, name, max_bytes=entry.size) as file:
                if sha256_of(file) != entry.sha256:
                    return False
    return True


def _read_record(folder: Path) -> dict[str, _Entry] | None:
    try:
        data: Any = json.loads(read_regular(folder, RECORD_NAME, max_bytes=MAX_RECORD_BYTES))
        entries = {str(name): _Entry(**entry) for name, entry in data["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return entries if all(is_plain_name(name) for name in entries) else None


def _delete(path: Path, *, quietly: bool = False) -> None:
    """Delete a file, a link (never what it leads to) or a folder, if there is one."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path)
    except OSError:
        if not quietly:
            raise

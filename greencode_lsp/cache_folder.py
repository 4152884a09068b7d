"""Caches in the user's cache folder: private, verified, built once.

A cached artefact is executed or mapped, so its folder must be the user's alone; the recorded sizes and SHA-256 guard
against truncation and damage, not against somebody who can write into that folder.
"""

from __future__ import annotations

import errno
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
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from greencode_lsp.errors import CacheError
from greencode_lsp.files import (
    HAS_OWNERS,
    atomic_write,
    is_plain_name,
    make_private,
    open_regular,
    open_to_others,
    read_regular,
    sha256_of,
)

CACHE_VARIABLE = "GREENCODE_CACHE"
BUILD_WAIT_S = 900.0
"""How long one process waits for another that builds the same entry."""
RECORD_NAME = "entry.json"
"""Written last into a cache entry: where it is, the entry is whole."""
MAX_RECORD_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
OTHERS_WRITE = 0o022
"""Mode bits by which others may write."""


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
            if open_to_others(folder) & OTHERS_WRITE or not _is_whole(folder, verify=verify):
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
                for stale in self.folder.iterdir():  # no glob: a pattern for each key would be compiled and kept
                    if stale.name.startswith(f".part-{key}-"):  # of a process that was killed: we hold its lock
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
            return not open_to_others(self.folder) & OTHERS_WRITE
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
        is_ours = not HAS_OWNERS or (status.st_uid == os.geteuid() and not status.st_mode & OTHERS_WRITE)
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

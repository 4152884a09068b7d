"""Archives, JSON lines and data sets laid out as folders of source files, once, in a cache.

Every kind of source then is a folder: what reads a file, hashes it or points into it needs to know one form only.
A folder appears by a rename, so that what is there is complete.
"""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from filelock import FileLock

from greencode_lsp.errors import CorpusError
from training.whole_files import whole_folder

CACHE = Path("~/.cache/greencode-lsp/unpacked")
SUFFIXES = {"python": ".py", "java": ".java"}
MAX_MEMBER_BYTES = 1_000_000
"""Larger members are no source files that anybody learns from, or a trap."""
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error, OSError)


def disk_error(error: OSError, what: str) -> CorpusError:
    """Return the sentence for a write that failed; a full disk is named as one."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
    return CorpusError(f"{what} could not be written: {reason}; nothing of it counts as complete.")


def _tar_members(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(suffix) and member.size <= MAX_MEMBER_BYTES:
                file = archive.extractfile(member)
                if file is not None:
                    yield member.name, file.read()


def _zip_members(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(suffix) and member.file_size <= MAX_MEMBER_BYTES:
                yield member.filename, archive.read(member)


def archive_members(path: Path, language: str) -> dict[str, bytes]:
    """Return the source files of a zip or tar archive by path; a top folder that all share is taken off.

    Raises CorpusError where the archive is damaged or of another kind.
    """
    try:
        read = _zip_members if zipfile.is_zipfile(path) else _tar_members
        members = dict(read(path, SUFFIXES[language]))
    except _DAMAGED as error:
        raise CorpusError(
            f"{path} is damaged or no archive ({error or type(error).__name__}); fetch it again."
        ) from error
    tops = {name.split("/", 1)[0] for name in members}
    shared = len(tops) == 1 and all("/" in name for name in members)
    return {name.split("/", 1)[1] if shared else name: content for name, content in members.items()}


def json_members(path: Path, language: str) -> Iterator[tuple[str, bytes]]:
    """Yield `package/path` and content of the rows of a JSON-lines file.

    A row has `text` (or `content`, `code`), and may have `package` (or `repo`) and `path`. Raises CorpusError with the
    line's number where a row is not such an object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                text = next(row[key] for key in ("text", "content", "code") if key in row)
                content = text.encode("utf8")
            except (ValueError, StopIteration, TypeError, AttributeError) as error:
                raise CorpusError(
                    f"{path}, line {number}: no JSON object with a string `text`; fix the file."
                ) from error
            package = str(row.get("package") or row.get("repo") or path.stem).replace("/", "--")
            name = str(row.get("path") or f"{number:07}{SUFFIXES[language]}")
            yield f"{package}/{name}", content


def lay_out(key: str, members: Callable[[], Iterable[tuple[str, bytes]]]) -> Path:
    """Return the folder that holds `members` as files, writing it once per `key`.

    Names that would leave the folder are skipped. Raises CorpusError where the disk is full.
    """
    folder = CACHE.expanduser() / hashlib.sha256(key.encode()).hexdigest()[:24]
    if folder.exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():  # or else another process was first
                with whole_folder(folder) as part:
                    _write_members(part, members())
    except OSError as error:
        raise disk_error(error, str(folder)) from error
    return folder


def _write_members(folder: Path, members: Iterable[tuple[str, bytes]]) -> None:
    for name, content in members:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            continue
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def identity(path: Path) -> str:
    """Return what tells one state of a file from another without reading it."""
    status = path.stat()
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"

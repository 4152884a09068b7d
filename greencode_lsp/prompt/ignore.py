"""Files that are never completed: secrets by name, what the project ignores, what the user excludes (I6).

In a repository git decides, where there is git; elsewhere the same files are read here. `.greencodeignore` files, which
git does not know, are read here in either case.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from greencode_lsp.limits import (
    FOLDERS_ABOVE,
    IGNORE_FILE_BYTES,
    IGNORE_LINE_CHARACTERS,
    IGNORE_LINES,
    REMEMBERED_VERDICTS,
    VERDICT_S,
)
from greencode_lsp.prompt import git
from greencode_lsp.prompt.globs import Globs
from greencode_lsp.prompt.secrets import has_secret_link, is_secret

GITIGNORE, OWN = ".gitignore", ".greencodeignore"
Signature = tuple[tuple[str, int, int, int], ...]
Verdict = str | None
"""Why a file is not completed, as the end of a sentence; None where it may be."""


class UnreadableError(Exception):
    """An ignore file that has a say cannot be read, or is too long to be."""


class Rules:
    """Decides about files; blocks on disk and git, so not to be asked on an event loop. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[tuple[str, ...], tuple[Signature, float, Verdict]] = OrderedDict()

    def denied(self, path: str, roots: Sequence[str], exclude: Sequence[str]) -> Verdict:
        """Return why a file is not completed, or None where it may be.

        `path` is absolute, or anything for a document without a file; `roots` are the workspace's folders. Both the
        name given and the file that it leads to must pass.
        """
        if is_secret(path):
            return "its name says that it holds secrets"
        given = Path(path)
        try:
            if not given.is_absolute():
                return _excluded(path.lstrip("/"), exclude)
            real, place = Path(os.path.realpath(given)), Path(os.path.realpath(given.parent)) / given.name
            if is_secret(str(real)) or has_secret_link(real, (str(given.parent), *roots)):
                return "it is another name of a file that holds secrets"
            real_roots = [os.path.realpath(root) for root in roots if root and "\0" not in root]
            verdicts = [_excluded(_below(given, roots), exclude), _excluded(_below(real, real_roots), exclude)]
            verdicts += [self._ignored(file, real_roots) for file in dict.fromkeys((place, real))]
        except UnreadableError as error:
            return f"{error} cannot be read"
        except PermissionError:
            return "a folder above it may not be looked into"
        except (OSError, ValueError):  # no file can have such a name: nothing names it
            return _excluded(path.lstrip("/"), exclude)
        return next((why for why in verdicts if why), None)

    def _ignored(self, file: Path, roots: Sequence[str]) -> Verdict:
        folders = list(file.parents)[:FOLDERS_ABOVE]
        repository = next((folder for folder in folders if _exists(folder / ".git")), None)
        program = git.find(roots) if repository else None
        above = [Path(root) for root in roots if file.is_relative_to(root)] + ([repository] if repository else [])
        top = min(above, key=lambda folder: len(folder.parts), default=file.parent)
        sources = list(_sources(top, file, repository, program))
        key, signature = (str(file), str(top), str(repository), program or ""), _signature(sources, repository)
        with self._lock:
            known = self._verdicts.get(key)
        if known is not None and known[0] == signature and time.monotonic() - known[1] < VERDICT_S:
            return known[2]
        answer = git.ignored_by(program, repository, file) if program and repository else None
        verdict = _decide(top, file, sources, answer)
        with self._lock:
            self._verdicts[key] = signature, time.monotonic(), verdict
            if len(self._verdicts) > REMEMBERED_VERDICTS:
                self._verdicts.popitem(last=False)
        return verdict


def _below(file: Path, roots: Sequence[str]) -> str:
    """Return a file's path below the innermost folder of the workspace."""
    root = max((Path(r) for r in roots if file.is_relative_to(r)), key=lambda r: len(r.parts), default=None)
    return file.relative_to(root).as_posix() if root else file.as_posix().lstrip("/")


def _excluded(relative: str, exclude: Sequence[str]) -> Verdict:
    is_named = bool(exclude) and _is_ignored(relative, [(0, _globs(tuple(exclude)), "")])
    return "greencode.exclude names it" if is_named else None


def _decide(top: Path, file: Path, sources: Sequence[tuple[Path, int]], answer: tuple[bool, str] | None) -> Verdict:
    """Return git's answer, where it gives one, and then the verdict of the files that git does not read."""
    relative = file.relative_to(top).as_posix()
    if answer is not None and answer[0]:
        return f"{answer[1]} names it"
    read = [(path, depth) for path, depth in sources if answer is None or path.name == OWN]
    rules = [(depth, _read(path, path.stat().st_mtime_ns, path.stat().st_size), path.name) for path, depth in read]
    named = _is_ignored(relative, rules)
    return f"{named} names it" if named else None


def _is_ignored(relative: str, rules: Sequence[tuple[int, Globs, str]]) -> str | None:
    """Return the name of the file that ignores a path, "." for a nameless one; None where it is not ignored.

    As git goes: from the outermost folder down, and what lies in an ignored folder cannot be taken back. `rules` are in
    ascending order of their say, each with the depth of the folder whose paths it names.
    """
    parts = relative.split("/")
    for length in range(1, len(parts) + 1):
        end = "/" if length < len(parts) else ""
        for depth, globs, name in reversed(rules):
            if depth >= length:
                continue
            decided = globs.decide("/".join(parts[depth:length]) + end)
            if decided:
                return name or "."
            if decided is not None:
                break
    return None


def _sources(top: Path, file: Path, repository: Path | None, program: str | None) -> Iterator[tuple[Path, int]]:
    """Yield the ignore files that have a say and how deep below `top` they hold, in ascending order of their say.

    Above a repository in the workspace git's own have none: git does not read them there either.
    """
    folder, names = top, (GITIGNORE, OWN) if repository is None else (OWN,)
    for depth, name in enumerate(("", *file.relative_to(top).parts[:-1])):
        folder = folder / name
        if folder == repository:
            names = (GITIGNORE, OWN)
            yield from ((path, depth) for path in _of_repository(repository, program) if _is_file(path))
        for ignore_file in (folder / name for name in names):
            if _is_file(ignore_file):
                yield ignore_file, depth


def _of_repository(repository: Path, program: str | None) -> Iterator[Path]:
    """Yield the excludes file of the user and that of the repository."""
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "git"
    configured = None
    if program is not None:
        seen = (repository / ".git" / "config", Path.home() / ".gitconfig", settings / "config")
        configured = git.excludes_file(program, repository, _signature([(path, 0) for path in seen], None))
    yield configured or settings / "ignore"
    yield _git_folder(repository) / "info" / "exclude"


def _git_folder(repository: Path) -> Path:
    """Return the folder of git's own files, which a worktree shares with its repository."""
    folder = repository / ".git"
    named = _named_in(folder)
    if named.startswith("gitdir:"):
        folder = repository / named.removeprefix("gitdir:").strip()
        folder = folder / _named_in(folder / "commondir")
    return folder


def _named_in(file: Path) -> str:
    """Return the path that a small file of git's holds; nothing where there is no such file, or no path in it."""
    if not file.is_file() or file.stat().st_size > IGNORE_LINE_CHARACTERS:
        return ""
    text = file.read_text(encoding="utf-8", errors="surrogateescape").strip()
    return "" if "\0" in text else text


def _signature(sources: Sequence[tuple[Path, int]], repository: Path | None) -> Signature:
    """Return what changes when one of the files does, or when git tracks others."""
    paths = [path for path, _ in sources] + ([repository / ".git" / "index"] if repository else [])
    facts = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        facts.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(facts)


def _exists(path: Path) -> bool:
    """Return whether something is there; raises PermissionError where that may not be known."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_file(path: Path) -> bool:
    """Return whether a regular file is there: a pipe or a device is none. git reads no .gitignore through a link."""
    return _exists(path) and path.is_file() and not (path.name == GITIGNORE and path.is_symlink())


@lru_cache(maxsize=256)
def _read(path: Path, modified_ns: int, size: int) -> Globs:
    """Read an ignore file. Raises UnreadableError."""
    if size > IGNORE_FILE_BYTES:
        raise UnreadableError(f"{path.name} is too long and")
    try:
        lines = path.read_bytes()[: IGNORE_FILE_BYTES + 1].decode("utf-8-sig", "replace").split("\n")
    except OSError as error:
        raise UnreadableError(path.name) from error
    distinct = dict.fromkeys(line.removesuffix("\r") for line in reversed(lines))  # the last of equal lines decides
    if len(distinct) > IGNORE_LINES:
        raise UnreadableError(f"{path.name} is too long and")
    return Globs(reversed(distinct))


@lru_cache(maxsize=64)
def _globs(lines: tuple[str, ...]) -> Globs:
    return Globs(lines)

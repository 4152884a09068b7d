"""Asking git whether a file is ignored: in a clean environment, with nothing of the repository's executed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from greencode_lsp.limits import GIT_S

SAFE = (
    *("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-c", "safe.bareRepository=explicit"),
    *("-c", "core.untrackedCache=false", "-c", "core.quotePath=false", "--no-pager"),
)
"""A repository's own configuration may name a program (fsmonitor) or hooks: none is started."""
OFFLINE = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_PROTOCOL_FROM_USER": "0"}
"""In a partial clone git fetches an ignore file that is missing, by the program that the repository names for ssh."""
IGNORED, NOT_IGNORED = 0, 1
"""Exit codes of `git check-ignore`; another one is an error."""


@lru_cache(maxsize=8)
def program(search_path: str) -> str | None:
    """Return git from the absolute folders of a PATH: a relative one may lie in a workspace."""
    names = ("git.exe",) if os.name == "nt" else ("git",)
    for folder in search_path.split(os.pathsep):
        for name in names:
            candidate = Path(folder) / name
            try:
                if Path(folder).is_absolute() and candidate.is_file() and os.access(candidate, os.X_OK):
                    return str(candidate)
            except (OSError, ValueError):
                continue
    return None


def find(roots: Sequence[str]) -> str | None:
    """Return git's path, or None where there is none, or only one inside the workspace."""
    git = program(os.environ.get("PATH", ""))
    if git is None:
        return None
    places = [os.path.realpath(root) for root in roots if root]
    names = [Path(os.path.realpath(name)) for name in (git, Path(git).parent)]
    return None if any(name.is_relative_to(place) for name in names for place in places) else git


def ask(git: str, folder: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str] | None:
    """Run git in a folder; None where it cannot be run or takes too long."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= OFFLINE | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(
            [git, *SAFE, "-C", str(folder), *arguments],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=environment,
            cwd=os.sep,
            timeout=GIT_S,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def ignored_by(git: str, repository: Path, file: Path) -> tuple[bool, str] | None:
    """Return whether git ignores a file of a repository, and the name of the file that says so; None where unknown."""
    done = ask(git, repository, "check-ignore", "--verbose", "-z", "--stdin", text=f"{file}\0")
    if done is None or done.returncode not in (IGNORED, NOT_IGNORED):
        return None
    source, _, rest = done.stdout.partition("\0")
    pattern = rest.split("\0")[1] if rest.count("\0") > 1 else ""
    is_ignored = done.returncode == IGNORED and not pattern.startswith("!")
    return is_ignored, Path(source).name or "git"


@lru_cache(maxsize=64)
def excludes_file(git: str, repository: Path, signature: object) -> Path | None:
    """Return `core.excludesFile`; asked again when the configuration's signature is another."""
    done = ask(git, repository, "config", "--type=path", "--get", "core.excludesFile")
    return Path(done.stdout.rstrip("\n")) if done is not None and done.returncode == 0 else None

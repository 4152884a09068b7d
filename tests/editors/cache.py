"""The folder that holds the editors, and what an editor's module tells about its part of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

ROOT = Path(__file__).parent.parent.parent
PROCESS = "GREENCODE_EDITOR_TESTS"
"""Names the editor whose tests a process was started for."""


@dataclass(frozen=True, slots=True)
class Ready:
    """An editor that can be run."""

    tools: Mapping[str, Path]
    """Name of an executable or folder -> where it is."""


@dataclass(frozen=True, slots=True)
class Missing:
    """An editor that cannot be run here."""

    reason: str
    """One sentence, shown as the reason of every skipped test."""


class FetchError(Exception):
    """A package could not be had; the message names it and ends with what the package manager said."""


def folder() -> Path:
    """Return the cache folder: `GREENCODE_EDITOR_CACHE`, or one beside the user's other caches."""
    named = os.environ.get("GREENCODE_EDITOR_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("greencode-lsp-editors")


def run(command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run one fetching command in a folder, which is made; raises FetchError with the end of what it printed."""
    cwd.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError as error:
        raise FetchError(f"{words[0]} cannot be run ({error.strerror or error}).") from error
    if done.returncode != 0:
        raise FetchError(f"`{' '.join(words)}` failed: {done.stdout.strip()[-400:]}")


def python_packages(cache: Path) -> Path:
    """Return the folder of the Python packages that only editor tests need."""
    return cache / f"python{sys.version_info.major}.{sys.version_info.minor}"


def pip_install(cache: Path, *requirements: str) -> None:
    """Install Python packages into the cache, beside the running environment; raises FetchError."""
    target = str(python_packages(cache))
    run([sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", target, *requirements], cache)


def use_python_packages(cache: Path) -> None:
    """Make the cache's Python packages importable, behind those of the environment."""
    packages = str(python_packages(cache))
    if packages not in sys.path:
        sys.path.append(packages)

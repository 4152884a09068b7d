"""What VS Code's tests are run with: the extension built from a copy of its sources, and scripts that start servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import HOME
from tests.editors.cache import ROOT, Ready
from tests.editors.vscode import EXTENSION

HELPERS = Path(__file__).parent / "extensions"
"""Extensions that stand beside ours in the tests."""


def build(tools: Ready, folder: Path) -> Path:
    """Package the extension from a copy of its sources; return the .vsix."""
    copy = copy_sources(tools, folder)
    return _package(tools, copy, ["npm", "run", "package"])


def copy_sources(tools: Ready, folder: Path) -> Path:
    """Return a copy of the extension's folder with its development packages beside it."""
    copy = folder / "editors" / "vscode"
    shutil.copytree(EXTENSION, copy, ignore=shutil.ignore_patterns("node_modules", "dist", "*.vsix"))
    shutil.copy(ROOT / "LICENSE", folder)
    (copy / "node_modules").symlink_to(tools.tools["build tools"], target_is_directory=True)
    return copy


def package_helper(tools: Ready, name: str, folder: Path) -> Path:
    """Package one of the extensions beside ours; return the .vsix."""
    copy = folder / name
    shutil.copytree(HELPERS / name, copy)
    vsce = tools.tools["build tools"] / "@vscode" / "vsce" / "vsce"
    options = ["--no-dependencies", "--allow-missing-repository", "--skip-license", "--out", f"{name}.vsix"]
    return _package(tools, copy, [str(tools.tools["node"]), str(vsce), "package", *options])


def npm(tools: Ready, folder: Path, command: Sequence[str]) -> str:
    """Run a command with the cache's Node first on PATH; return what it printed, raise AssertionError with it."""
    path = f"{tools.tools['node'].parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _package(tools: Ready, folder: Path, command: Sequence[str]) -> Path:
    npm(tools, folder, command)
    (vsix,) = folder.glob("*.vsix")
    return vsix


@dataclass(frozen=True, slots=True)
class Script:
    """An executable that notes each start and then becomes a server."""

    path: Path

    @property
    def starts(self) -> list[str]:
        """The process id and the arguments of each start, oldest first."""
        log = Path(f"{self.path}.starts")
        return log.read_text(encoding="utf8").splitlines() if log.exists() else []

    @property
    def served(self) -> list[int]:
        """The process ids of the language servers among them, oldest first."""
        return [int(start.split()[0]) for start in self.starts if start.endswith(" --stdio")]


def server_script(path: Path, home: Path, arguments: str = "-m tests.editors.fixed_server") -> Script:
    """Write a script that runs Python with these arguments and the servers' `home`; `doctor` is always the real one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    home.mkdir(exist_ok=True)
    path.write_text(
        "#!/bin/sh\n"
        f"echo \"$$ $*\" >> '{path}.starts'\n"
        "unset XDG_DATA_HOME XDG_CACHE_HOME\n"  # a real user's editors agree on them, or have an engine each
        f"export PYTHONPATH='{ROOT}' GREENCODE_HOME='{home}' GREENCODE_CACHE='{HOME}/cache'\n"
        "export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1\n"
        f"[ \"$1\" = doctor ] && exec '{sys.executable}' -m greencode_lsp doctor\n"
        f"exec '{sys.executable}' {arguments} \"$@\"\n",
        encoding="utf8",
    )
    path.chmod(0o755)
    return Script(path)

"""Debian packages of any suite, unpacked into a folder: nothing is installed, and apt gets a state of its own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.editors.cache import FetchError, run

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpack(suite: str, packages: Sequence[str], folder: Path, with_dependencies: bool = False) -> None:
    """Unpack these packages, and all that they depend on if wished; the folder appears once it is complete."""
    if shutil.which("apt-get") is None or not Path(KEYRING).is_file():
        raise FetchError("There is no apt-get with Debian's keys here.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        state, root = Path(scratch), Path(scratch) / "root"
        for part in ("state/lists/partial", "cache/archives/partial", "root"):
            (state / part).mkdir(parents=True)
        (state / "status").touch()
        (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
        options = {
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": state / "state",
            "Dir::State::status": state / "status",
            "Dir::Cache": state / "cache",
            "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false",
        }
        apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
        run([*apt, "update"], state)
        if with_dependencies:
            run([*apt, "-y", "--download-only", "install", *packages], state)
        else:
            run([*apt, "download", *packages], state)
        for package in sorted(state.glob("**/*.deb")):
            run(["dpkg-deb", "--extract", package, root], state)
        root.rename(folder)


def _mirror() -> str:
    """Return the archive that this machine's own apt is set up for."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    mirrors = [uri for uri in found if "security" not in uri]
    if not mirrors:
        raise FetchError("No Debian archive is set up here; run apt-get update first.")
    return mirrors[0]

"""Debian packages of any suite, unpacked into a folder: nothing is installed, and apt gets a state of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.editors.cache import FetchError, run

MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpack(suite: str, packages: Sequence[str], folder: Path) -> None:
    """Unpack exactly these packages, without what they depend on; the folder appears once it is complete."""
    if shutil.which("apt-get") is None or not Path(KEYRING).is_file():
        raise FetchError("There is no apt-get with Debian's keys here.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        state, root = Path(scratch), Path(scratch) / "root"
        for part in ("state/lists/partial", "cache/archives/partial", "root"):
            (state / part).mkdir(parents=True)
        (state / "status").touch()
        (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
        options = {
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": state / "state",
            "Dir::State::status": state / "status",
            "Dir::Cache": state / "cache",
            "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
        run([*apt, "update"], state)
        run([*apt, "download", *packages], state)
        for package in sorted(state.glob("*.deb")):
            run(["dpkg-deb", "--extract", package, root], state)
        root.rename(folder)

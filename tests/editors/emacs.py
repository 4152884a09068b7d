"""Emacs from the machine's own packages; lsp-mode 10, company, corfu and their like from Debian's, in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.editors.cache import ROOT, FetchError, Missing, Ready, run
from tests.editors.debian import unpack

PACKAGE = ROOT / "editors" / "emacs"
OLDEST = 28
NEWER_SUITE = "sid"
"""The first suite whose lsp-mode knows inline completion; it moves on, so what is unpacked is 10 or newer."""
PACKAGES = ("lsp-mode", "dash", "f", "ht", "lv", "markdown-mode", "s", "spinner", "company", "corfu", "compat")
SITE = Path("usr/share/emacs/site-lisp/elpa-src")


def find(cache: Path) -> Ready | Missing:
    """Return `emacs`, and where they are there `eglot`, `lsp-mode` and the other packages, each a folder of Lisp."""
    executable = shutil.which("emacs")
    if executable is None:
        return Missing("There is no emacs on the PATH; `python -m tests.editors emacs` installs it where it may.")
    version = _version(executable)
    if version < OLDEST:
        return Missing(f"{executable} is version {version}; greencode.el needs {OLDEST}.")
    tools = {"emacs": Path(executable)}
    for name in PACKAGES:
        for folder in sorted((_packages(cache) / SITE).glob(f"{name}-[0-9]*")):
            tools[name] = folder
    for folder in sorted((Path("/") / SITE).glob("*-[0-9]*")):  # eglot, and what it needs newer than Emacs 28's
        tools.setdefault(folder.name.rpartition("-")[0], folder)
    if version > OLDEST:
        tools.setdefault("eglot", Path(executable))  # built in
    return Ready(tools)


def load_path(found: Ready) -> list[str]:
    """Return the options by which Emacs finds our package, the tests' files and the packages that were found."""
    packages = [path for name, path in found.tools.items() if name != "emacs" and path.is_dir()]
    return [f"--directory={path}" for path in (PACKAGE, Path(__file__).parent, *packages)]


def prepare(cache: Path) -> Ready | Missing:
    """Install Emacs with Eglot where this user may, and fetch PACKAGES; what is not there is left out of the tests."""
    if shutil.which("emacs") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            return Missing(
                "There is no emacs on the PATH, and only root with apt-get can install it; install it first."
            )
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "-q", "update"], cache, quiet)
        run(["apt-get", "-q", "-y", "--no-install-recommends", "install", "emacs-nox", "elpa-eglot"], cache, quiet)
    record = cache / "emacs-packages.txt"
    if any(not list((_packages(cache) / SITE).glob(f"{name}-[0-9]*")) for name in PACKAGES):
        fresh = _packages(cache).with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            unpack(NEWER_SUITE, [f"elpa-{name}" for name in PACKAGES], fresh)
        except FetchError as error:
            record.write_text(str(error))
        else:
            shutil.rmtree(_packages(cache), ignore_errors=True)
            fresh.rename(_packages(cache))
    return find(cache)


def why_missing(cache: Path, name: str) -> str:
    """Return why a package cannot be tested, in one sentence."""
    record = cache / "emacs-packages.txt"
    reason = record.read_text() if record.is_file() else "`python -m tests.editors emacs` fetches it"
    return f"{name} is not in {cache}: {reason}"


def _packages(cache: Path) -> Path:
    return cache / "emacs-packages"


def _version(executable: str) -> int:
    """Return the major version, 0 where there is none to be read."""
    answer = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"GNU Emacs (\d+)", answer)
    return int(found[1]) if found else 0

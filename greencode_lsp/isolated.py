"""How another Python process of ours is started: nothing of the environment or the working folder is in its path."""

from __future__ import annotations

import importlib.util
import site
import sys
from pathlib import Path

_FROM_USERS = "import runpy, site; site.addsitedir({!r}); runpy.run_module({!r}, run_name='__main__', alter_sys=True)"


def isolated_module(package: str) -> list[str]:
    """Return the command that runs a package as `-I -m` does, also where it lies in the user's own site-packages.

    `-I` leaves these out, and `pip install` without an environment puts packages there where the system's folder cannot
    be written.
    """
    spec, users = importlib.util.find_spec(package), site.getusersitepackages()
    if spec and spec.origin and Path(spec.origin).is_relative_to(users):
        return [sys.executable, "-I", "-c", _FROM_USERS.format(users, package)]
    return [sys.executable, "-I", "-m", package]

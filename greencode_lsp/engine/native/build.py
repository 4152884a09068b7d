"""Compiles `decoder.c` for this very processor, once, and loads it.

No compiler costs speed, never function: `library` then returns None, and the families' torch operators serve.
Looked for: `$CC`, `cc`, `gcc`, `clang`, and the compiler of the `ziglang` package (extra `native`).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from greencode_lsp.models.store import data_home

SOURCES = ("decoder.c", "attention.h", "matrix.h", "lanes.h")
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-w")
"""No -ffast-math: a sum's order is part of what is computed."""
TARGETS: Sequence[list[str]] = (["-march=native", "-fopenmp"], ["-march=native"], ["-mcpu=native"], [])
"""The first that the compiler knows."""
COMPILE_TIMEOUT_S = 60
logger = logging.getLogger(__name__)


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None where no compiler is found or what it made does not load."""
    try:
        return ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("The native kernels are not used: %s", error)
        return None


def _compilers() -> Iterator[list[str]]:
    """Yield the commands to try, in order; `$CC`, where set, alone."""
    if "CC" in os.environ:
        yield os.environ["CC"].split()
        return
    yield from ([found] for name in ("cc", "gcc", "clang") if (found := shutil.which(name)))
    if importlib.util.find_spec("ziglang"):
        yield [sys.executable, "-m", "ziglang", "cc"]


def _processor() -> str:
    """Return what the compiled code depends on besides its source: a home folder may be shared by machines."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf8").split("\n\n")[0]
        features = "".join(line for line in info.splitlines() if line.startswith(("model name", "flags", "Features")))
    except OSError:
        features = platform.processor()
    return f"{platform.system()} {platform.machine()} {features}"


def _compiled() -> Path:
    """Return the shared library, compiled where it is not there yet. Raises OSError where that fails."""
    here = Path(__file__).parent
    commands = list(_compilers())
    identity = [*((here / name).read_text(encoding="utf8") for name in SOURCES), *FLAGS, _processor(), str(commands)]
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    target = data_home() / "native" / f"decoder-{digest}.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        for command in commands:
            for optional in TARGETS:
                if _try([*command, *FLAGS, *optional, str(here / "decoder.c"), "-o", str(made), "-lm"]):
                    made.replace(target)  # at once: another process may be looking
                    return target
    raise OSError(f"no C compiler made them (tried {[' '.join(command) for command in commands]})")


def _try(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.debug("%s: %s", command[0], error)
        return False
    if done.returncode:
        logger.debug("%s: %s", " ".join(command), done.stderr)
    return done.returncode == 0

"""Let a generation run behind what the user does: at a lower priority than the editor and its other servers."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

NICENESS = 10
"""A tenth of the weight of a process at the normal priority, where both want one processor."""
_SESSION = Path("/proc/self/autogroup")
_TASKS = Path("/proc/self/task")

Loaded = TypeVar("Loaded")


def then_give_way(load: Callable[[], Loaded], wanted: Callable[[Loaded], bool]) -> Loaded:
    """Load at the normal priority; then lower this thread and those that loading has started, if that is wanted.

    On Linux a thread has a niceness of its own; elsewhere nothing is done: see `set_process`.
    """
    if sys.platform != "linux":
        return load()
    before = _threads()
    loaded = load()
    if wanted(loaded):
        for thread in {threading.get_native_id(), *_threads() - before}:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread, NICENESS)
    return loaded


def set_process(*, is_lower: bool) -> None:
    """Lower this whole process, which does nothing but compute, or take that back where the system allows it.

    Linux shares processors between sessions first (autogroup), whatever the niceness within them: a process that leads
    a session lowers that. macOS and Windows lower the process for good.
    """
    if sys.platform == "linux":
        if os.getsid(0) == os.getpid():
            with suppress(OSError):  # a kernel without autogroups
                _SESSION.write_text(str(NICENESS if is_lower else 0))
    elif is_lower and os.name == "posix":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    elif is_lower:
        import psutil

        with suppress(psutil.Error):
            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)


def _threads() -> set[int]:
    try:
        return {int(path.name) for path in _TASKS.iterdir()}
    except OSError:
        return set()

"""Let a generation run behind what the user does: at a lower priority than the editor and its other servers."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

NICENESS = 10
"""A tenth of the weight of a process at the normal priority, where both want one processor."""


def give_way() -> None:
    """Lower this thread, and those that it will start; what a system cannot do is left as it is.

    On Linux a thread has a niceness of its own; and processors are shared between sessions first (autogroup), whatever
    the niceness within them, so that a process that leads a session of its own lowers that too. Elsewhere the whole
    process is lowered: only one that does nothing but compute may call this there.
    """
    with suppress(OSError, AttributeError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
            if os.getsid(0) == os.getpid():
                Path("/proc/self/autogroup").write_text(str(NICENESS))
        elif os.name == "posix":
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        else:
            import psutil

            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)


def can_lower_a_thread() -> bool:
    """Tell whether one thread can be lowered while its process goes on as it is."""
    return sys.platform == "linux"

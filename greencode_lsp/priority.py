"""Let a generation run behind what the user does: at a lower priority than the editor and its other servers."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

NICENESS = 10
"""A tenth of the weight of a process at the normal priority, where both want one processor."""


def give_way(*, whole_process: bool = False) -> None:
    """Lower this thread, and those that it will start; what a system cannot do is left as it is.

    On Linux a thread has a niceness of its own; elsewhere only a whole process can be lowered, which one that does
    nothing but compute allows. Linux shares processors between sessions first (autogroup), whatever the niceness within
    them, so that such a process lowers that of its session too, if it leads one.
    """
    with suppress(OSError, AttributeError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
            if whole_process and os.getsid(0) == os.getpid():
                Path("/proc/self/autogroup").write_text(str(NICENESS))
        elif whole_process and os.name == "posix":
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        elif whole_process:
            import psutil

            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)

"""The end of the process: with the editor's, and in time, whatever hangs."""

from __future__ import annotations

import faulthandler
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from greencode_lsp.limits import EXIT_S, PARENT_S

if TYPE_CHECKING:
    import psutil


class Lifeline:
    """Ends the process once the editor's is gone, or some time after it was asked to end.

    Beside the event loop, which may hang; at last beside Python itself, whose lock a library may hold.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_ending = False

    def end(self, code: int) -> None:
        """Let the process end by itself within `EXIT_S`; afterwards it is ended. The first call counts."""
        with self._lock:
            if self._is_ending:
                return
            self._is_ending = True
        nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - open until the end
        faulthandler.dump_traceback_later(2 * EXIT_S, exit=True, file=nowhere)  # needs no lock of Python's
        timer = threading.Timer(EXIT_S, os._exit, (code,))
        timer.daemon = True
        timer.start()

    def watch(self, process_id: int | None, gone: Callable[[], None]) -> None:
        """Call `gone`, on a thread of its own, once the process has ended or nobody reads standard output any more.

        A process that is not there to begin with is another machine's or container's.
        """
        thread = threading.Thread(target=self._watch, args=(process_id, gone), name="greencode-lifeline", daemon=True)
        thread.start()

    def _watch(self, process_id: int | None, gone: Callable[[], None]) -> None:
        if not _wait_by_descriptors(process_id):
            parent = _process(process_id)
            is_read = _reader_check()
            while _is_alive(parent) and is_read():
                time.sleep(PARENT_S)
        gone()


def _wait_by_descriptors(process_id: int | None) -> bool:
    """Sleep until the process has ended or nobody reads standard output any more; False where the system has no means.

    Linux has: so that an idle server never wakes up.
    """
    if sys.platform != "linux":
        return False
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
        if process_id is not None:
            poll.register(os.pidfd_open(process_id), select.POLLIN)
    except ProcessLookupError:  # another machine's or container's
        pass
    except (OSError, ValueError, TypeError, OverflowError, AttributeError):
        return False
    return bool(poll.poll())


def _process(process_id: int | None) -> psutil.Process | None:
    import psutil  # not at the server's start

    try:
        return None if process_id is None else psutil.Process(process_id)
    except (psutil.Error, ValueError, TypeError, OverflowError):
        return None


def _is_alive(process: psutil.Process | None) -> bool:
    if process is None:
        return True
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it may not be looked at
        return True


def _reader_check() -> Callable[[], bool]:
    """Return a check whether somebody can still read standard output; it says yes where that cannot be known."""
    if not hasattr(select, "poll"):
        return lambda: True
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return lambda: True
    return lambda: not poll.poll(0)

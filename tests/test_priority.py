"""Generations run behind what the user does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from greencode_lsp.priority import NICENESS, then_give_way

linux = pytest.mark.skipif(sys.platform != "linux", reason="a thread has a niceness of its own on Linux alone")


def in_a_thread(work: Callable[[], None]) -> None:
    """Run something in a thread whose niceness is its own affair."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def niceness(thread: int = 0) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


@linux
def test_loading_lowers_its_thread_and_those_it_starts_and_no_other() -> None:
    before, seen, stop = niceness(), list[int](), threading.Event()

    def load() -> threading.Thread:
        seen.append(niceness())
        pool = threading.Thread(target=stop.wait)
        pool.start()
        return pool

    def work() -> None:
        pool = then_give_way(load, lambda loaded: True)
        assert pool.native_id is not None
        seen.extend([niceness(threading.get_native_id()), niceness(pool.native_id)])
        stop.set()
        pool.join()

    in_a_thread(work)
    lowered = max(before, NICENESS)
    assert seen == [before, lowered, lowered]
    assert niceness() == before


@linux
def test_a_gpus_process_is_left_as_it_is() -> None:
    seen: list[int] = []

    def work() -> None:
        then_give_way(lambda: None, lambda loaded: False)
        seen.append(niceness(threading.get_native_id()))

    in_a_thread(work)
    assert seen == [niceness()]


@linux
@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no autogroups")
def test_a_session_of_its_own_is_lowered_and_raised_again() -> None:
    program = "from greencode_lsp.priority import set_process; import time\n"
    for is_lower in (True, False):
        program += f"set_process(is_lower={is_lower}); print(open('/proc/self/autogroup').read().split()[-1])\n"
        program += "time.sleep(0.2)\n"  # the kernel lets nobody change it more often
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, start_new_session=True)
    assert done.stdout.split() == [str(NICENESS), "0"]

"""The one thread pool of a process, on which all sessions run: pools of their own would spin against each other."""

from __future__ import annotations

import os

import onnxruntime

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""A limit the user has set for all programs, which is kept."""
MAX_THREADS = 4
"""A step of one token is over before more have woken up."""
_pool: list[int] = []
"""The size of the pool once it exists: ONNX Runtime sets it once for a process."""


def usable_threads() -> int:
    """Return how many threads a step may take here: the processors this process may use, up to MAX_THREADS."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get(THREADS_VARIABLE, "")
    return max(1, min(MAX_THREADS, processors, int(limit) if limit.isdecimal() else MAX_THREADS))


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return options for a session of one thread (it needs no pool), or on the process's pool.

    The pool's size is that of the first session that asked for more than one thread.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and told by who catches it
    if threads == 1:
        options.intra_op_num_threads = 1
        return options
    if not _pool:
        onnxruntime.set_global_thread_pool_sizes(threads, 1)
        _pool.append(threads)
    options.use_per_session_threads = False
    return options


def pool_threads(threads: int) -> int:
    """Return how many threads a session that asked for `threads` runs on."""
    return _pool[0] if threads > 1 and _pool else min(threads, 1)

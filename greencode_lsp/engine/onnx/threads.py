"""The one thread pool of a process, on which all sessions run: pools of their own would spin against each other."""

from __future__ import annotations

import os

import onnxruntime

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""A limit the user has set for all programs, which is kept."""
MAX_THREADS = 4
"""A step of one token is over before more have woken up."""
_decided: list[int] = []
"""Threads of every session of this process, once there is one: ONNX Runtime takes no other afterwards."""


def usable_threads() -> int:
    """Return how many threads a step may take here: the processors this process may use, up to MAX_THREADS."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get(THREADS_VARIABLE, "")
    return max(1, min(MAX_THREADS, processors, int(limit) if limit.isdecimal() else MAX_THREADS))


def decide_threads(wanted: int) -> int:
    """Return the threads of this process's sessions: those wanted by the first of them."""
    if not _decided:
        if wanted > 1:
            onnxruntime.set_global_thread_pool_sizes(wanted, 1)
        _decided.append(wanted)
    return _decided[0]


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return options for a session on the process's pool, or without one where that is of a single thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and reported where it is caught
    if decide_threads(threads) == 1:
        options.intra_op_num_threads = 1
    else:
        options.use_per_session_threads = False
    return options

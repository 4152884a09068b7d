"""How many threads a step takes: a property of the process, as it is torch's."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import torch

MAX_THREADS = 4
"""Tried at most: a small model's step is over before more have woken up."""
WORTH = 0.7
"""A further thread must bring the time down to this share: it draws power whether it helps or not."""
ROUNDS = 9
BUDGET_S = 0.5
"""Tuning ends after this, with the rounds it has."""


def kernel_threads() -> int:
    """Return how many threads the native kernels take: as many as torch's, up to MAX_THREADS."""
    return min(torch.get_num_threads(), MAX_THREADS)


def set_threads(count: int) -> None:
    """Let the engine's kernels, and torch's, take `count` threads."""
    torch.set_num_threads(count)


def tune(step: Callable[[], object]) -> int:
    """Set the number of threads at which `step` is fastest, a further one only where it is worth it; return it.

    A limit the user has set (`OMP_NUM_THREADS`) is kept.
    """
    limit = min(kernel_threads(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 64)
    times_s: dict[int, list[float]] = {count: [] for count in range(1, limit + 1)}
    begun_s = time.perf_counter()
    for _ in range(ROUNDS if limit > 1 else 0):
        if time.perf_counter() - begun_s > BUDGET_S:
            break
        for count, found in times_s.items():
            set_threads(count)
            step()  # wakes the threads
            start_s = time.perf_counter()
            step()
            found.append(time.perf_counter() - start_s)
    best = 1
    for count in range(2, limit + 1 if times_s[1] else 0):
        if statistics.median(times_s[count]) < WORTH * statistics.median(times_s[best]):
            best = count
    set_threads(best)
    return best

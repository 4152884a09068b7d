"""What a number of users needs: queues at c copies of a model, with service times as they were measured."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from greencode_lsp.errors import TeamError
from greencode_lsp.team.load import MEAN_GAP_S, Measured, quantile

ACTIVE_SHARE = 0.15
"""Of the users, those who type at the busiest time. An assumption: measure your own."""
ARRIVALS = 40_000
"""Requests of one simulation; at 0.95 of the capacity the p95 is then within a few per cent from seed to seed."""
WARM_UP = 0.1
MOST_COPIES = 1 << 16


@dataclass(frozen=True, slots=True)
class Load:
    """How often who asks."""

    users: int
    active_share: float = ACTIVE_SHARE
    gap_s: float = MEAN_GAP_S

    @property
    def requests_per_s(self) -> float:
        """Of all users together, at the busiest time."""
        return self.users * self.active_share / self.gap_s


def waited_ms(load: Load, copies: int, service_ms: Sequence[float], seed: int = 0) -> list[float]:
    """Return what each request waits to its answer: first come, first served; each copy serves one at a time."""
    rng = random.Random(seed)
    free_ms = [0.0] * copies
    now_ms, rate_per_ms, waited = 0.0, load.requests_per_s / 1000, []
    for _ in range(ARRIVALS):
        now_ms += rng.expovariate(rate_per_ms)
        begin_ms = max(now_ms, free_ms[0])
        end_ms = begin_ms + rng.choice(service_ms)
        heapq.heapreplace(free_ms, end_ms)
        waited.append(end_ms - now_ms)
    return waited[int(WARM_UP * ARRIVALS) :]


def copies_needed(load: Load, service_ms: Sequence[float], p95_ms: float) -> int:
    """Return the least copies that keep a p95. Raises TeamError where the model alone takes longer."""
    if quantile(list(service_ms), 0.95) > p95_ms:
        raise TeamError(f"The model itself takes longer than {p95_ms:.0f} ms; no number of copies changes that.")
    busy = load.requests_per_s * sum(service_ms) / len(service_ms) / 1000
    low, high = max(1, int(busy)), max(2, int(busy) + 1)
    while quantile(waited_ms(load, high, service_ms), 0.95) > p95_ms:
        low, high = high, 2 * high
        if high > MOST_COPIES:
            raise TeamError("More than 65,536 copies would be needed.")
    while low < high:
        middle = (low + high) // 2
        if quantile(waited_ms(load, middle, service_ms), 0.95) <= p95_ms:
            high = middle
        else:
            low = middle + 1
    return high


def run(users: int, file: Path | None, p95_ms: float, write: Callable[[str], None]) -> int:
    """Say what so many users need."""
    if file is None:
        raise TeamError("Give --service-times a file that `greencode-serve load-test --write FILE` has made.")
    try:
        measured = msgspec.json.decode(file.read_bytes(), type=Measured)
    except (OSError, msgspec.MsgspecError) as error:
        raise TeamError(f"{file} holds no service times ({error}).") from error
    if not measured.service_ms or users < 1:
        raise TeamError(f"{file} holds no service times." if users > 0 else "Give at least one user.")
    load, times = Load(users), measured.service_ms
    mean_ms = sum(times) / len(times)
    copies = copies_needed(load, times, p95_ms)
    waits = waited_ms(load, copies, times)
    write(
        f"{users} users, {load.active_share:.0%} typing, a request every {load.gap_s:.1f} s: "
        f"{load.requests_per_s:.0f} a second"
    )
    write(f"service: mean {mean_ms:.1f} ms, p95 {quantile(times, 0.95):.1f} ms ({len(times)} measured)")
    write(f"copies of the model: {copies} (busy {load.requests_per_s * mean_ms / 1000 / copies:.0%})")
    write(
        f"waited (ms): p50 {quantile(waits, 0.5):.0f}, p95 {quantile(waits, 0.95):.0f}, p99 {quantile(waits, 0.99):.0f}"
    )
    return 0

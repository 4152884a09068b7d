"""What a part of the soak found: figures, limits and whether they are kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Figure:
    """One number and what it may be; `limit` None for one that is only reported."""

    name: str
    value: float | None
    """None where nothing of the kind happened."""
    limit: float | None = None

    @property
    def is_kept(self) -> bool:
        return self.limit is None or (self.value is not None and self.value <= self.limit)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value that `share` of them do not exceed (nearest rank); None of none."""
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)] if ranked else None


def rss_bytes(pid: int) -> int:
    """Return the memory of a process and of the engine it has started that is resident, shared pages included."""
    process = psutil.Process(pid)
    return sum(int(one.memory_info().rss) for one in (process, *process.children(recursive=True)))


def generations(home: Path) -> list[tuple[str, int]]:
    """Return (outcome, tokens) of every generation in Python that the ledger holds."""
    path = home / "ledger.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        return list(
            database.execute("SELECT outcome, tokens FROM completions WHERE language = 'python' AND outcome <> 'audit'")
        )


def table(part: str, figures: Sequence[Figure], write: Callable[[str], None]) -> None:
    """Write the figures of one part for a person to read."""
    write(f"\n{part}")
    for figure in figures:
        value = "none" if figure.value is None else f"{figure.value:,.4g}"
        limit = "" if figure.limit is None else f"at most {figure.limit:g}: {'kept' if figure.is_kept else 'NOT KEPT'}"
        write(f"  {figure.name:56} {value:>12}  {limit}".rstrip())

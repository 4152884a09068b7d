"""The energy ledger: one SQLite row per completion, counts and joules only, never source text (design, I6).

It serves the user's totals and must never stand in a completion's way: a file that cannot be opened is told once and
replaced by memory, a row that cannot be written is told once and lost.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from greencode_lsp.records import Completion, EnergyTier

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    time_utc TEXT NOT NULL,
    language TEXT NOT NULL,
    model TEXT NOT NULL,
    preference REAL NOT NULL,
    tokens INTEGER NOT NULL,
    exit_layers TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    reused_tokens INTEGER NOT NULL,
    energy_j REAL NOT NULL,
    energy_tier TEXT NOT NULL,
    saved_j REAL NOT NULL,
    elapsed_ms REAL NOT NULL,
    outcome TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS completions_by_time ON completions (time_utc);
"""
BUSY_TIMEOUT_S = 0.2
"""How long a write waits for another editor's: a completion is not held up for its bookkeeping."""


def utc_now() -> datetime:
    """Return the time of day, aware of its zone."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What is kept of one completion."""

    language: str
    model: str
    preference: float
    tokens: int
    energy_j: float
    energy_tier: EnergyTier
    saved_j: float
    elapsed_ms: float
    exit_layers: dict[int, int] = field(default_factory=dict)
    """Exit layer -> tokens that left there."""
    prompt_tokens: int = 0
    reused_tokens: int = 0
    outcome: str = "shown"
    """What became of it, in one word: shown, empty, cancelled, superseded."""
    time_utc: datetime = field(default_factory=utc_now)

    @classmethod
    def of(cls, completion: Completion, language: str, preference: float, outcome: str) -> LedgerRow:
        """Return the row of a completion; its text is left out."""
        return cls(
            language=language,
            model=completion.model,
            preference=preference,
            tokens=len(completion.steps),
            energy_j=completion.energy.energy_j,
            energy_tier=completion.energy.energy_tier,
            saved_j=completion.energy.saved_j,
            elapsed_ms=completion.elapsed_ms,
            exit_layers=dict(sorted(Counter(completion.exit_layers).items())),
            prompt_tokens=completion.work.prompt_tokens,
            reused_tokens=completion.work.reused_tokens,
            outcome=outcome,
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over rows; `saved_j` is counterfactual and therefore modelled, and so may be parts of `energy_j`."""

    energy_j: float = 0.0
    saved_j: float = 0.0


class Ledger:
    """The ledger file at `path`, safe to share between threads; no method raises for what the disk does.

    `tell` is given a sentence when the file is set aside, and once when it cannot be written.
    """

    def __init__(self, path: Path, tell: Callable[[str], None] = lambda sentence: None) -> None:
        self._path, self._tell = path, tell
        self._lock = threading.Lock()
        self._told = False
        try:
            self._database = self._open()
        except (sqlite3.Error, OSError) as error:
            self._tell_once(error)
            self._database = _connect(":memory:")

    def add(self, row: LedgerRow) -> None:
        """Append a row."""
        values = (
            _stamp(row.time_utc),
            row.language,
            row.model,
            row.preference,
            row.tokens,
            json.dumps(row.exit_layers),
            row.prompt_tokens,
            row.reused_tokens,
            row.energy_j,
            row.energy_tier,
            row.saved_j,
            row.elapsed_ms,
            row.outcome,
        )
        marks = ", ".join("?" * len(values))
        try:
            with self._lock, self._database:
                self._database.execute(f"INSERT INTO completions VALUES ({marks})", values)
        except sqlite3.Error as error:
            self._tell_once(error)

    def today(self) -> Totals:
        """Return the sums since the local midnight; zeros where the ledger cannot be read."""
        midnight = utc_now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        query = "SELECT total(energy_j), total(saved_j) FROM completions WHERE time_utc >= ?"
        try:
            with self._lock:
                energy_j, saved_j = self._database.execute(query, (_stamp(midnight),)).fetchone()
        except sqlite3.Error as error:
            self._tell_once(error)
            return Totals()
        return Totals(energy_j, saved_j)

    def close(self) -> None:
        """Close the file; the ledger is of no use afterwards."""
        with self._lock, suppress(sqlite3.Error):
            self._database.close()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(str(self._path))
        except sqlite3.OperationalError:  # read-only, locked, no space: nothing is wrong with the file
            raise
        except sqlite3.DatabaseError:
            aside = self._path.with_name(f"{self._path.name}.damaged-{utc_now():%Y%m%d-%H%M%S-%f}")
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._tell(f"The energy ledger was damaged and is set aside as {aside}; a new one is begun.")
            return _connect(str(self._path))

    def _tell_once(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            self._tell(
                f"The energy ledger {self._path} cannot be used ({error}); make it writable to keep your totals."
            )


def _connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise sqlite3.OperationalError("it was written by a newer greencode-lsp")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # in WAL a crash loses the last rows, never the file
        database.executescript(SCHEMA)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _stamp(time: datetime) -> str:
    """Return the time in UTC as text of one width, so that text order is time order."""
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds")

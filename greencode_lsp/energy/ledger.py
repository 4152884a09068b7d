"""The energy ledger: one SQLite row per completion, counts and joules only, never source text (I6).

It must never delay a completion: a file that cannot be opened is reported once and replaced by memory, a row that
cannot be written is reported once and lost; while another process holds the file, rows wait in memory. SQLite's
write-ahead log lets one process write while others read, and keeps every row that was written when a process is killed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from greencode_lsp.energy.ledger_file import (
    BUSY_TIMEOUT_S,
    NewerError,
    beside,
    connect,
    connect_to_read,
    file_at,
    is_damage,
    is_held,
    select,
    wait_for_others,
)
from greencode_lsp.energy.rows import COLUMNS, LedgerRow, row_of, settled_by, stamp, utc_now, values_of
from greencode_lsp.errors import LedgerError
from greencode_lsp.files import make_private
from greencode_lsp.records import EnergyTier

__all__ = ["Ledger", "LedgerRow", "Totals", "read_rows"]

INSERT = f"INSERT INTO completions ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
UPDATE = "UPDATE completions SET outcome = ?, accepted_characters = ? WHERE id = ? AND outcome IN"
RETRY_AFTER_S = 1.0
"""How long a file that was held is not tried again."""
MAX_WAITING = 1000
"""Rows that wait in memory, and as many outcomes; further ones push out the oldest."""
KEEP_ROWS = 400_000
"""Older rows are deleted, so that the file stays bounded, by their number alone: a clock may be wrong. Some 100 MB."""
PRUNE_EVERY = 1000
"""Rows written between two looks for old ones."""
PRUNE = "DELETE FROM completions WHERE id <= (SELECT id FROM completions ORDER BY id DESC LIMIT 1 OFFSET ?)"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over rows, audits' joules included; `saved_j` is counterfactual and therefore always modelled."""

    energy_j: float = 0.0
    saved_j: float = 0.0
    energy_tier: EnergyTier = "modelled"
    """Of `energy_j`: as weak as its weakest row."""
    completions: int = 0
    shown: int = 0
    """Of `completions`, those that came before the user's eyes, whatever became of them."""
    accepted: int = 0
    """Whole or in part."""


TOTALS = """
SELECT total(energy_j), total(full_depth_j) - total(energy_j),
    coalesce(min(energy_tier <> 'modelled'), 0),
    count(*) FILTER (WHERE outcome <> 'audit'),
    count(*) FILTER (WHERE outcome IN ('shown', 'accepted', 'partial', 'rejected')),
    count(*) FILTER (WHERE outcome IN ('accepted', 'partial'))
FROM completions WHERE time_utc >= ? AND time_utc < ?
"""


class Ledger:
    """The ledger file at `path`, safe to share between threads; no method raises for what the disk does.

    `notify` is given a sentence when the file is set aside, and once when it cannot be written.
    """

    def __init__(self, path: Path, notify: Callable[[str], None] = lambda sentence: None) -> None:
        self._path, self._notify = path, notify
        self._lock = threading.Lock()
        self._notified = self._is_anew = False
        self._added = 0
        self._waiting: dict[int, LedgerRow] = {}
        self._ids: dict[int, int] = {}
        self._unsettled: deque[tuple[str, int, int]] = deque(maxlen=MAX_WAITING)
        """(outcome, accepted characters, row) of rows in the file, to be written when it is free."""
        self._tickets = 0
        self._retry_s = 0.0
        try:
            self._database = self._open()
        except (sqlite3.Error, OSError) as error:
            self._notify_once(error)
            self._database = connect(":memory:")

    def add(self, row: LedgerRow) -> int:
        """Append a row and return its id, 0 where it could not be written; below 0 while it waits to be."""
        if not self._write_waiting():
            return self._wait(row)
        cursor = self._write(INSERT, values_of(row))
        if cursor is None:
            return 0 if self._may_write() else self._wait(row)
        self._added += 1
        if self._added % PRUNE_EVERY == 1:
            self._write(PRUNE, (KEEP_ROWS,))
        return cursor.lastrowid or 0

    def settle(self, row_id: int, outcome: str, accepted_characters: int = 0) -> None:
        """Say what became of a row's completion; without effect where the row is lost (id 0) or gone.

        Nor where more is known of it: what was taken stays taken.
        """
        waiting = self._waiting.get(row_id)
        if waiting is not None:
            if waiting.outcome in settled_by(outcome):
                self._waiting[row_id] = replace(waiting, outcome=outcome, accepted_characters=accepted_characters)
            return
        row_id = self._ids.get(row_id, row_id)
        if row_id > 0:
            self._unsettled.append((outcome, accepted_characters, row_id))
            self._write_waiting()

    def _wait(self, row: LedgerRow) -> int:
        self._tickets -= 1
        self._waiting[self._tickets] = row
        while len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        return self._tickets

    def _may_write(self) -> bool:
        return time.monotonic() >= self._retry_s

    def _write_waiting(self) -> bool:
        """Write the rows that wait and the outcomes; False where the file is still held."""
        if not self._may_write():
            return False
        for ticket in list(self._waiting):
            cursor = self._write(INSERT, values_of(self._waiting[ticket]))
            if cursor is None and not self._may_write():
                return False
            del self._waiting[ticket]
            if cursor is not None:
                self._ids[ticket] = cursor.lastrowid or 0
        for ticket in list(self._ids)[:-MAX_WAITING]:
            del self._ids[ticket]
        while self._unsettled:
            weaker = settled_by(self._unsettled[0][0])
            cursor = self._write(f"{UPDATE} ({', '.join('?' * len(weaker))})", (*self._unsettled[0], *weaker))
            if cursor is None and not self._may_write():
                return False
            self._unsettled.popleft()
        return True

    def today(self) -> Totals:
        """Return the sums since the local midnight; zeros where the ledger cannot be read."""
        midnight = utc_now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            with self._lock:
                day = stamp(midnight), stamp(midnight + timedelta(hours=25))
                sums = self._database.execute(TOTALS, day).fetchone()
        except sqlite3.Error as error:
            self._notify_once(error)
            return Totals()
        energy_j, saved_j, is_attributed, *counts = sums
        return Totals(energy_j, saved_j, "attributed" if is_attributed else "modelled", *counts)

    def rows(self, since: datetime | None = None) -> list[LedgerRow]:
        """Return the rows written at `since` or later, the oldest first; none where the ledger cannot be read."""
        try:
            with self._lock:
                rows = select(self._database, since)
        except sqlite3.Error as error:
            self._notify_once(error)
            return []
        return [row_of(values) for values in rows]

    def flush(self) -> None:
        """Write what waits, if the file is free soon."""
        if not self._waiting and not self._unsettled:
            return
        with suppress(sqlite3.Error):
            wait_for_others(self._database, BUSY_TIMEOUT_S)
            self._retry_s = 0.0
            self._write_waiting()

    def close(self) -> None:
        """Write what waits and close the file; the ledger is of no use afterwards."""
        self.flush()
        with self._lock, suppress(sqlite3.Error):
            self._database.close()

    def _write(self, query: str, values: tuple[object, ...]) -> sqlite3.Cursor | None:
        try:
            with self._lock, self._database:
                return self._database.execute(query, values)
        except sqlite3.Error as error:
            if is_held(error):
                self._retry_s = time.monotonic() + RETRY_AFTER_S
                return None
            if not is_damage(error) or self._is_anew:
                self._notify_once(error)
                return None
        try:  # a page that was not read at the start
            with self._lock:
                self._database.close()
                self._set_aside()
                self._database = self._open()
        except (sqlite3.Error, OSError) as error:
            self._notify_once(error)
            self._database = connect(":memory:")
        return self._write(query, values)

    def _open(self) -> sqlite3.Connection:
        if not self._path.parent.exists():
            make_private(self._path.parent)
        with suppress(OSError):  # read-only, or another's: reported where it is opened
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._path.chmod(0o600)
        self._file = file_at(self._path)  # first: what takes its place while it is opened must not pass for it
        try:
            return connect(str(self._path))
        except sqlite3.Error as error:
            if not is_damage(error) or self._is_anew:  # read-only, locked, no space: nothing is wrong with the file
                raise
        self._set_aside()
        return self._open()

    def _set_aside(self) -> None:
        """Move the damaged file away with its log, once for each ledger; not one that others have begun since."""
        with closing(sqlite3.connect(beside(self._path, ".lock"), timeout=BUSY_TIMEOUT_S)) as lock:
            lock.execute("BEGIN EXCLUSIVE")  # of an empty file: one process at a time, and a kill lets go of it
            if file_at(self._path) != self._file:
                return
            self._is_anew = True
            aside = beside(self._path, f".damaged-{utc_now():%Y%m%d-%H%M%S-%f}")
            for suffix in ("-wal", "-shm"):  # first: a new file must not find them
                with suppress(FileNotFoundError):
                    beside(self._path, suffix).replace(beside(aside, suffix))
            self._path.replace(aside)
        self._notify(f"The energy ledger was damaged and is set aside as {aside}; a new one is begun.")

    def _notify_once(self, error: Exception) -> None:
        if not self._notified:
            self._notified = True
            fix = "update greencode-lsp" if isinstance(error, NewerError) else "make it writable"
            self._notify(f"The energy ledger {self._path} cannot be used ({error}); {fix} to keep your totals.")


def read_rows(path: Path, since: datetime | None = None) -> list[LedgerRow]:
    """Return a ledger's rows for a report: none where there is no file yet.

    Raises LedgerError where the file is there and cannot be read; it is left as it is, whatever its state.
    """
    if not path.exists():
        return []
    try:
        with closing(connect_to_read(path)) as database:
            return [row_of(values) for values in select(database, since)]
    except sqlite3.Error as error:
        fix = "where it is in use ask again, else make it readable for you"
        if isinstance(error, NewerError):
            fix = "update greencode-lsp"
        elif is_damage(error):
            fix = "the next suggestion in an editor sets it aside and begins a new one"
        raise LedgerError(f"The energy ledger {path} cannot be read ({error}); {fix}.") from error

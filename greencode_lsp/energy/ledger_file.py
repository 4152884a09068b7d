"""The ledger's SQLite file: its schema, opening, migration, and what an error says of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from greencode_lsp.energy.rows import COLUMNS, stamp

SCHEMA_VERSION = 2
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS completions (
    id INTEGER PRIMARY KEY,
    {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())}
);
CREATE INDEX IF NOT EXISTS completions_by_time ON completions (time_utc);
"""
FROM_SCHEMA_1 = f"""
DROP INDEX completions_by_time;
ALTER TABLE completions RENAME TO completions_1;
{SCHEMA}
INSERT INTO completions (time_utc, language, model, preference, tokens, exit_layers, prompt_tokens, reused_tokens,
        energy_j, energy_tier, full_depth_j, elapsed_ms, outcome)
    SELECT time_utc, language, model, preference, tokens, exit_layers, prompt_tokens, reused_tokens,
        energy_j, energy_tier, energy_j + saved_j, elapsed_ms, outcome
    FROM completions_1 ORDER BY rowid;
DROP TABLE completions_1;
"""
"""Version 1 kept what was saved instead of what full depth takes, and knew no device and no acceptance."""
BUSY_TIMEOUT_S = 0.2
"""How long opening and closing wait for another editor's write."""
WRITE_TIMEOUT_S = 0.01
"""How long a row waits for it: one that another process holds the file against is written with a later one."""


class NewerError(sqlite3.OperationalError):
    """The file is of a version that is not known here."""


def select(database: sqlite3.Connection, since: datetime | None) -> list[tuple[Any, ...]]:
    """Return the rows since a time as values in the order of COLUMNS, the oldest first."""
    query = f"SELECT {', '.join(COLUMNS)} FROM completions WHERE time_utc >= ? ORDER BY time_utc, id"
    return database.execute(query, (stamp(since) if since else "",)).fetchall()


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file that belongs to another, such as its log."""
    return path.with_name(path.name + suffix)


def file_at(path: Path) -> tuple[int, int] | None:
    """Return what distinguishes the file at a path from one that takes its place; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether the file is at fault: the subclasses mean a full, locked or closed one."""
    return type(error) is sqlite3.DatabaseError


def connect(path: str) -> sqlite3.Connection:
    """Open a file to write, brought to this version; raises sqlite3.Error."""
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        version = _version(database)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # in WAL a crash loses the last rows, never the file
        if version < SCHEMA_VERSION:
            _migrate(database)
        wait_for_others(database, WRITE_TIMEOUT_S)
    except sqlite3.Error:
        database.close()
        raise
    return database


def wait_for_others(database: sqlite3.Connection, seconds: float) -> None:
    """Let each write wait so long for another process."""
    database.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


def is_held(error: sqlite3.Error) -> bool:
    """Return whether another process has the file: it will be free again."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection that writes nothing; an older version's rows are brought to this one in memory."""
    uri = path.absolute().as_uri()
    try:
        database = _connect_by(f"{uri}?mode=ro")
    except sqlite3.OperationalError as error:
        if isinstance(error, NewerError) or "locked" in str(error):
            raise
        database = _connect_by(f"{uri}?immutable=1")  # in a folder that lets no log be made, there is no writer either
    if _version(database) == SCHEMA_VERSION:
        return database
    with closing(database):
        copy = sqlite3.connect(":memory:")
        database.backup(copy)
    _migrate(copy)
    return copy


def _connect_by(uri: str) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)
    try:
        _version(database)  # reads the file
    except sqlite3.Error:
        database.close()
        raise
    return database


def _version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise NewerError("it was written by a newer greencode-lsp")
    return version


def _migrate(database: sqlite3.Connection) -> None:
    """Bring a new or an older file to this version in one transaction, which a kill undoes."""
    database.execute("BEGIN IMMEDIATE")
    version = database.execute("PRAGMA user_version").fetchone()[0]  # another editor may have been faster
    script = {0: SCHEMA, 1: FROM_SCHEMA_1, SCHEMA_VERSION: ""}[version]
    for statement in filter(str.strip, script.split(";")):
        database.execute(statement)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.commit()

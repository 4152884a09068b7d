"""The ledger: totals, privacy, and what it does when the disk is against it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import pytest

from greencode_lsp.energy.ledger import PRUNE_EVERY, Ledger, Totals, read_rows
from greencode_lsp.energy.ledger_file import FROM_SCHEMA_1
from greencode_lsp.energy.rows import COLUMNS, Audit, LedgerRow, utc_now
from greencode_lsp.errors import LedgerError
from greencode_lsp.records import Completion, EnergyReading, Step, Work

ROW = LedgerRow(
    language="python",
    model="mini-1",
    preference=0.5,
    tokens=4,
    energy_j=2.0,
    energy_tier="modelled",
    full_depth_j=2.5,
    elapsed_ms=80.0,
    exit_layers={4: 3, 20: 1},
)
ONE = Totals(2.0, 0.5, completions=1, shown=1)
TWO = Totals(4.0, 1.0, completions=2, shown=2)
AUDIT = replace(ROW, outcome="audit", tokens=10, agreed_tokens=9, promised=0.98, energy_j=1.0, full_depth_j=0.0)
SECRET = "the_source_text_of_the_user"


@pytest.fixture
def notices() -> list[str]:
    return []


def open_ledger(path: Path, notices: list[str]) -> Ledger:
    return Ledger(path, notices.append)


def test_today_is_the_sum_of_todays_rows(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.add(ROW)
    ledger.add(replace(ROW, energy_j=3.0, full_depth_j=2.75))
    assert ledger.today() == Totals(energy_j=5.0, saved_j=0.25, completions=2, shown=2)
    assert notices == []


def test_an_empty_ledger_totals_zero(tmp_path: Path, notices: list[str]) -> None:
    assert open_ledger(tmp_path / "ledger.sqlite", notices).today() == Totals(0.0, 0.0)


def test_yesterdays_rows_are_not_todays(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.add(replace(ROW, time_utc=utc_now() - timedelta(days=1)))
    assert ledger.today() == Totals(0.0, 0.0)


def test_rows_outlive_the_process(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "a" / "new" / "home" / "ledger.sqlite"
    first = open_ledger(path, notices)
    first.add(ROW)
    first.close()
    assert open_ledger(path, notices).today() == ONE


def test_two_editors_share_one_ledger(tmp_path: Path, notices: list[str]) -> None:
    one, other = (open_ledger(tmp_path / "ledger.sqlite", notices) for _ in range(2))
    one.add(ROW)
    other.add(ROW)
    assert one.today() == other.today() == TWO


def test_the_ledger_keeps_a_write_ahead_log(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    open_ledger(path, notices)
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_row_holds_the_exit_layers_as_a_histogram(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    open_ledger(path, notices).add(ROW)
    assert sqlite3.connect(path).execute("SELECT exit_layers FROM completions").fetchone() == ('{"4": 3, "20": 1}',)


def test_no_source_text_reaches_the_disk(tmp_path: Path, notices: list[str]) -> None:
    energy = EnergyReading(2.0, "modelled", ("cpu",), 0.5)
    steps = (Step(7, 4), Step(8, 20), Step(9, 4))
    completion = Completion(SECRET, steps, Work(prompt_tokens=9, reused_tokens=5), 20, energy, 80.0, "mini-1", "cpu")
    row = LedgerRow.of(completion, "python", preference=0.5, outcome="shown")
    assert (row.full_depth_j, row.device) == (2.5, "cpu")
    open_ledger(tmp_path / "ledger.sqlite", notices).add(row)
    assert (row.exit_layers, row.tokens, row.reused_tokens) == ({4: 2, 20: 1}, 3, 5)
    assert all(SECRET.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database at all, but it is long enough to look like one" * 40)
    ledger = open_ledger(path, notices)
    ledger.add(ROW)
    ledger.close()
    assert open_ledger(path, notices).today() == ONE
    (aside,) = tmp_path.glob("ledger.sqlite.damaged-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert len(notices) == 1 and str(aside) in notices[0]


def test_a_home_that_cannot_be_written_is_reported_once_and_totals_go_on_in_memory(
    tmp_path: Path, notices: list[str]
) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    ledger = open_ledger(tmp_path / "home" / "ledger.sqlite", notices)
    ledger.add(ROW)
    ledger.add(ROW)
    assert ledger.today() == TWO
    assert len(notices) == 1 and "ledger.sqlite" in notices[0]


def test_a_ledger_of_a_newer_version_is_left_as_it_is(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    ledger = open_ledger(path, notices)
    ledger.add(ROW)
    assert ledger.today() == ONE
    assert path.read_bytes() == before
    assert len(notices) == 1 and "newer" in notices[0]


def test_writes_that_fail_are_reported_once_and_never_raise(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.close()
    ledger.add(ROW)
    ledger.add(ROW)
    assert ledger.today() == Totals(0.0, 0.0)
    assert len(notices) == 1


def test_rows_wait_for_a_ledger_that_another_process_holds_and_nobody_waits_for_them(
    tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(path, notices)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    tried: list[object] = []
    write = ledger._write

    def counted(query: str, values: tuple[object, ...]) -> sqlite3.Cursor | None:
        tried.append(query)
        return write(query, values)

    monkeypatch.setattr(ledger, "_write", counted)
    first, *others = [ledger.add(ROW) for _ in range(50)]
    assert len(tried) == 1  # the others do not even try
    ledger.settle(first, "accepted", 7)
    assert first < 0 and ledger.rows() == []
    holder.execute("ROLLBACK")
    ledger.close()
    found = open_ledger(path, notices).rows()
    assert [(row.outcome, row.accepted_characters) for row in found] == [("accepted", 7)] + [("shown", 0)] * len(others)
    assert notices == []


def test_an_outcome_waits_for_a_ledger_that_another_process_holds(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(path, notices)
    row = ledger.add(ROW)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ledger.settle(row, "accepted", 7)
    holder.execute("ROLLBACK")
    ledger.close()
    assert [(row.outcome, row.accepted_characters) for row in open_ledger(path, notices).rows()] == [("accepted", 7)]


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("weaker", ["superseded", "shown", "rejected"])
def test_what_was_taken_stays_taken(weaker: str, is_held: bool, tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    holder = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    if is_held:
        holder.execute("BEGIN IMMEDIATE")
    row = ledger.add(ROW)
    for outcome, characters in (("rejected", 0), ("partial", 3), (weaker, 0)):
        ledger.settle(row, outcome, characters)
    holder.close()
    ledger.flush()
    assert [(row.outcome, row.accepted_characters) for row in ledger.rows()] == [("partial", 3)]


def test_a_row_that_has_waited_can_be_settled_later(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(path, notices)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    waiting = ledger.add(ROW)
    holder.execute("ROLLBACK")
    ledger._retry_s = 0.0
    ledger.add(ROW)
    ledger.settle(waiting, "rejected")
    assert [row.outcome for row in ledger.rows()] == ["rejected", "shown"]


def test_rows_that_wait_are_bounded(tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greencode_lsp.energy.ledger.MAX_WAITING", 10)
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    holder = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for _ in range(100):
        ledger.add(ROW)
    holder.execute("ROLLBACK")
    ledger.close()
    assert len(open_ledger(tmp_path / "ledger.sqlite", notices).rows()) == 10


@pytest.mark.skipif(os.name != "posix", reason="modes as POSIX has them")
def test_the_ledger_is_its_owners_alone_whatever_the_umask(tmp_path: Path, notices: list[str]) -> None:
    before = os.umask(0)
    try:
        ledger = open_ledger(tmp_path / "home" / "ledger.sqlite", notices)
        ledger.add(ROW)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600} and len(modes) > 1
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


@pytest.mark.skipif(os.name != "posix", reason="modes as POSIX has them")
def test_a_ledger_that_others_could_read_is_narrowed(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "ledger.sqlite").touch(0o644)
    open_ledger(tmp_path / "ledger.sqlite", notices).add(ROW)
    assert stat.S_IMODE((tmp_path / "ledger.sqlite").stat().st_mode) == 0o600


def test_a_row_has_a_column_for_each_field() -> None:
    assert set(COLUMNS) == {field.name for field in fields(LedgerRow)}


@pytest.mark.parametrize("row", [ROW, AUDIT, replace(ROW, idle_j=0.5, device="cpu", accepted_characters=3)])
def test_a_row_is_read_back_as_it_was_written(row: LedgerRow, tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.add(row)
    assert ledger.rows() == [row]


def test_rows_are_read_from_a_moment_on_the_oldest_first(tmp_path: Path, notices: list[str]) -> None:
    ledger, now = open_ledger(tmp_path / "ledger.sqlite", notices), utc_now()
    rows = [replace(ROW, time_utc=now - timedelta(hours=hours), tokens=hours) for hours in (1, 3, 2)]
    for row in rows:
        ledger.add(row)
    assert [row.tokens for row in ledger.rows(now - timedelta(hours=2))] == [2, 1]


def test_what_became_of_a_completion_is_settled_later(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    first, second = ledger.add(ROW), ledger.add(ROW)
    ledger.settle(second, "partial", accepted_characters=12)
    assert first != second
    assert ledger.rows() == [ROW, replace(ROW, outcome="partial", accepted_characters=12)]


@pytest.mark.parametrize(
    ("outcome", "shown", "accepted"),
    [
        ("shown", 1, 0),
        ("empty", 0, 0),
        ("accepted", 1, 1),
        ("partial", 1, 1),
        ("rejected", 1, 0),
        ("superseded", 0, 0),
        ("cancelled", 0, 0),
    ],
)
def test_todays_counts_follow_the_outcomes(
    outcome: str, shown: int, accepted: int, tmp_path: Path, notices: list[str]
) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.settle(ledger.add(ROW), outcome, 1)
    assert ledger.today() == Totals(2.0, 0.5, completions=1, shown=shown, accepted=accepted)


def test_an_audit_costs_joules_and_is_no_completion(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.add(ROW)
    audit = ledger.add(AUDIT)
    ledger.settle(audit, "accepted", 5)  # an audit has no outcome to settle
    assert ledger.today() == Totals(3.0, -0.5, completions=1, shown=1)
    assert [row.audit for row in ledger.rows()] == [None, Audit(9, 10, 0.98)]


def test_an_audits_row_is_its_completions_with_what_the_audit_took() -> None:
    row = replace(ROW, outcome="accepted", accepted_characters=7, device="cpu")
    found = row.audited(Audit(9, 10, 0.98), EnergyReading(1.5, "attributed", ("cpu",), idle_j=0.5), elapsed_ms=12.0)
    assert (found.model, found.language, found.preference, found.device) == ("mini-1", "python", 0.5, "cpu")
    assert (found.energy_j, found.energy_tier, found.idle_j, found.elapsed_ms) == (1.5, "attributed", 0.5, 12.0)
    assert (found.outcome, found.full_depth_j, found.accepted_characters, found.exit_layers) == ("audit", 0.0, 0, {})
    assert found.audit == Audit(9, 10, 0.98)


def test_todays_tier_is_that_of_the_weakest_row(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.add(replace(ROW, energy_tier="attributed"))
    before = ledger.today().energy_tier
    ledger.add(ROW)
    assert (before, ledger.today().energy_tier) == ("attributed", "modelled")


def test_settling_a_row_that_is_lost_does_nothing(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.add(ROW)
    ledger.settle(0, "accepted", 5)
    ledger.settle(99, "accepted", 5)
    assert ledger.today() == ONE and notices == []


def test_the_rows_written_last_are_kept(tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greencode_lsp.energy.ledger.KEEP_ROWS", 5)
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    for number in range(PRUNE_EVERY + 1):
        ledger.add(replace(ROW, tokens=number))
    assert [row.tokens for row in ledger.rows()] == list(range(PRUNE_EVERY - 4, PRUNE_EVERY + 1))


@pytest.mark.parametrize("days", [400, -400, 100_000])
def test_a_clock_that_is_wrong_deletes_nothing(tmp_path: Path, notices: list[str], days: int) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.add(ROW)
    for _ in range(PRUNE_EVERY + 1):
        ledger.add(replace(ROW, time_utc=utc_now() + timedelta(days=days)))
    assert len(ledger.rows()) == PRUNE_EVERY + 2
    assert ledger.today() == ONE


SCHEMA_1 = """
CREATE TABLE completions (time_utc TEXT NOT NULL, language TEXT NOT NULL, model TEXT NOT NULL, preference REAL NOT NULL,
    tokens INTEGER NOT NULL, exit_layers TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, reused_tokens INTEGER NOT NULL,
    energy_j REAL NOT NULL, energy_tier TEXT NOT NULL, saved_j REAL NOT NULL, elapsed_ms REAL NOT NULL,
    outcome TEXT NOT NULL);
CREATE INDEX completions_by_time ON completions (time_utc);
PRAGMA user_version = 1;
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a ledger as version 1 wrote it, with one row."""
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA_1)
        values = (utc_now().isoformat(timespec="microseconds"), "python", "mini-1", 0.5, 4, '{"4": 3, "20": 1}')
        database.execute(
            "INSERT INTO completions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (*values, 0, 0, 2.0, "modelled", 0.5, 80.0, "shown"),
        )
    database.close()
    return path


def test_a_ledger_of_version_1_is_migrated_with_its_rows(old: Path, notices: list[str]) -> None:
    ledger = open_ledger(old, notices)
    (row,) = ledger.rows()
    assert row == replace(ROW, time_utc=row.time_utc)
    ledger.add(ROW)
    assert ledger.today() == TWO and notices == []


def test_a_migration_that_is_interrupted_is_undone(
    old: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greencode_lsp.energy.ledger_file.FROM_SCHEMA_1", FROM_SCHEMA_1 + "; SELECT no_such_column")
    assert open_ledger(old, notices).rows() == []  # in memory
    assert len(notices) == 1
    monkeypatch.undo()
    assert open_ledger(old, notices).today() == ONE


def test_a_full_disk_is_reported_once_and_rows_go_on_when_there_is_room(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    big = replace(ROW, language="python" * 500)  # a page each
    ledger._database.execute("PRAGMA max_page_count = 5")
    assert any(ledger.add(big) == 0 for _ in range(20))
    assert len(notices) == 1 and "full" in notices[0]
    ledger._database.execute("PRAGMA max_page_count = 1000")
    assert ledger.add(big) > 0


def test_a_disk_that_becomes_read_only_is_reported_once(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    row = ledger.add(ROW)
    ledger._database.execute("PRAGMA query_only = ON")
    assert ledger.add(ROW) == 0
    ledger.settle(row, "accepted", 4)
    assert ledger.today() == ONE
    assert len(notices) == 1 and "readonly" in notices[0]


def test_damage_found_while_in_use_is_set_aside_too(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    first = open_ledger(path, notices)
    for _ in range(200):
        first.add(ROW)
    first.close()
    damage(path)
    ledger = open_ledger(path, notices)
    assert ledger.add(ROW) > 0
    assert ledger.today() == ONE
    (aside,) = tmp_path.glob("ledger.sqlite.damaged-*")
    assert len(notices) == 1 and str(aside) in notices[0]


def damage(path: Path) -> None:
    """Spoil a ledger's rows; the schema's page stays whole, so that it can be opened."""
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))


def test_two_editors_that_see_damage_go_on_in_one_new_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    notices: list[list[str]] = [[], [], []]
    first = open_ledger(path, notices[0])
    for _ in range(200):
        first.add(ROW)
    first.close()
    damage(path)
    ledgers = [open_ledger(path, sentences) for sentences in notices]
    for ledger in (*ledgers, *ledgers):
        assert ledger.add(ROW) > 0
    assert [len(ledger.rows()) for ledger in (*ledgers, open_ledger(path, []))] == [6] * 4
    assert [len(sentences) for sentences in notices] == [1, 0, 0]
    assert len([file for file in tmp_path.glob("*.damaged-*") if not file.name.endswith(("-wal", "-shm"))]) == 1


def test_the_log_of_a_damaged_file_is_kept_with_it(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    other = open_ledger(path, notices)
    other.add(ROW)
    other._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.add(replace(ROW, model="the last row"))  # in the log alone
    with path.open("r+b") as file:
        file.write(b"no database")
    assert open_ledger(path, notices).add(ROW) > 0
    (log,) = tmp_path.glob("ledger.sqlite.damaged-*-wal")
    assert b"the last row" in log.read_bytes()


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from greencode_lsp.energy.ledger import Ledger
from tests.test_energy_ledger import ROW
ledger = Ledger(Path(sys.argv[1]), print)
for number in range(int(sys.argv[2])):
    ledger.add(replace(ROW, tokens=number))
    print(number, flush=True)
"""


def start_writer(path: Path, rows: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(rows)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("killed_after", [1, 333, 800])
def test_a_kill_during_a_thousand_writes_loses_at_most_the_last_row(
    killed_after: int, tmp_path: Path, notices: list[str]
) -> None:
    path = tmp_path / "ledger.sqlite"
    with start_writer(path, 1000) as writer:
        assert writer.stdout is not None
        for _ in range(killed_after):
            writer.stdout.readline()
        writer.kill()
        acknowledged = killed_after + len(writer.stdout.read().splitlines())
    kept = [row.tokens for row in open_ledger(path, notices).rows()]
    assert kept == list(range(len(kept)))
    assert acknowledged - 1 <= len(kept) <= acknowledged + 1
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert notices == []


def test_processes_write_in_turn_while_others_read(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    reader = open_ledger(path, notices)
    with start_writer(path, 100) as one, start_writer(path, 100) as other:
        assert one.stdout is not None
        for line in one.stdout:
            assert len(reader.rows()) > int(line)
        other.wait()
    assert len(reader.rows()) == 200 and notices == []


def test_a_report_of_no_ledger_has_no_rows_and_makes_no_file(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "ledger.sqlite") == []
    assert list(tmp_path.iterdir()) == []


def newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")


def no_database(path: Path) -> None:
    path.write_bytes(b"no database" * 100)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (newer, r"newer greencode-lsp\); update greencode-lsp\.$"),
        (no_database, r"not a database\); the next suggestion .* sets it aside"),
        (Path.mkdir, r"make it readable for you\.$"),
    ],
    ids=["newer", "damaged", "no file"],
)
def test_a_ledger_that_a_report_cannot_read_is_left_as_it_is_and_reported_with_the_fix(
    spoil: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.sqlite"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LedgerError, match=sentence):
        read_rows(path)
    assert list(tmp_path.iterdir()) == [path]
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_report_reads_a_ledger_of_version_1_and_does_not_migrate_it(old: Path) -> None:
    before = old.read_bytes()
    (row,) = read_rows(old)
    assert row == replace(ROW, time_utc=row.time_utc)
    assert old.read_bytes() == before


def test_a_report_reads_what_an_open_ledger_has_written(tmp_path: Path, notices: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", notices)
    ledger.add(ROW)
    assert read_rows(tmp_path / "ledger.sqlite") == [ROW] == ledger.rows()


def test_a_report_reads_a_ledger_in_a_folder_that_lets_no_log_be_made(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(path, notices)
    ledger.add(ROW)
    ledger.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").mkdir()  # in the way of root too
    assert read_rows(path) == [ROW]


def test_the_fix_of_a_newer_ledger_is_an_update(tmp_path: Path, notices: list[str]) -> None:
    newer(tmp_path / "ledger.sqlite")
    open_ledger(tmp_path / "ledger.sqlite", notices)
    assert notices[0].endswith("update greencode-lsp to keep your totals.")

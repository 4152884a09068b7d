"""The ledger: totals, privacy, and what it does when the disk is against it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from greencode_lsp.energy.ledger import Ledger, LedgerRow, Totals, utc_now
from greencode_lsp.records import Completion, EnergyReading, Step, Work

ROW = LedgerRow(
    language="python",
    model="mini-1",
    preference=0.5,
    tokens=4,
    energy_j=2.0,
    energy_tier="modelled",
    saved_j=0.5,
    elapsed_ms=80.0,
    exit_layers={4: 3, 20: 1},
)
SECRET = "the_source_text_of_the_user"


@pytest.fixture
def told() -> list[str]:
    return []


def open_ledger(path: Path, told: list[str]) -> Ledger:
    return Ledger(path, told.append)


def test_today_is_the_sum_of_todays_rows(tmp_path: Path, told: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", told)
    ledger.add(ROW)
    ledger.add(replace(ROW, energy_j=3.0, saved_j=-0.25))
    assert ledger.today() == Totals(energy_j=5.0, saved_j=0.25)
    assert told == []


def test_an_empty_ledger_totals_zero(tmp_path: Path, told: list[str]) -> None:
    assert open_ledger(tmp_path / "ledger.sqlite", told).today() == Totals(0.0, 0.0)


def test_yesterdays_rows_are_not_todays(tmp_path: Path, told: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", told)
    ledger.add(replace(ROW, time_utc=utc_now() - timedelta(days=1)))
    assert ledger.today() == Totals(0.0, 0.0)


def test_rows_outlive_the_process(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "a" / "new" / "home" / "ledger.sqlite"
    first = open_ledger(path, told)
    first.add(ROW)
    first.close()
    assert open_ledger(path, told).today() == Totals(2.0, 0.5)


def test_two_editors_share_one_ledger(tmp_path: Path, told: list[str]) -> None:
    one, other = (open_ledger(tmp_path / "ledger.sqlite", told) for _ in range(2))
    one.add(ROW)
    other.add(ROW)
    assert one.today() == other.today() == Totals(4.0, 1.0)


def test_the_ledger_keeps_a_write_ahead_log(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    open_ledger(path, told)
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_row_holds_the_exit_layers_as_a_histogram(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    open_ledger(path, told).add(ROW)
    assert sqlite3.connect(path).execute("SELECT exit_layers FROM completions").fetchone() == ('{"4": 3, "20": 1}',)


def test_no_source_text_reaches_the_disk(tmp_path: Path, told: list[str]) -> None:
    energy = EnergyReading(2.0, "modelled", ("cpu",), 0.5)
    steps = (Step(7, 4), Step(8, 20), Step(9, 4))
    completion = Completion(SECRET, steps, Work(prompt_tokens=9, reused_tokens=5), 20, energy, 80.0, "mini-1", "cpu")
    row = LedgerRow.of(completion, "python", preference=0.5, outcome="shown")
    open_ledger(tmp_path / "ledger.sqlite", told).add(row)
    assert (row.exit_layers, row.tokens, row.reused_tokens) == ({4: 2, 20: 1}, 3, 5)
    assert all(SECRET.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database at all, but it is long enough to look like one" * 40)
    ledger = open_ledger(path, told)
    ledger.add(ROW)
    ledger.close()
    assert open_ledger(path, told).today() == Totals(2.0, 0.5)
    (aside,) = tmp_path.glob("ledger.sqlite.damaged-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert len(told) == 1 and str(aside) in told[0]


def test_a_home_that_cannot_be_written_is_told_once_and_totals_go_on_in_memory(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    ledger = open_ledger(tmp_path / "home" / "ledger.sqlite", told)
    ledger.add(ROW)
    ledger.add(ROW)
    assert ledger.today() == Totals(4.0, 1.0)
    assert len(told) == 1 and "ledger.sqlite" in told[0]


def test_a_ledger_of_a_newer_version_is_left_as_it_is(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    ledger = open_ledger(path, told)
    ledger.add(ROW)
    assert ledger.today() == Totals(2.0, 0.5)
    assert path.read_bytes() == before
    assert len(told) == 1 and "newer" in told[0]


def test_writes_that_fail_are_told_once_and_never_raise(tmp_path: Path, told: list[str]) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", told)
    ledger.close()
    ledger.add(ROW)
    ledger.add(ROW)
    assert ledger.today() == Totals(0.0, 0.0)
    assert len(told) == 1


def test_a_ledger_locked_by_another_process_is_told_and_does_not_wait_long(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(path, told)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ledger.add(ROW)
    holder.execute("ROLLBACK")
    ledger.add(ROW)
    assert ledger.today() == Totals(2.0, 0.5)
    assert len(told) == 1 and "locked" in told[0]

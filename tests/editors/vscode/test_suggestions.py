"""Laws of one window: suggestions, the status bar, commands, and files that are not completed."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.editors.vscode.build import Script
from tests.editors.vscode.conftest import Desk
from tests.editors.vscode.workbench import Window, eventually

SUGGESTION = "first_value + second_value"
Edit = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def desk(make_desk: Any) -> Desk:
    made: Desk = make_desk({})
    return made


@pytest.fixture(scope="module")
def server(desk: Desk) -> Script:
    """Return the script of the window's server."""
    return Script(desk.home / "fixed" / "greencode-lsp")


@pytest.fixture(scope="module")
def shared_window(desk: Desk) -> Window:
    """Return one window, its server ready."""
    window = desk.window(desk.workspace("shared", {}))
    window.status("ready")
    return window


@pytest.fixture
def window(shared_window: Window, tmp_path: Path) -> Iterator[Window]:
    """Return the shared window; leave a picture of it, for a test that fails."""
    yield shared_window
    shared_window.page.screenshot(path=str(tmp_path / "window.png"))
    shared_window.press("Escape", "Escape")  # whatever a failed test left open


@pytest.fixture
def edit(window: Window, desk: Desk) -> Edit:
    """Return a function that writes a file into the workspace and opens it."""

    def write_and_open(name: str, text: str) -> Path:
        file = desk.home / "shared" / name
        file.write_text(text, encoding="utf8")
        window.edit(file)
        return file

    return write_and_open


@pytest.fixture
def ledger(desk: Desk) -> Callable[[str], list[Any]]:
    """Return a function that reads one column of the ledger, oldest first."""

    def read(column: str) -> list[Any]:
        with sqlite3.connect(desk.home / "greencode" / "ledger.sqlite") as database:
            return [value for (value,) in database.execute(f"SELECT {column} FROM completions ORDER BY rowid")]

    return read


def saved(window: Window, file: Path, text: str) -> None:
    """Save, and wait until the file holds the text."""
    window.press("Control+s")
    eventually(lambda: file.read_text(encoding="utf8") == text, f"{file} never held {text!r}")


@dataclass(frozen=True, slots=True)
class Sample:
    """A file before and after: what is typed, and what is suggested, its first word apart."""

    name: str
    comment: str
    typed: str
    word: str
    rest: str


PYTHON = Sample("word.py", "# sums\n", "total = ", "first_value", " + second_value")
JAVA = Sample("Word.java", "// sums\n", "int total = ", "firstValue", " + secondValue;")


@pytest.mark.parametrize("sample", [PYTHON, JAVA], ids=["python", "java"])
def test_a_suggestion_is_taken_by_word_then_whole_and_saved(window: Window, edit: Edit, sample: Sample) -> None:
    file = edit(sample.name, sample.comment)
    window.type(sample.typed)
    assert window.ghost_text() == sample.word + sample.rest
    window.press("Control+ArrowRight")
    assert window.ghost_text(f"^(?!{sample.word})").strip() == sample.rest.strip()
    window.press("Tab")
    window.no_ghost_text()
    saved(window, file, sample.comment + sample.typed + sample.word + sample.rest)


def test_text_typed_along_keeps_the_suggestion(window: Window, edit: Edit) -> None:
    edit("along.py", "# sums\n")
    window.type("total = ")
    assert window.ghost_text() == SUGGESTION
    window.type("first_")
    assert window.ghost_text("^value") == SUGGESTION.removeprefix("first_")


def test_escape_takes_nothing(window: Window, edit: Edit) -> None:
    file = edit("escape.py", "# sums\n")
    window.type("total = ")
    window.ghost_text()
    window.press("Escape")
    window.no_ghost_text()
    saved(window, file, "# sums\ntotal = ")


def test_the_status_bar_tells_the_joules_saved_today(
    window: Window, edit: Edit, ledger: Callable[[str], list[Any]]
) -> None:
    before = window.status("saved").split(",")[1]
    edit("joules.py", "# sums\n")
    window.type("total = ")
    window.ghost_text()
    saved = window.status(f"^GreenCode,(?!{re.escape(before)},).* J saved").split(",")[1]
    assert float(saved.split()[0]) == pytest.approx(sum(ledger("full_depth_j - energy_j")), rel=0.01)


def test_a_suggestion_taken_whole_is_reported_to_the_server(
    window: Window, edit: Edit, ledger: Callable[[str], list[Any]]
) -> None:
    before = ledger("outcome").count("accepted")
    edit("taken.py", "# sums\n")
    window.type("total = ")
    window.ghost_text()
    window.press("Tab")
    eventually(lambda: ledger("outcome").count("accepted") == before + 1, "no suggestion was booked as accepted")


def test_the_chosen_preference_rules_the_next_suggestion(
    window: Window, edit: Edit, ledger: Callable[[str], list[Any]]
) -> None:
    window.status("preference balanced")
    window.command("GreenCode: Choose Accuracy or Energy")
    costs = window.choose("energy")
    assert "60 % of full depth" in costs and "90 % of the tokens" in costs
    window.status("preference energy")
    edit("preference.py", "# sums\n")
    window.type("total = ")
    window.ghost_text()
    eventually(lambda: ledger("preference")[-1] == 0.0, "the ledger knows another preference")
    window.command("GreenCode: Choose Accuracy or Energy")
    window.choose("balanced")
    window.status("preference balanced")


def test_a_preference_can_be_kept_in_the_settings(window: Window, desk: Desk) -> None:
    settings = desk.home / "data" / "User" / "settings.json"
    for name in ("energy", "balanced"):
        window.command("GreenCode: Choose Accuracy or Energy")
        window.press_button(name, "Keep in the user settings")
        window.status(f"preference {name}")
        assert json.loads(settings.read_text(encoding="utf8"))["greencode.preference"] == name


def test_a_file_that_is_turned_to_again_is_read_in_advance(
    window: Window, edit: Edit, ledger: Callable[[str], list[Any]]
) -> None:
    window.command("GreenCode: Choose Accuracy or Energy")
    window.choose("accuracy")
    window.status("preference accuracy")
    unasked = ledger("outcome").count("superseded")
    for count, name in enumerate(("again.py", "between.py"), 1):
        edit(name, "# sums\n")
        window.type("total = ")
        window.ghost_text()
        eventually(lambda: ledger("outcome").count("superseded") == unasked + count, "what follows was not computed")  # noqa: B023 - asked at once
    before = len(ledger("outcome"))
    window.command("View: Open Previous Editor")
    eventually(lambda: len(ledger("outcome")) == before + 1, "nothing was read in advance")
    window.command("GreenCode: Choose Accuracy or Energy")
    window.choose("balanced")
    window.status("preference balanced")


def test_paused_means_no_work(window: Window, edit: Edit, ledger: Callable[[str], list[Any]]) -> None:
    edit("paused.py", "# sums\n")
    window.command("GreenCode: Pause Suggestions")
    window.status("paused")
    before = len(ledger("outcome"))
    window.type("total = ")
    window.command("Trigger Inline Suggestion")
    window.command("GreenCode: Resume Suggestions")
    window.status("ready")
    window.no_ghost_text()
    assert len(ledger("outcome")) == before
    window.command("Trigger Inline Suggestion")
    assert window.ghost_text() == SUGGESTION


def test_the_report_is_a_page_without_scripts(window: Window) -> None:
    window.command("GreenCode: Show Energy Report")
    window.choose("Today")
    page = window.page.frame_locator("iframe.webview.ready").frame_locator("#active-frame")
    page.locator("body", has_text="J").wait_for()
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").first.get_attribute("content")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert page.locator("script:not([nonce])").count() == 0
    window.press("Control+w")


def test_the_doctor_runs_in_a_terminal(window: Window, server: Script) -> None:
    window.command("GreenCode: Run Doctor")
    eventually(lambda: any(start.endswith(" doctor") for start in server.starts), "the doctor was not called")
    window.page.wait_for_selector(".terminal-wrapper.active")


def test_another_provider_neither_doubles_the_ghost_text_nor_takes_the_tab_key(window: Window, edit: Edit) -> None:
    file = edit("neighbour.py", "# sums\n")
    window.type("total = ")
    shown = window.ghost_text()
    assert shown in ("neighbour", SUGGESTION)
    window.press("Tab")
    window.no_ghost_text()
    saved(window, file, f"# sums\ntotal = {shown}")
    window.press("Enter", "Tab")
    window.type("x")
    saved(window, file, f"# sums\ntotal = {shown}\n    x")


@pytest.mark.parametrize(
    ("name", "size", "mode", "reason"),
    [("large.py", 5_100_000, 0o644, "larger than 5 MB"), ("locked.py", 10, 0o444, "read-only")],
    ids=["large", "read-only"],
)
def test_a_file_that_is_not_completed_says_why_in_the_status_alone(
    window: Window, desk: Desk, name: str, size: int, mode: int, reason: str
) -> None:
    file = desk.home / "shared" / name
    file.write_text(f"# {'x' * 97}\n" * (size // 100) + "\n", encoding="utf8")
    file.chmod(mode)
    window.edit(file)
    window.status(reason)
    window.type("total = ")
    window.command("Trigger Inline Suggestion")
    window.no_ghost_text()
    assert not [message for message in window.messages() if reason in message]


def test_a_file_that_is_on_no_disk_says_so(window: Window) -> None:
    window.command("Neighbour: Open Memory")
    window.at_end_of("memory.py")
    assert window.status("Only files on this machine's disk").endswith("memory:")


def test_a_killed_server_is_started_again(window: Window, edit: Edit, server: Script) -> None:
    before = server.served
    os.kill(before[-1], signal.SIGKILL)
    eventually(lambda: len(server.served) > len(before), "no server was started again")
    window.status("ready")
    edit("killed.py", "# sums\n")
    window.type("total = ")
    assert window.ghost_text() == SUGGESTION


def test_restarts_leave_one_server(window: Window, server: Script) -> None:
    before = len(server.served)
    window.command("GreenCode: Restart Server")
    window.command("GreenCode: Restart Server")
    eventually(lambda: len(server.served) > before, "no server was started")
    window.status("ready")
    eventually(lambda: sum(map(_is_alive, server.served)) == 1, "there is not exactly one server")


def _is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

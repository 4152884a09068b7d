"""The Neovim plugin around its server: commands, statusline, which buffers get it, what happens when it ends."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.editors.cache import ROOT
from tests.editors.neovim_session import BUNDLED_SERVER, FAKE_SERVER, PLUGIN, Neovim, neovim, quote

HEAD = "def append_items(items, value):\n"
"""The beginning of what the fake model knows by heart."""
WRITER = """import csv


def write_rows(path, rows):
    with open(path, "w") as handle:
        writer = csv.wri
"""


# :GreenCode, statusline, report


def test_preference_pause_and_resume_are_sent_as_commands(editor: Neovim) -> None:
    for line in ("preference energy", "preference 0.25", "pause", "resume"):
        editor.command(f"GreenCode {line}")
    wanted = [
        ["greencode.setPreference", ["energy"]],
        ["greencode.setPreference", [0.25]],
        ["greencode.pause", []],
        ["greencode.resume", []],
    ]
    editor.wait(lambda: editor.lua("return #server.commands") == 4, "all were sent")
    assert editor.lua("return server.commands") == wanted


def test_preference_without_a_value_lets_choose_with_what_each_costs(editor: Neovim) -> None:
    editor.lua(
        """
        server.notify('greencode/status', { state = 'ready', model = 'small-1', preference = 0.5,
          choices = { { name = 'accuracy', preference = 1, cost_ratio = 1, agreement = 1 },
                      { name = 'energy', preference = 0, cost_ratio = 0.66, agreement = 0.882 } } })
        vim.ui.select = function(items, options, done)
          _G.offered = vim.tbl_map(options.format_item, items)
          done(items[2])
        end
        """
    )
    editor.command("GreenCode preference")
    editor.wait(lambda: editor.lua("return server.commands") == [["greencode.setPreference", ["energy"]]], "chosen")
    assert editor.lua("return _G.offered") == [
        "accuracy: 100 % of the cost of full depth, 100.0 % of its tokens",
        "energy: 66 % of the cost of full depth, 88.2 % of its tokens",
    ]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("GreenCode ", ["doctor", "pause", "preference", "pull", "report", "resume"]),
        ("GreenCode p", ["pause", "preference", "pull"]),
        ("GreenCode preference ", ["accuracy", "balanced", "energy"]),
        ("GreenCode report w", ["week"]),
    ],
)
def test_the_command_completes_its_words(editor: Neovim, line: str, wanted: list[str]) -> None:
    assert editor.nvim.funcs.getcompletion(line, "cmdline") == wanted


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ({"state": "loading", "model": "bundled", "preference": 0.5}, "greencode loading"),
        ({"state": "paused", "model": "small-1", "preference": 0.5}, "greencode paused"),
        ({"state": "failed", "model": "small-1", "preference": 0.5}, "greencode failed"),
        ({"state": "ready", "model": "small-1", "preference": 0.5}, "greencode"),
        ({"state": "ready", "today": {"energy_j": 1.0, "saved_j": 0.256}}, "greencode ~0.26 J saved today"),
        ({"state": "ready", "today": {"energy_j": 1.0, "saved_j": -12.34}}, "greencode ~-12.3 J saved today"),
        ({"state": "ready", "today": {"energy_j": 1.0, "saved_j": 123.4}}, "greencode ~123 J saved today"),
        ({"state": "ready", "today": {"energy_j": 1.0, "saved_j": 12345}}, "greencode ~12.3 kJ saved today"),
    ],
)
def test_the_statusline_tells_the_state_and_the_joules_saved(editor: Neovim, status: dict[str, Any], line: str) -> None:
    editor.lua("server.notify('greencode/status', ...)", status)
    assert editor.lua("return require('greencode').statusline()") == line


def test_the_statusline_is_empty_where_no_server_is_attached(editor: Neovim) -> None:
    editor.open("", "notes.txt", attached=False)
    assert editor.lua("return require('greencode').statusline()") == ""


def test_the_page_of_the_report_is_opened_by_the_browser(editor: Neovim) -> None:
    editor.lua(
        """
        server.replies['greencode/report'] = { energy_j = 12.5, html = '<p>12.5 J</p>' }
        vim.ui.open = function(path) _G.opened = vim.fn.readfile(path) end
        """
    )
    editor.command("GreenCode report html week")
    assert editor.wait(lambda: editor.lua("return _G.opened"), "the page is opened") == ["<p>12.5 J</p>"]


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("doctor", ["doctor"]),
        ("report", ["energy", "today", "--carbon-intensity", "30"]),
        ("report week", ["energy", "week", "--carbon-intensity", "30"]),
    ],
)
@pytest.mark.parametrize("exit_code", [0, 1])
def test_report_and_doctor_show_in_a_split_what_the_servers_program_prints(
    neovim_executable: Path, tmp_path: Path, line: str, arguments: list[str], exit_code: int
) -> None:
    program = f"import sys; print('asked for', sys.argv[1:]); sys.exit({exit_code})"
    command = quote([sys.executable, "-c", program, "--stdio"])
    setup = f"require('greencode').setup({{ cmd = {command}, settings = {{ energy = {{ carbonIntensity = 30 }} }} }})"
    with neovim(neovim_executable, tmp_path, setup) as editor:
        editor.command(f"GreenCode {line}")
        editor.wait_text(f"asked for {arguments}")
        assert not editor.nvim.current.buffer.options["modifiable"]


def test_greencode_alone_tells_the_state_and_what_the_last_completion_cost(editor: Neovim) -> None:
    last = {"energy_j": 0.123, "energy_tier": "modelled", "elapsed_ms": 41.6}
    today = {"energy_j": 20, "saved_j": 5, "energy_tier": "attributed"}
    status = {"state": "ready", "model": "small-1", "device": "cpu", "preference": 0.5, "last": last, "today": today}
    editor.lua("server.notify('greencode/status', ...)", {**status, "reason": "It is getting late."})
    editor.command("GreenCode")
    assert editor.notices == [
        "greencode: State ready, model small-1 on cpu, preference 0.5. It is getting late. "
        "Last completion: 0.12 J (modelled), 42 ms. "
        "Today: 20.0 J used (attributed), 5.00 J saved against full depth (modelled)."
    ]


# which buffers


@pytest.mark.parametrize(
    ("opened", "reason"),
    [
        ("view sample.py", "it cannot be changed"),
        ("enew | setlocal nomodifiable | setfiletype python", "it cannot be changed"),
        ("enew | setlocal buftype=nofile | setfiletype python", "it is not a file"),
        ("enew | noautocmd file https://host/sample.py | setfiletype python", "it is not on this machine"),
        ("edit large.py", "it is larger than 5 MB"),
    ],
    ids=["read-only", "not modifiable", "special", "remote", "large"],
)
def test_a_buffer_that_is_not_for_writing_code_gets_no_server(editor: Neovim, opened: str, reason: str) -> None:
    editor.open("", "notes.txt", attached=False)
    (editor.files / "large.py").write_text("x = 1\n" * 900_000)
    editor.command(f"cd {editor.files} | {opened}")
    refused = editor.nvim.current.buffer.number
    editor.command("split allowed.py")
    editor.wait_attached()  # later than the other would have been
    assert editor.clients(f"{{ bufnr = {refused} }}") == 0
    assert editor.lua("return require('greencode.server').refusal(...)", refused) == reason


def test_two_projects_share_one_server_that_knows_both_folders(editor: Neovim) -> None:
    for name in ("one", "two"):
        (editor.files / name / ".git").mkdir(parents=True, exist_ok=True)
    editor.type("<Esc>")
    for name in ("one", "two"):
        editor.command(f"edit! {editor.files / name / 'sample.py'}")
        editor.wait_attached()
    folders = editor.lua("return vim.lsp.get_clients()[1].workspace_folders")
    assert editor.clients() == 1
    assert {str(editor.files / "one"), str(editor.files / "two")} <= {folder["name"] for folder in folders}


# a server that is missing, ends, or comes back


def test_a_missing_server_is_reported_once_with_how_to_install_it(neovim_executable: Path, tmp_path: Path) -> None:
    setup = "require('greencode').setup({ cmd = { 'greencode-lsp-that-is-missing', '--stdio' } })"
    with neovim(neovim_executable, tmp_path, setup) as editor:
        for name in ("one.py", "two.py"):
            editor.open("", name, attached=False)
        [sentence] = editor.notices
        assert "greencode-lsp-that-is-missing was not found" in sentence
        assert f"pip install {ROOT}" in sentence
        editor.command("checkhealth greencode")
        assert "was not found" in editor.text


def test_a_server_that_crashes_at_start_is_reported_once_with_its_log(neovim_executable: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; sys.exit('the reason of the crash')"]
    setup = f"require('greencode').setup({{ cmd = {quote(program)} }})"
    with neovim(neovim_executable, tmp_path, setup) as editor:
        editor.open("", "one.py", attached=False)
        editor.wait(lambda: editor.notices, "the crash is reported")
        for name in ("two.py", "three.py"):
            editor.open("", name, attached=False)
        line = editor.wait(lambda: editor.lua("return require('greencode').statusline()"), "the statusline tells it")
        assert line == "greencode stopped"
        [sentence] = editor.notices
        log = Path(sentence.rpartition(": ")[2])
        assert "the reason of the crash" in log.read_text()
        editor.command("checkhealth greencode")
        assert "stays off" in editor.text
        assert str(log) in editor.text


def test_a_program_that_is_no_server_is_reported_once(neovim_executable: Path, tmp_path: Path) -> None:
    setup = f"require('greencode').setup({{ cmd = {quote([sys.executable, '-c', ''])} }})"
    with neovim(neovim_executable, tmp_path, setup) as editor:
        for name in ("one.py", "two.py"):
            editor.open("", name, attached=False)
            editor.wait(lambda: editor.notices, "the end is reported")
        assert len(editor.notices) == 1


def test_a_killed_server_comes_back_once_and_after_that_on_wish(neovim_executable: Path, tmp_path: Path) -> None:
    setup = f"require('greencode').setup({{ cmd = {quote(FAKE_SERVER)} }})"
    with neovim(neovim_executable, tmp_path, setup) as editor:
        editor.open(HEAD)
        editor.wait_status(state="ready")
        kill(editor)
        editor.wait_status(state="ready")
        editor.type("Gofor item ")
        editor.wait_ghost("in items:")
        editor.type("<Esc>")
        kill(editor)
        editor.wait(lambda: "stopped" in editor.lua("return require('greencode').statusline()"), "it stays off")
        assert editor.clients() == 0
        editor.command("GreenCode resume")
        editor.wait_status(state="ready")
        editor.type("a")
        editor.wait_ghost("in items:")


def kill(editor: Neovim) -> None:
    """Kill the server, and wait until Neovim knows."""
    identity = "vim.lsp.get_clients({ name = 'greencode' })[1].id"
    before = editor.lua(f"return {identity}")
    [process] = editor.lua("return vim.api.nvim_get_proc_children(vim.fn.getpid())")
    os.kill(process, signal.SIGKILL)
    editor.wait(lambda: editor.lua("return vim.lsp.get_client_by_id(...) == nil", before), "the client is gone")


# the real server


def test_settings_of_setup_reach_the_server(real: Neovim) -> None:
    real.open(HEAD)
    real.wait_status(state="ready", preference=1.0)
    assert real.notices == []


def test_the_real_servers_suggestion_appears_and_tab_accepts_it(real: Neovim) -> None:
    real.open(HEAD)
    real.type("Gofor item ")
    real.wait_ghost("in items:")
    real.type("<Tab><CR>resu")
    real.wait_ghost("lt.append(item)")
    real.type("<Tab>")
    real.wait_text(HEAD + "    for item in items:\n        result.append(item)")
    real.wait(lambda: real.lua("return require('greencode').statusline()") == "greencode ~0.00 J saved today", "joules")


def test_the_real_server_obeys_the_preference(real: Neovim) -> None:
    real.open(HEAD)
    real.command("GreenCode preference energy")
    real.wait_status(state="ready", preference=0.0)
    real.command("GreenCode preference 0.25")
    real.wait_status(state="ready", preference=0.25)
    real.command("GreenCode preference nonsense")
    # window/showMessage: by vim.notify from 0.12 on, before that as a message
    real.wait(
        lambda: "nonsense" in str(real.notices) + real.nvim.command_output("messages"), "the bad value is reported"
    )
    assert real.lua("return require('greencode.server').wishes.preference") == 0.25
    real.command("GreenCode preference accuracy")
    real.wait_status(preference=1.0)


def test_the_real_server_suggests_nothing_while_paused(real: Neovim) -> None:
    real.open(HEAD)
    real.command("GreenCode pause")
    real.wait_status(state="paused")
    assert real.lua("return require('greencode').statusline()") == "greencode paused"
    real.type("Gofor item ")
    real.wait_text(HEAD + "    for item ")
    real.type("<Esc>")
    real.command("GreenCode resume")
    real.wait_status(state="ready")
    assert real.ghost == ""
    real.type("a")
    real.wait_ghost("in items:")


def test_a_preference_and_a_pause_outlive_the_server(neovim_executable: Path, tmp_path: Path) -> None:
    setup = f"require('greencode').setup({{ cmd = {quote(FAKE_SERVER)} }})"
    with neovim(neovim_executable, tmp_path, setup) as editor:
        editor.open(HEAD)
        editor.wait_status(state="ready")
        editor.command("GreenCode preference energy")
        editor.wait_status(preference=0.0)
        editor.command("GreenCode pause")
        editor.wait_status(state="paused")
        kill(editor)
        editor.wait_status(state="paused", preference=0.0)


def test_the_real_server_makes_the_page_of_the_report(real: Neovim) -> None:
    real.open(HEAD)
    real.lua("vim.ui.open = function(path) _G.opened = vim.fn.readfile(path) end")
    real.command("GreenCode report html all")
    page = "\n".join(real.wait(lambda: real.lua("return _G.opened"), "the page is opened"))
    assert page.lower().startswith("<!doctype html")


def test_checkhealth_tells_of_neovim_the_server_and_the_buffer(real: Neovim) -> None:
    real.open(HEAD)
    real.wait_status(state="ready")
    real.command("checkhealth greencode")
    for words in ("ghost text by", "State ready, model fake-1", "It is running", "sample.py gets sugg"):
        assert words in real.text


def test_vim_lsp_enable_alone_starts_the_command_on_path(neovim_executable: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin/greencode-lsp"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec {shlex.join(FAKE_SERVER)}\n")
    program.chmod(0o755)
    enable = "if vim.lsp.enable then vim.lsp.enable('greencode') else require('greencode').setup() end"
    setup = f"vim.env.PATH = '{program.parent}:' .. vim.env.PATH\n{enable}"
    with neovim(neovim_executable, tmp_path / "nvim", setup) as editor:
        editor.open(HEAD)
        editor.type("Gofor item ")
        editor.wait_ghost("in items:")
        assert editor.notices == []


def test_setup_after_a_file_was_opened_starts_the_server_for_it(neovim_executable: Path, tmp_path: Path) -> None:
    with neovim(neovim_executable, tmp_path, "") as editor:
        editor.open(HEAD, attached=False)
        editor.lua("require('greencode').setup({ cmd = ... })", [*FAKE_SERVER])
        editor.wait_attached()


def test_the_bundled_models_suggestion_appears_and_tab_accepts_it(neovim_executable: Path, tmp_path: Path) -> None:
    setup = f"require('greencode').setup({{ cmd = {quote(BUNDLED_SERVER)} }})"
    with neovim(neovim_executable, tmp_path, setup) as editor:
        editor.open(WRITER, attached=True)
        editor.wait_status(state="ready")
        editor.type("GA")
        ghost = editor.wait_ghost()
        editor.type("<Tab>")
        editor.wait_text(WRITER.rstrip("\n") + ghost)
        status = editor.wait_status(state="ready")
        assert status["model"] == "small-1"
        assert editor.lua("return require('greencode').statusline()").endswith("J saved today")
        assert editor.notices == []


def test_the_help_has_a_tag_for_every_word_of_the_plugin(neovim_executable: Path, tmp_path: Path) -> None:
    shutil.copytree(PLUGIN / "doc", tmp_path / "help/doc")
    with neovim(neovim_executable, tmp_path / "nvim", "") as editor:
        editor.command(f"helptags {tmp_path / 'help/doc'}")
        editor.command(f"set runtimepath^={tmp_path / 'help'}")
        names = editor.lua("return vim.tbl_keys(require('greencode'))")
        for tag in ("greencode", ":GreenCode", "greencode-setup", *(f"greencode.{name}()" for name in names)):
            editor.command(f"help {tag}")
            assert editor.nvim.current.buffer.name.endswith("greencode.txt"), tag
            editor.command("close")

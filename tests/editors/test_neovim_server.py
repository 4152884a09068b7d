"""The Neovim plugin around its server: commands, statusline, which buffers, missing, crashing, killed. Each version in the cache."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.editors.cache import ROOT
from tests.editors.neovim_session import BUNDLED_SERVER, FAKE_SERVER, PLUGIN, SCRIPTED, Neovim, neovim, quote


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
        server.notify('greencode/status', { state = 'ready', model = 'mini-2', preference = 0.5,
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
        ("GreenCode ", ["doctor", "pause", "preference", "report", "resume"]),
        ("GreenCode p", ["pause", "preference"]),
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
        ({"state": "paused", "model": "mini-2", "preference": 0.5}, "greencode paused"),
        ({"state": "failed", "model": "mini-2", "preference": 0.5}, "greencode failed"),
        ({"state": "ready", "model": "mini-2", "preference": 0.5}, "greencode"),
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


def test_the_report_opens_in_a_split_and_as_a_page(editor: Neovim) -> None:
    editor.lua(
        """
        server.replies['greencode/report'] = { energy_j = 12.5, html = '<p>12.5 J</p>' }
        vim.ui.open = function(path) _G.opened = vim.fn.readfile(path) end
        """
    )
    editor.type("<Esc>")
    editor.command("GreenCode report week")
    editor.wait(lambda: "12.5" in editor.text, "the report is shown")
    assert "week" in editor.text
    assert "<p>" not in editor.text
    assert not editor.nvim.current.buffer.options["modifiable"]
    editor.command("close")
    editor.command("GreenCode report html")
    assert editor.wait(lambda: editor.lua("return _G.opened"), "the page is opened") == ["<p>12.5 J</p>"]


# which buffers


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("view sample.py", "it cannot be changed"),
        ("edit sample.py | setlocal nomodifiable | setfiletype python", "it cannot be changed"),
        ("new | setlocal buftype=nofile | setfiletype python", "it is not a file"),
        ("enew | file https://host/sample.py | setfiletype python", "it is not on this machine"),
        ("edit large.py", "it is larger than 5 MB"),
    ],
    ids=["read-only", "not modifiable", "special", "remote", "large"],
)
def test_a_buffer_that_is_not_for_writing_code_gets_no_server(editor: Neovim, prepare: str, reason: str) -> None:
    editor.open("", "notes.txt", attached=False)
    (editor.files / "large.py").write_text("x = 1\n" * 900_000)
    editor.command(f"cd {editor.files}")
    if "https" not in prepare:
        editor.command(prepare)
    else:
        editor.lua("vim.g.loaded_netrwPlugin = 1; vim.g.loaded_nvim_net_plugin = 1")
        editor.command(prepare)
    if "nomodifiable" in prepare:
        editor.lua("vim.lsp.buf_detach_client(0, vim.lsp.get_clients({ name = 'greencode', bufnr = 0 })[1].id)") if (
            editor.clients("{ bufnr = 0, name = 'greencode' }")
        ) else None
    assert editor.lua("return require('greencode.server').refusal(0)") == reason

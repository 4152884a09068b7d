"""Laws of the package that users install."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import greencode_lsp
from tests.editors.cache import Ready
from tests.editors.vscode import EXTENSION
from tests.editors.vscode.build import copy_sources, npm

MANIFEST = json.loads((EXTENSION / "package.json").read_text(encoding="utf8"))
SERVER_COMMANDS = {f"greencode.{name}" for name in ("setPreference", "report", "accept")}
"""The language client registers these itself; `pause` and `resume` too, which are offered to the user as they are."""


def test_the_package_is_small(vsix: Path) -> None:
    assert vsix.stat().st_size < 500_000


def test_the_package_holds_no_sources(vsix: Path) -> None:
    names = zipfile.ZipFile(vsix).namelist()
    assert "extension/dist/extension.js" in names
    assert not [name for name in names if name.endswith(".ts") or "node_modules" in name]


def test_the_package_installs(extensions: Path) -> None:
    installed = json.loads((extensions / "extensions.json").read_text(encoding="utf8"))
    assert f"{MANIFEST['publisher']}.{MANIFEST['name']}" in [each["identifier"]["id"] for each in installed]


def test_the_sources_pass_the_type_checker_and_the_linter(tools: Ready, tmp_path: Path) -> None:
    npm(tools, copy_sources(tools, tmp_path), ["npm", "run", "check"])


def test_the_extension_has_the_servers_version() -> None:
    assert MANIFEST["version"] == greencode_lsp.__version__


def test_no_command_of_the_extension_takes_the_name_of_a_servers_command() -> None:
    assert not SERVER_COMMANDS & {command["command"] for command in MANIFEST["contributes"]["commands"]}


def test_settings_that_name_executables_or_models_are_no_workspaces_to_set() -> None:
    properties = MANIFEST["contributes"]["configuration"]["properties"]
    assert {properties[f"greencode.{key}"]["scope"] for key in ("server.path", "model", "device", "precision")} == {
        "machine"
    }


def test_a_line_of_a_suggestion_has_a_key_which_vs_code_gives_it_none() -> None:
    (binding,) = MANIFEST["contributes"]["keybindings"]
    assert binding["command"] == "editor.action.inlineSuggest.acceptNextLine"
    assert "inlineSuggestionVisible" in binding["when"]

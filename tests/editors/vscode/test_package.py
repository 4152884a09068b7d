"""Laws of the package that users install."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

import greencode_lsp
from greencode_lsp.settings import CLIENT_KEYS, SECTION
from greencode_lsp.settings import SETTINGS as OURS
from tests.editors.cache import Ready
from tests.editors.vscode import EXTENSION
from tests.editors.vscode.build import copy_sources, npm

MANIFEST = json.loads((EXTENSION / "package.json").read_text(encoding="utf8"))
OFFERED: dict[str, dict[str, Any]] = MANIFEST["contributes"]["configuration"]["properties"]
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


@pytest.mark.parametrize("key", OURS)
def test_a_setting_is_offered_as_the_server_takes_it(key: str) -> None:
    offered, ours = OFFERED[f"{SECTION}.{key}"], OURS[key]
    assert {name: offered.get(name) for name in ours.kind.schema} == ours.kind.schema
    assert offered["default"] == json.loads(ours.default_json)
    assert (offered["scope"] == "resource") == ours.scoped


def test_no_other_setting_is_offered_but_the_clients_own() -> None:
    others = {key.removeprefix(f"{SECTION}.") for key in OFFERED} - {*OURS}
    assert {key.partition(".")[0] for key in others} == {*CLIENT_KEYS}


@pytest.mark.parametrize("key", OFFERED)
def test_a_setting_is_described(key: str) -> None:
    assert OFFERED[key]["markdownDescription"].endswith((".", "`)."))


def test_settings_that_name_executables_or_models_are_restricted_to_trusted_workspaces() -> None:
    restricted = MANIFEST["capabilities"]["untrustedWorkspaces"]["restrictedConfigurations"]
    assert {"greencode.server.path", "greencode.model"} <= {*restricted}

"""Settings are described once: the README's table and the editors' plugins say what the fields say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.settings import CLIENT_KEYS, OLD_KEYS, SECTION, SETTINGS, SettingDescription

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| `greencode\.([\w.]+)` \| `(.+?)` \| (.+) \|$", re.MULTILINE)
README = {key: (default, meaning) for key, default, meaning in ROW.findall((ROOT / "README.md").read_text())}
MANIFEST = json.loads((ROOT / "editors" / "vscode" / "package.json").read_text())
PROPERTIES: dict[str, dict[str, Any]] = MANIFEST["contributes"]["configuration"]["properties"]
SCHEMA = {"type", "oneOf", "enum", "minimum", "maximum", "items", "additionalProperties"}

each_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())


def test_the_readme_has_every_setting_and_no_other_in_order() -> None:
    assert list(README) == list(SETTINGS)


@each_setting
def test_the_readme_says_what_the_field_says(setting: SettingDescription) -> None:
    assert README[setting.key] == (setting.default_json, setting.meaning)


def test_the_manifest_has_every_setting_and_none_that_is_unknown() -> None:
    ours = {key for key in PROPERTIES if key.split(".")[1] not in CLIENT_KEYS}
    assert ours == {f"{SECTION}.{key}" for key in (*SETTINGS, *OLD_KEYS)}


@pytest.mark.parametrize(("former", "key"), OLD_KEYS.items())
def test_a_former_key_is_marked_as_such_and_guarded_as_the_present_one_is(former: str, key: str) -> None:
    old, new = (PROPERTIES[f"{SECTION}.{name}"] for name in (former, key))
    assert f"{SECTION}.{key}" in old["markdownDeprecationMessage"]
    assert (old["scope"], old["default"], _shape(old)) == (new["scope"], new["default"], _shape(new))


@each_setting
def test_the_manifest_has_the_fields_default_range_and_a_description(setting: SettingDescription) -> None:
    found = PROPERTIES[f"{SECTION}.{setting.key}"]
    assert json.dumps(found["default"]) == setting.default_json
    assert _shape(found) == _shape(dict(setting.kind.schema))
    assert found.get("markdownDescription") or found.get("description")


@each_setting
def test_a_setting_that_may_differ_between_folders_is_a_resources_in_vs_code(setting: SettingDescription) -> None:
    is_resource = PROPERTIES[f"{SECTION}.{setting.key}"]["scope"] in ("resource", "language-overridable")
    assert is_resource is setting.scoped


@pytest.mark.parametrize("key", ["model", "latencyTarget", "device", "precision", "server.path"])
def test_what_chooses_what_is_run_or_loaded_is_the_machines_in_vs_code(key: str) -> None:
    assert PROPERTIES[f"{SECTION}.{key}"]["scope"] == "machine"


@each_setting
def test_every_default_is_a_value_the_setting_takes(setting: SettingDescription) -> None:
    default = json.loads(setting.default_json)
    assert default is None or setting.kind.read(default) == setting.default


def test_emacs_has_every_setting_and_none_that_is_unknown() -> None:
    text = (ROOT / "editors" / "emacs" / "greencode-core.el").read_text(encoding="utf8")
    table = text.split("(defconst greencode--settings")[1].split('"Each variable')[0]
    assert set(re.findall(r'\([\w-]+ "([\w.]+)" [\w-]+\)', table)) == set(SETTINGS)


def test_what_chooses_what_is_loaded_is_the_users_alone_in_neovim() -> None:
    text = (ROOT / "editors" / "neovim" / "lua" / "greencode" / "config.lua").read_text(encoding="utf8")
    listed = text.split("MACHINE_SETTINGS = {")[1].split("}")[0]
    of_the_machine = {key for key in (*SETTINGS, *OLD_KEYS) if PROPERTIES[f"{SECTION}.{key}"]["scope"] == "machine"}
    assert set(re.findall(r"'([\w.]+)'", listed)) == of_the_machine


def _shape(schema: dict[str, Any]) -> Any:
    """Return what a schema allows, without descriptions."""
    return {
        key: [_shape(s) for s in value] if key == "oneOf" else value for key, value in schema.items() if key in SCHEMA
    }

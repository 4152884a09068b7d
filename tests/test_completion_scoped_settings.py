"""Which settings hold where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from greencode_lsp.completion.scoped_settings import ScopedSettings
from greencode_lsp.settings import Settings


def test_a_folders_settings_hold_in_the_folder_and_the_innermost_wins() -> None:
    scopes = ScopedSettings()
    scopes.configure({"greencode": {"preference": "energy"}})
    scopes.configure_folders({"/w": {"preference": 0.25}, "/w/inner": {"preference": 0.75}, "/plain": None})
    paths = ("/w/a.py", "/w/inner/a.py", "/plain/a.py", "/elsewhere.py", "", "/work/a.py")
    found = [scopes.resolve(path, "python", "mains").preference for path in paths]
    assert found == [0.25, 0.75, 0.0, 0.0, 0.0, 0.0]


def test_a_languages_settings_lie_over_the_folders() -> None:
    scopes = ScopedSettings()
    scopes.configure_folders({"/w": {"perLanguage": {"java": {"preference": "energy", "multiline": "never"}}}})
    assert scopes.resolve("/w/A.java", "java", "mains") == replace(
        Settings(), preference=0.0, multiline="never", per_language={"java": {"preference": 0.0, "multiline": "never"}}
    )
    assert scopes.resolve("/w/a.py", "python", "mains").preference == 0.5


@pytest.mark.parametrize(
    ("on_battery", "power", "expected"),
    [
        ("same", "battery", 0.5),
        ("energy", "battery", 0.0),
        ("energy", "mains", 0.5),
        ("energy", "unknown", 0.5),
        (0.25, "battery", 0.25),
        ("pause", "battery", 0.5),
    ],
)
def test_on_battery_another_preference_may_hold(on_battery: object, power: str, expected: float) -> None:
    scopes = ScopedSettings()
    scopes.configure({"onBattery": on_battery})
    assert scopes.resolve("", "python", power).preference == expected  # type: ignore[arg-type]


def test_a_sessions_preference_holds_until_the_setting_changes() -> None:
    scopes = ScopedSettings()
    scopes.configure({"greencode": {"preference": "balanced"}})
    assert (scopes.prefer("energy"), scopes.prefer("fast"), scopes.prefer(0.25)) == (0.0, None, 0.25)
    assert scopes.resolve("", "python", "mains").preference == 0.25
    scopes.configure({"greencode": {"preference": "balanced", "maxNewTokens": 8}})
    assert scopes.resolve("", "python", "mains").preference == 0.25
    scopes.configure({"greencode": {"preference": "accuracy"}})
    assert scopes.resolve("", "python", "mains").preference == 1.0


def test_the_same_object_comes_back_until_something_changes() -> None:
    scopes = ScopedSettings()
    first = scopes.resolve("", "python", "mains")
    assert scopes.resolve("", "python", "mains") is first
    scopes.configure({"preference": "energy"})
    assert scopes.resolve("", "python", "mains") is not first


def test_a_removed_setting_is_removed_and_what_the_client_began_with_stays() -> None:
    scopes = ScopedSettings()
    scopes.configure({"greencode": {"maxNewTokens": 8}}, initial=True)
    scopes.configure({"greencode": {"preference": "energy"}})
    scopes.configure({"greencode": {}})
    assert scopes.settings == Settings(max_new_tokens=8)


def test_every_bad_value_of_every_folder_is_told() -> None:
    notices = ScopedSettings().configure_folders({"/a": {"preference": "fast"}, "/b": {"colour": 1}})
    assert len(notices) == 2


def test_a_folder_chooses_neither_model_nor_device_and_is_told_so() -> None:
    scopes = ScopedSettings()
    scopes.configure({"greencode": {"device": "cpu"}})
    notices = scopes.configure_folders({"/w": {"model": "/w/evil", "device": "cuda", "preference": "energy"}})
    found = scopes.resolve("/w/a.py", "python", "mains")
    assert (found.model, found.device, found.preference) == (Settings().model, "cpu", 0.0)
    assert ["greencode.model" in notices[0], "greencode.device" in notices[1]] == [True, True]


@pytest.mark.parametrize("key", ["model", "device", "precision"])
def test_a_language_chooses_neither_model_nor_device(key: str) -> None:
    scopes = ScopedSettings()
    notices = scopes.configure({"greencode": {"perLanguage": {"python": {key: "/w/evil"}}}})
    assert scopes.resolve("a.py", "python", "mains") == Settings()
    assert len(notices) == 1

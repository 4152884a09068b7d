"""Which settings hold where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from greencode_lsp.completion.scoped_settings import ScopedSettings
from greencode_lsp.settings import Settings


def test_a_folders_settings_hold_in_the_folder_and_the_innermost_wins() -> None:
    scoped = ScopedSettings()
    scoped.configure({"greencode": {"preference": "energy"}})
    scoped.configure_folders({"/w": {"preference": 0.25}, "/w/inner": {"preference": 0.75}, "/plain": None})
    paths = ("/w/a.py", "/w/inner/a.py", "/plain/a.py", "/elsewhere.py", "", "/work/a.py")
    found = [scoped.resolve(path, "python", "mains").preference for path in paths]
    assert found == [0.25, 0.75, 0.0, 0.0, 0.0, 0.0]


def test_a_languages_settings_lie_over_the_folders() -> None:
    scoped = ScopedSettings()
    scoped.configure_folders({"/w": {"perLanguage": {"java": {"preference": "energy", "multiline": "never"}}}})
    assert scoped.resolve("/w/A.java", "java", "mains") == replace(
        Settings(), preference=0.0, multiline="never", per_language={"java": {"preference": 0.0, "multiline": "never"}}
    )
    assert scoped.resolve("/w/a.py", "python", "mains").preference == 0.5


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
    scoped = ScopedSettings()
    scoped.configure({"onBattery": on_battery})
    assert scoped.resolve("", "python", power).preference == expected  # type: ignore[arg-type]


def test_a_sessions_preference_holds_until_the_setting_changes() -> None:
    scoped = ScopedSettings()
    scoped.configure({"greencode": {"preference": "balanced"}})
    assert (scoped.prefer("energy"), scoped.prefer("fast"), scoped.prefer(0.25)) == (0.0, None, 0.25)
    assert scoped.resolve("", "python", "mains").preference == 0.25
    scoped.configure({"greencode": {"preference": "balanced", "maxNewTokens": 8}})
    assert scoped.resolve("", "python", "mains").preference == 0.25
    scoped.configure({"greencode": {"preference": "accuracy"}})
    assert scoped.resolve("", "python", "mains").preference == 1.0


def test_the_same_object_comes_back_until_something_changes() -> None:
    scoped = ScopedSettings()
    first = scoped.resolve("", "python", "mains")
    assert scoped.resolve("", "python", "mains") is first
    scoped.configure({"preference": "energy"})
    assert scoped.resolve("", "python", "mains") is not first


def test_a_removed_setting_is_removed_and_what_the_client_began_with_stays() -> None:
    scoped = ScopedSettings()
    scoped.configure({"greencode": {"maxNewTokens": 8}}, initial=True)
    scoped.configure({"greencode": {"preference": "energy"}})
    scoped.configure({"greencode": {}})
    assert scoped.settings == Settings(max_new_tokens=8)


def test_every_bad_value_of_every_folder_is_reported() -> None:
    notices = ScopedSettings().configure_folders({"/a": {"preference": "fast"}, "/b": {"colour": 1}})
    assert len(notices) == 2


def test_a_folder_chooses_neither_model_nor_device_and_is_reported_so() -> None:
    scoped = ScopedSettings()
    scoped.configure({"greencode": {"device": "cpu"}})
    notices = scoped.configure_folders({"/w": {"model": "/w/evil", "device": "cuda", "preference": "energy"}})
    found = scoped.resolve("/w/a.py", "python", "mains")
    assert (found.model, found.device, found.preference) == (Settings().model, "cpu", 0.0)
    assert ["greencode.model" in notices[0], "greencode.device" in notices[1]] == [True, True]


@pytest.mark.parametrize("key", ["model", "device", "precision"])
def test_a_language_chooses_neither_model_nor_device(key: str) -> None:
    scoped = ScopedSettings()
    notices = scoped.configure({"greencode": {"perLanguage": {"python": {key: "/w/evil"}}}})
    assert scoped.resolve("a.py", "python", "mains") == Settings()
    assert len(notices) == 1


def test_who_follows_a_document_gets_the_same_settings_until_they_change() -> None:
    scoped = ScopedSettings()
    now = scoped.follow("/w/a.py", "python", "mains")
    first = now()
    assert now() is first
    scoped.configure({"preference": 0.25})
    assert now().preference == 0.25 and now() is now()
    scoped.prefer("energy")
    assert now().preference == 0.0

"""Which settings hold where: for a folder, a language, on battery, and over the settings for this session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from greencode_lsp.limits import REMEMBERED_SETTINGS
from greencode_lsp.power import PowerState
from greencode_lsp.settings import SECTION, SETTINGS, Settings, parse

USERS_ALONE: dict[str, list[str]] = {}
"""Field of `Settings` -> keys of those that a folder cannot change: the model, the device and so on (design, I8)."""
for _setting in SETTINGS.values():
    if not _setting.scoped and _setting.key != "perLanguage":  # whose inner settings are scoped ones
        USERS_ALONE.setdefault(_setting.section or _setting.name, []).append(_setting.key)


class ScopedSettings:
    """The client's settings, resolved to one consistent value for each place."""

    def __init__(self) -> None:
        self.settings = self._initial = Settings()
        """Those of no folder in particular."""
        self._folders: dict[str, Settings] = {}
        self._session_preference: float | None = None
        self._resolved: dict[tuple[str, str, PowerState], Settings] = {}

    @property
    def roots(self) -> tuple[str, ...]:
        """The workspace's folders."""
        return tuple(self._folders)

    def configure(self, raw: object, *, initial: bool = False) -> list[str]:
        """Take the client's settings; return a sentence for each bad value.

        A whole section replaces the one before, so that a removed setting is removed; single keys change themselves.
        `initial` ones are laid under all that follow.
        """
        before = self.settings
        is_whole = isinstance(raw, Mapping) and isinstance(raw.get(SECTION), Mapping)
        self.settings, sentences = parse(raw, self._initial if is_whole else before)
        if initial:
            self._initial = self.settings
        if self.settings.preference != before.preference:
            self._session_preference = None
        self._resolved = {}
        return sentences

    def configure_folders(self, raw: Mapping[str, object]) -> list[str]:
        """Take the sections that hold in folders, by path; those not named are no folders of the workspace any more."""
        folders: dict[str, Settings] = {}
        sentences: list[str] = []
        for folder, section in raw.items():
            folders[folder], notices = self._of_folder(section) if section else (self.settings, [])
            sentences += notices
        self._folders = folders  # at once: the worker's thread looks here too
        self._resolved = {}
        return sentences

    def _of_folder(self, section: object) -> tuple[Settings, list[str]]:
        """Read a folder's section; what chooses the model, and all else that is the user's alone, is not taken."""
        if not isinstance(section, Mapping):
            return self.settings, []
        settings, sentences = parse({SECTION: section}, self._initial)
        for name, keys in USERS_ALONE.items():
            theirs, users = getattr(settings, name), getattr(self.settings, name)
            if theirs not in (users, getattr(self._initial, name)):
                named = " and ".join(f"{SECTION}.{key}" for key in keys)
                sentences.append(f"A folder's value of {named} is ignored: it comes from your own settings alone.")
            settings = replace(settings, **{name: users})
        return settings, sentences

    def prefer(self, value: object) -> float | None:
        """Let a preference hold for this session, over the settings; return it as a number, None for a bad one."""
        preference: float | None = SETTINGS["preference"].kind.read(value)
        if preference is not None:
            self._session_preference = preference
            self._resolved = {}
        return preference

    def resolve(self, path: str, language: str, power: PowerState) -> Settings:
        """Return what holds for a document: the same object until something changes, so that it can be told by it."""
        resolved, folders = self._resolved, self._folders  # a change puts others in their place
        key = (path, language, power)
        if key not in resolved:
            if len(resolved) >= REMEMBERED_SETTINGS:
                resolved = self._resolved = {}  # another object: the worker's thread may be looking at the old one
            folder = max((f for f in folders if Path(path).is_relative_to(f)), key=len, default="")
            resolved[key] = self._resolve(folders.get(folder, self.settings), language, power)
        return resolved[key]

    def _resolve(self, settings: Settings, language: str, power: PowerState) -> Settings:
        settings = settings.for_language(language)
        if self._session_preference is not None:
            settings = replace(settings, preference=self._session_preference)
        if power == "battery" and isinstance(settings.on_battery, float):
            settings = replace(settings, preference=settings.on_battery)
        return settings

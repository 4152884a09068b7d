"""Which settings hold where: for a folder, a language, on battery, and over the settings for this session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from greencode_lsp.limits import REMEMBERED_SETTINGS
from greencode_lsp.power import PowerState
from greencode_lsp.settings import SECTION, SETTINGS, Settings, parse

USERS_ALONE: dict[str, list[str]] = {}
"""Field of `Settings` -> keys of those that a folder cannot change: the model, the device and so on (I8)."""
for _setting in SETTINGS.values():
    if not _setting.scoped and _setting.key != "perLanguage":  # whose inner settings are scoped ones
        USERS_ALONE.setdefault(_setting.section or _setting.name, []).append(_setting.key)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """All settings at one moment."""

    settings: Settings = field(default_factory=Settings)
    folders: Mapping[str, Settings] = field(default_factory=dict)
    session_preference: float | None = None

    def resolve(self, path: str, language: str, power: PowerState) -> Settings:
        """Return what holds for a document."""
        folder = max((f for f in self.folders if Path(path).is_relative_to(f)), key=len, default="")
        settings = self.folders.get(folder, self.settings).for_language(language)
        if self.session_preference is not None:
            settings = replace(settings, preference=self.session_preference)
        if power == "battery" and isinstance(settings.on_battery, float):
            settings = replace(settings, preference=settings.on_battery)
        return settings


class ScopedSettings:
    """The client's settings, resolved to one consistent value for each place.

    All methods belong to the event loop's thread, except what `follow` returns.
    """

    def __init__(self) -> None:
        self._initial = Settings()
        self._snapshot = _Snapshot()
        """Replaced at each change, never changed: the worker's thread looks here too."""
        self._resolved: dict[tuple[str, str, PowerState], Settings] = {}

    @property
    def settings(self) -> Settings:
        """Those of no folder in particular."""
        return self._snapshot.settings

    @property
    def roots(self) -> tuple[str, ...]:
        """The workspace's folders."""
        return tuple(self._snapshot.folders)

    def _change(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the snapshot
        self._snapshot = replace(self._snapshot, **changes)
        self._resolved = {}

    def configure(self, raw: object, *, initial: bool = False) -> list[str]:
        """Take the client's settings; return a sentence for each bad value.

        A whole section replaces the one before, so that a removed setting is removed; single keys change themselves.
        `initial` ones are laid under all that follow.
        """
        before = self.settings
        is_whole = isinstance(raw, Mapping) and isinstance(raw.get(SECTION), Mapping)
        settings, sentences = parse(raw, self._initial if is_whole else before)
        if initial:
            self._initial = settings
        is_same = settings.preference == before.preference
        self._change(settings=settings, session_preference=self._snapshot.session_preference if is_same else None)
        return sentences

    def configure_folders(self, raw: Mapping[str, object]) -> list[str]:
        """Take the sections that hold in folders, by path; those not named are no folders of the workspace any more."""
        folders: dict[str, Settings] = {}
        sentences: list[str] = []
        for folder, section in raw.items():
            folders[folder], notices = self._of_folder(section) if section else (self.settings, [])
            sentences += notices
        self._change(folders=folders)
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
            self._change(session_preference=preference)
        return preference

    def resolve(self, path: str, language: str, power: PowerState) -> Settings:
        """Return what holds for a document: the same object until something changes."""
        key = (path, language, power)
        if key not in self._resolved:
            if len(self._resolved) >= REMEMBERED_SETTINGS:
                self._resolved = {}
            self._resolved[key] = self._snapshot.resolve(path, language, power)
        return self._resolved[key]

    def follow(self, path: str, language: str, power: PowerState) -> Callable[[], Settings]:
        """Return what yields the settings of a document as they change, on the one thread that calls it.

        It yields the same object until something changes.
        """
        snapshot = self._snapshot
        settings = snapshot.resolve(path, language, power)

        def now() -> Settings:
            nonlocal snapshot, settings
            if self._snapshot is not snapshot:
                snapshot = self._snapshot
                settings = snapshot.resolve(path, language, power)
            return settings

        return now

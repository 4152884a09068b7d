"""The user's settings, described once: defaults, units and meaning under each field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

SECTION = "greencode"
"""The section of the client's configuration that is ours."""

PREFERENCES = {"accuracy": 1.0, "balanced": 0.5, "energy": 0.0}
DEVICES = ("auto", "cpu", "cuda")
NUMERICS = ("auto", "int8", "bfloat16", "float32")
EXIT_POLICIES = ("auto", "agent", "confidence", "fixed", "never")


@dataclass(frozen=True, slots=True)
class Settings:
    """One consistent set of settings; a changed setting makes a new value, so that a reader never sees half of one."""

    preference: float = 0.5
    """Accuracy against energy: 1 (`"accuracy"`) is lossless, 0 (`"energy"`) the most sparing; live, token by token."""
    max_new_tokens: int = 32
    """Upper bound on the tokens of one completion."""
    max_prompt_tokens: int = 448
    """Upper bound on the tokens of context read before and after the cursor; the bundled model is best about here."""
    model: str = "bundled"
    """`"bundled"` or the path of a checkpoint folder."""
    device: str = "auto"
    """`"auto"`, `"cpu"` or `"cuda"`."""
    numeric: str = "auto"
    """How the model computes: `"auto"` (`"int8"` on the CPU, `"bfloat16"` on CUDA), or one of those or `"float32"`."""
    exit_policy: str = "auto"
    """Who decides where a token leaves: `"auto"` (the checkpoint's winner at equal energy), `"agent"`, `"confidence"`,
    `"fixed"` or `"never"`."""


def parse(raw: object, base: Settings) -> tuple[Settings, list[str]]:
    """Return `base` with the client's values laid over it, and a sentence for each value that was not taken.

    Keys come flat (`preference`, `greencode.preference`) or nested under `greencode`; absent and null ones keep the
    value of `base`, bad ones fall back to the default. Sections of other tools beside ours are not looked at.
    """
    if raw is None:
        return base, []
    if not isinstance(raw, Mapping):
        return base, [f"The settings must be an object with keys such as {SECTION}.preference; they are ignored."]
    section = raw.get(SECTION)
    if section is not None and not isinstance(section, Mapping):
        return base, [f"The setting {SECTION} must be an object, not {section!r}; it is ignored."]
    sentences: list[str] = []
    changes: dict[str, Any] = {}
    for key, value in _collect(raw, section).items():
        if key not in _READERS:
            sentences.append(f"There is no setting {SECTION}.{key}; the settings are {', '.join(_READERS)}.")
        elif value is not None:
            name, read, wanted = _READERS[key]
            changes[name] = read(value)
            if changes[name] is None:
                changes[name] = getattr(Settings(), name)
                sentences.append(
                    f"The setting {SECTION}.{key} must be {wanted}, not {value!r}; {changes[name]!r} is used instead."
                )
    return replace(base, **changes), sentences


def _collect(raw: Mapping[str, Any], section: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return our keys without their prefix: flat ones first, so that nested ones win."""
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = str(key)
        if name == SECTION:
            continue
        if name.startswith(SECTION + "."):
            values[name[len(SECTION) + 1 :]] = value
        elif name in _READERS or (section is None and "." not in name and not isinstance(value, Mapping)):
            values[name] = value  # another tool's section is an object or a dotted key, or stands beside ours
    return values | {str(key): value for key, value in (section or {}).items()}


def _preference(value: object) -> float | None:
    if isinstance(value, str):
        return PREFERENCES.get(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    return None


def _whole_number(low: int, high: int) -> Callable[[object], int | None]:
    def read(value: object) -> int | None:
        return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None

    return read


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _one_of(choices: tuple[str, ...]) -> Callable[[object], str | None]:
    def read(value: object) -> str | None:
        return value if isinstance(value, str) and value in choices else None

    return read


_READERS: dict[str, tuple[str, Callable[[object], Any], str]] = {
    "preference": ("preference", _preference, '"accuracy", "balanced", "energy" or a number from 0 to 1'),
    "maxNewTokens": ("max_new_tokens", _whole_number(1, 512), "a whole number from 1 to 512"),
    "maxPromptTokens": ("max_prompt_tokens", _whole_number(16, 32768), "a whole number from 16 to 32768"),
    "model": ("model", _text, '"bundled" or the path of a checkpoint folder'),
    "device": ("device", _one_of(DEVICES), "one of " + ", ".join(DEVICES)),
    "numeric": ("numeric", _one_of(NUMERICS), "one of " + ", ".join(NUMERICS)),
    "exitPolicy": ("exit_policy", _one_of(EXIT_POLICIES), "one of " + ", ".join(EXIT_POLICIES)),
}
"""The client's name -> field, reader (None for a bad value), what a good value is."""

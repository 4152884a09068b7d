"""What values a setting takes: one value of `Kind` for each sort, with its reader, its words and its JSON schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PREFERENCES = {"accuracy": 1.0, "balanced": 0.5, "energy": 0.0}


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a setting takes."""

    read: Callable[[object], Any]
    """From the client's value to ours; None for a bad one."""
    wanted: str
    """What a good value is, to follow "must be"."""
    schema: Mapping[str, Any]
    """The same as JSON schema."""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def preference_value(*others: str) -> Kind:
    """Return the kind of a preference: a name or a number from 0 to 1, or one of `others`."""

    def read(value: object) -> float | str | None:
        if isinstance(value, str):
            return value if value in others else PREFERENCES.get(value)
        return float(value) if _is_number(value) and 0 <= value <= 1 else None  # type: ignore[operator, arg-type]  # a number

    known = [*others, *PREFERENCES]
    wanted = ", ".join(f'"{name}"' for name in known) + " or a number from 0 to 1"
    choices = {"type": "string", "enum": known}
    return Kind(read, wanted, {"oneOf": [choices, {"type": "number", "minimum": 0, "maximum": 1}]})


def whole_number(low: int, high: int, *others: str) -> Kind:
    """Return the kind of a whole number from `low` to `high`, or one of `others`."""

    def read(value: object) -> int | str | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        return value if isinstance(value, str) and value in others else None

    wanted = "".join(f'"{name}" or ' for name in others) + f"a whole number from {low} to {high}"
    number = {"type": "integer", "minimum": low, "maximum": high}
    schema = {"oneOf": [{"type": "string", "enum": list(others)}, number]} if others else number
    return Kind(read, wanted, schema)


def number_or_null(low: float, high: float) -> Kind:
    """Return the kind of a number from `low` to `high` that may be unset."""

    def read(value: object) -> float | None:
        return float(value) if _is_number(value) and low <= value <= high else None  # type: ignore[operator, arg-type]  # a number

    schema = {"type": ["number", "null"], "minimum": low, "maximum": high}
    return Kind(read, f"null or a number from {low} to {high}", schema)


def one_of(*choices: str) -> Kind:
    """Return the kind of one text among `choices`."""

    def read(value: object) -> str | None:
        return value if isinstance(value, str) and value in choices else None

    return Kind(read, "one of " + ", ".join(choices), {"type": "string", "enum": list(choices)})


def name_list(*others: str) -> Kind:
    """Return the kind of a list of texts, or one of `others`."""

    def read(value: object) -> tuple[str, ...] | str | None:
        if isinstance(value, (list, tuple)) and all(isinstance(name, str) and name.strip() for name in value):
            return tuple(value)
        return value if isinstance(value, str) and value in others else None

    wanted = "".join(f'"{name}" or ' for name in others) + "a list of texts"
    array = {"type": "array", "items": {"type": "string"}}
    return Kind(read, wanted, {"oneOf": [{"type": "string", "enum": list(others)}, array]} if others else array)


def read_text(value: object) -> str | None:
    """Return a text that is not blank; None for anything else."""
    return value if isinstance(value, str) and value.strip() else None


def _read_flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


FLAG = Kind(_read_flag, "true or false", {"type": "boolean"})

"""What the service reports of itself, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from greencode_lsp.completion.model import AnsweredBy
from greencode_lsp.energy.ledger import Totals
from greencode_lsp.power import PowerState
from greencode_lsp.preference import Choice
from greencode_lsp.records import Completion, EnergyReading

State = Literal["loading", "ready", "paused", "failed"]
Scope = Literal["today", "week", "all"]
"""Of a report."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the user may see of the service at one moment."""

    state: State
    model: str
    preference: float
    reason: str | None = None
    """One sentence: why nothing is suggested, or what stands in for what."""
    device: str = ""
    answered_by: AnsweredBy | None = None
    """Who has completed last, or will; None before a model is loaded."""
    power: PowerState = "unknown"
    last: Completion | None = None
    """The completion that was computed last, shown or not."""
    today: Totals = field(default_factory=Totals)
    exit_policy: str = ""
    """Who decides on exits, with the languages in which another does; empty before a model is loaded."""
    choices: tuple[Choice, ...] = ()
    """What the named preferences cost, once a model is loaded."""


@dataclass(frozen=True, slots=True)
class Suggested:
    """What the service answers to a request."""

    text: str = ""
    """Empty for nothing to suggest."""
    number: int = 0
    """By which the client reports its acceptance."""
    alternatives: tuple[Suggested, ...] = ()
    """Other texts for the same place, where the user asked."""
    probability: float = 1.0
    """Of all of it, by the model's own confidence."""
    energy: EnergyReading | None = None
    """What its generation took; typed along it stays the same."""


NOTHING = Suggested()

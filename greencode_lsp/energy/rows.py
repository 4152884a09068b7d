"""What the ledger keeps of one completion, as a record and as a row of columns."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from greencode_lsp.records import Completion, EnergyReading, EnergyTier

COLUMNS = {
    "time_utc": "TEXT NOT NULL",
    "language": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "device": "TEXT NOT NULL DEFAULT ''",
    "preference": "REAL NOT NULL",
    "prompt_tokens": "INTEGER NOT NULL",
    "reused_tokens": "INTEGER NOT NULL",
    "tokens": "INTEGER NOT NULL",
    "exit_layers": "TEXT NOT NULL",
    "energy_j": "REAL NOT NULL",
    "energy_tier": "TEXT NOT NULL",
    "idle_j": "REAL",
    "full_depth_j": "REAL NOT NULL",
    "elapsed_ms": "REAL NOT NULL",
    "outcome": "TEXT NOT NULL",
    "accepted_characters": "INTEGER NOT NULL DEFAULT 0",
    "agreed_tokens": "INTEGER",
    "promised": "REAL",
}
"""Name -> type. What was wasted and what audits took are joules of rows with those outcomes, and stored once."""
WASTED = ("superseded", "cancelled", "rejected")
"""Outcomes whose joules brought the user nothing. `shown` and `empty` are not settled, and not counted as wasted."""
OUTCOMES = ("shown", "empty", "accepted", "partial", *WASTED, "audit")
STRENGTH = {"rejected": 1, "partial": 2, "accepted": 3}
"""What the user did with a suggestion is not undone by what becomes of it later: 0 for every other outcome."""


def utc_now() -> datetime:
    """Return the time of day, aware of its zone."""
    return datetime.now(timezone.utc)


def settled_by(outcome: str) -> tuple[str, ...]:
    """Return the outcomes that a later one takes the place of; an audit has none to settle."""
    strength = STRENGTH.get(outcome, 0)
    return tuple(one for one in OUTCOMES if one != "audit" and STRENGTH.get(one, 0) <= strength)


@dataclass(frozen=True, slots=True)
class Audit:
    """What catching one completion up to full depth has found."""

    agreed_tokens: int
    tokens: int
    promised: float
    """The share of the full model's tokens that was to be kept."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What is kept of one completion, or of its audit."""

    language: str
    model: str
    preference: float
    tokens: int
    energy_j: float
    energy_tier: EnergyTier
    full_depth_j: float
    """Modelled. Zero of an audit, which full depth would not have needed: audits count against what is saved."""
    elapsed_ms: float
    device: str = ""
    idle_j: float | None = None
    exit_layers: dict[int, int] = field(default_factory=dict)
    """Exit layer -> tokens emitted there."""
    prompt_tokens: int = 0
    reused_tokens: int = 0
    outcome: str = "shown"
    """What became of it, one of OUTCOMES."""
    accepted_characters: int = 0
    agreed_tokens: int | None = None
    """Of an audit: how many of `tokens` were the full model's."""
    promised: float | None = None
    """Of an audit: the share that was promised."""
    time_utc: datetime = field(default_factory=utc_now)

    @classmethod
    def of(cls, completion: Completion, language: str, preference: float, outcome: str) -> LedgerRow:
        """Return the row of a completion; its text is left out.

        One that was stopped would have been stopped at the same moment at full depth: it has saved nothing.
        """
        is_stopped = outcome in ("superseded", "cancelled")
        return cls(
            language=language,
            model=completion.model,
            preference=preference,
            tokens=len(completion.steps),
            energy_j=completion.energy.energy_j,
            energy_tier=completion.energy.energy_tier,
            full_depth_j=completion.energy.energy_j if is_stopped else completion.energy.full_depth_j,
            elapsed_ms=completion.elapsed_ms,
            device=completion.device,
            idle_j=completion.energy.idle_j,
            exit_layers=dict(sorted(Counter(completion.exit_layers).items())),
            prompt_tokens=completion.work.prompt_tokens,
            reused_tokens=completion.work.reused_tokens,
            outcome=outcome,
        )

    def audited(self, audit: Audit, energy: EnergyReading, elapsed_ms: float) -> LedgerRow:
        """Return the row of this completion's audit, with what the audit itself took."""
        return replace(
            self,
            outcome="audit",
            tokens=audit.tokens,
            agreed_tokens=audit.agreed_tokens,
            promised=audit.promised,
            energy_j=energy.energy_j,
            energy_tier=energy.energy_tier,
            idle_j=energy.idle_j,
            full_depth_j=0.0,
            elapsed_ms=elapsed_ms,
            exit_layers={},
            accepted_characters=0,
            time_utc=utc_now(),
        )

    @property
    def audit(self) -> Audit | None:
        """What this row's audit has found; None where it is none."""
        if self.agreed_tokens is None or self.promised is None:
            return None
        return Audit(self.agreed_tokens, self.tokens, self.promised)


def values_of(row: LedgerRow) -> tuple[object, ...]:
    """Return a row's values in the order of COLUMNS."""
    stored = {"time_utc": stamp(row.time_utc), "exit_layers": json.dumps(row.exit_layers)}
    return tuple(stored.get(name, getattr(row, name)) for name in COLUMNS)


def row_of(values: tuple[Any, ...]) -> LedgerRow:
    """Return the row of values in the order of COLUMNS."""
    row = dict(zip(COLUMNS, values, strict=True))
    row["time_utc"] = datetime.fromisoformat(row["time_utc"])
    row["exit_layers"] = {int(layer): int(count) for layer, count in json.loads(row["exit_layers"]).items()}
    return LedgerRow(**row)


def stamp(time: datetime) -> str:
    """Return the time in UTC as text of one width, so that text order is time order."""
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds")

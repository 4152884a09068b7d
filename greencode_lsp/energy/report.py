"""What the ledger adds up to: sums over its rows, and how sure they are.

Every figure of energy stands beside its tier, which is that of its weakest row; what full depth would have taken, and
so what is saved, is modelled always. Audits (see guarantee.py) cost joules that full depth would not have, and count
against what is saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

from greencode_lsp.energy.bounds import FEWEST_ROWS, Interval, saved_bounds
from greencode_lsp.energy.device_profile import stored
from greencode_lsp.energy.ledger import Ledger, read_rows
from greencode_lsp.energy.rows import OUTCOMES, WASTED, LedgerRow, utc_now
from greencode_lsp.guarantee import interval
from greencode_lsp.records import EnergyTier

Scope = Literal["today", "week", "all"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
WEEK_DAYS = 7
"""Today and the six days before."""
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Group:
    """The completions of one language, preference, outcome or stretch of time, and what their audits took.

    An audit costs joules and is no completion, so that groups add up to the total and so do their counts.
    """

    name: str
    completions: int = 0
    tokens: int = 0
    energy_j: float = 0.0
    energy_tier: EnergyTier = "modelled"
    full_depth_j: float = 0.0

    @property
    def saved_j(self) -> float:
        """Against full depth; modelled."""
        return self.full_depth_j - self.energy_j


@dataclass(frozen=True, slots=True)
class Promise:
    """One promised agreement against what audits have found."""

    promised: float
    audits: int
    tokens: int
    observed: float
    """Mean over audits of the share of a completion's tokens that were the full model's."""
    observed_95: Interval


@dataclass(frozen=True, slots=True)
class EnergyReport:
    """All figures of one scope."""

    scope: Scope
    since: datetime | None
    """None: everything there is."""
    until: datetime
    total: Group
    outcomes: tuple[Group, ...]
    """One of them is `audit`, where there were any."""
    languages: tuple[Group, ...]
    preferences: tuple[Group, ...]
    over_time: tuple[Group, ...]
    """By hour of today, else by day, in local time; stretches without a completion are there too."""
    exit_layers: dict[int, int]
    """Layer -> tokens that exited after it."""
    accepted_characters: int
    net_j: float | None
    """`total.energy_j` less what the devices would have drawn doing nothing; None where that is not known of all."""
    wasted_j: float
    """Of completions superseded, cancelled or rejected."""
    wasted_tier: EnergyTier
    audit_j: float
    audit_tier: EnergyTier
    saved_j_95: Interval | None
    saved_share_95: Interval | None
    uncertainty: str
    """What the two intervals cover, in words."""
    promises: tuple[Promise, ...]
    carbon_intensity: float | None
    """Grams of CO2 equivalent per kWh."""
    models: tuple[str, ...]
    devices: tuple[str, ...]

    @property
    def saved_share(self) -> float | None:
        """Of what full depth would have taken; None where nothing ran."""
        return self.total.saved_j / self.total.full_depth_j if self.total.full_depth_j else None

    @property
    def wasted_share(self) -> float | None:
        """Of all energy; None where there was none."""
        return self.wasted_j / self.total.energy_j if self.total.energy_j else None

    @property
    def accepted_character_j(self) -> float | None:
        """All energy over accepted characters: what came to nothing is paid for by what was taken."""
        return self.total.energy_j / self.accepted_characters if self.accepted_characters else None

    def co2_g(self, energy_j: float) -> float | None:
        """Return grams of CO2 equivalent; None where no carbon intensity is given."""
        return None if self.carbon_intensity is None else energy_j / JOULES_PER_KWH * self.carbon_intensity


def report(
    source: Ledger | Path, scope: Scope = "today", carbon_intensity: float | None = None, now: datetime | None = None
) -> EnergyReport:
    """Add up the rows of a scope. Raises LedgerError where the file at a path cannot be read."""
    now = (now or utc_now()).astimezone()
    since = since_of(scope, now)
    rows = source.rows(since) if isinstance(source, Ledger) else read_rows(source, since)
    return _sum(rows, scope, since, now, carbon_intensity)


def since_of(scope: Scope, now: datetime) -> datetime | None:
    """Return the local midnight a scope begins at; None for everything there is."""
    if scope == "all":
        return None
    days = 0 if scope == "today" else WEEK_DAYS - 1
    midnight = now.replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)
    return midnight.astimezone()  # the local zone's offset of that day


def _sum(
    rows: Sequence[LedgerRow], scope: Scope, since: datetime | None, now: datetime, carbon_intensity: float | None
) -> EnergyReport:
    completions = [row for row in rows if row.outcome != "audit"]
    audits = [row for row in rows if row.outcome == "audit"]
    wasted = [row for row in completions if row.outcome in WASTED]
    layers: Counter[int] = Counter()
    for row in completions:
        layers.update(row.exit_layers)
    errors = _model_errors(completions)
    pairs = [(row.full_depth_j, row.energy_j) for row in rows]
    saved_95, share_95 = saved_bounds(pairs, max(errors, default=0.0))
    models, devices = {row.model for row in rows}, {row.device for row in rows if row.device}
    idle_j = [row.idle_j for row in rows]
    return EnergyReport(
        scope=scope,
        since=since,
        until=now,
        total=_group("all", rows),
        outcomes=_by(rows, lambda row: row.outcome, OUTCOMES),
        languages=_by(rows, lambda row: row.language),
        preferences=_by(rows, lambda row: f"{row.preference:g}"),
        over_time=_over_time(rows, scope, since, now),
        exit_layers=dict(sorted(layers.items())),
        accepted_characters=sum(row.accepted_characters for row in completions),
        net_j=_net_j(sum(row.energy_j for row in rows), idle_j),
        wasted_j=sum(row.energy_j for row in wasted),
        wasted_tier=_tier(wasted),
        audit_j=sum(row.energy_j for row in audits),
        audit_tier=_tier(audits),
        saved_j_95=saved_95,
        saved_share_95=share_95,
        uncertainty=_words(saved_95, errors),
        promises=_promises(audits),
        carbon_intensity=carbon_intensity,
        models=tuple(sorted(models)),
        devices=tuple(sorted(devices)),
    )


def _tier(rows: Iterable[LedgerRow]) -> EnergyTier:
    """Return the weakest tier of the rows; nothing at all is modelled."""
    tiers = {row.energy_tier for row in rows}
    return next(iter(tiers)) if len(tiers) == 1 else "modelled"


def _group(name: str, rows: Sequence[LedgerRow]) -> Group:
    tokens = [row.tokens for row in rows if row.outcome != "audit"]
    return Group(
        name,
        len(tokens),
        sum(tokens),
        sum(row.energy_j for row in rows),
        _tier(rows),
        sum(row.full_depth_j for row in rows),
    )


def _by(rows: Sequence[LedgerRow], key: Callable[[LedgerRow], str], order: Sequence[str] = ()) -> tuple[Group, ...]:
    """Return a group for each key, in the order given, else the most joules first."""
    members_of: dict[str, list[LedgerRow]] = {}
    for row in rows:
        members_of.setdefault(key(row), []).append(row)
    groups = [_group(name, members) for name, members in members_of.items()]
    if order:
        return tuple(sorted(groups, key=lambda group: order.index(group.name) if group.name in order else len(order)))
    return tuple(sorted(groups, key=lambda group: -group.energy_j))


def _over_time(rows: Sequence[LedgerRow], scope: Scope, since: datetime | None, now: datetime) -> tuple[Group, ...]:
    members_of: dict[str, list[LedgerRow]] = {}
    if scope == "today":
        members_of = {f"{hour:02}": [] for hour in range(24)}
    else:
        first = since or min((row.time_utc for row in rows), default=now)
        day = first.astimezone().date()
        while day <= now.date():
            members_of[day.isoformat()] = []
            day += timedelta(days=1)
    form = "%H" if scope == "today" else "%Y-%m-%d"
    for row in rows:
        members_of.setdefault(row.time_utc.astimezone().strftime(form), []).append(row)
    return tuple(_group(name, members_of[name]) for name in sorted(members_of))


def _net_j(energy_j: float, idle_j: Sequence[float | None]) -> float | None:
    known = [value for value in idle_j if value is not None]
    return energy_j - sum(known) if idle_j and len(known) == len(idle_j) else None


def _promises(audits: Sequence[LedgerRow]) -> tuple[Promise, ...]:
    shares: dict[float, list[float]] = {}
    tokens: Counter[float] = Counter()
    for audit in (row.audit for row in audits):
        if audit is not None and audit.tokens:
            shares.setdefault(audit.promised, []).append(audit.agreed_tokens / audit.tokens)
            tokens[audit.promised] += audit.tokens
    return tuple(
        Promise(promised, len(agreed), tokens[promised], sum(agreed) / len(agreed), Interval(*interval(agreed)))
        for promised, agreed in sorted(shares.items())
    )


def _model_errors(rows: Iterable[LedgerRow]) -> list[float]:
    """Return how far the share saved may be off by the stored profiles, of those that there are."""
    profiles = (stored(device, model) for device, model in sorted({(row.device, row.model) for row in rows}))
    return [c.saved_share_error for c in profiles if c is not None and c.saved_share_error is not None]


def _words(saved_95: Interval | None, errors: Sequence[float]) -> str:
    if saved_95 is None:
        return f"not estimated: fewer than {FEWEST_ROWS} completions"
    bootstrap = "95 % bootstrap over completions"
    if errors:
        return f"{bootstrap}, and the error of the share that `greencode-lsp profile` found ({max(errors):.1%})"
    return f"{bootstrap}; the model's own error is not in it (run `greencode-lsp profile`)"


def to_json(figures: EnergyReport) -> dict[str, object]:
    """Return the object of `greencode-lsp energy --json` and of the request `greencode/report`."""
    saved, share = figures.saved_j_95, figures.saved_share_95
    return {
        "scope": figures.scope,
        "since": figures.since.isoformat() if figures.since else None,
        "until": figures.until.isoformat(),
        "models": list(figures.models),
        "devices": list(figures.devices),
        **_group_json(figures.total),
        "net_j": figures.net_j,
        "net_tier": figures.total.energy_tier,
        "saved_share": figures.saved_share,
        "saved_j_95": [saved.low, saved.high] if saved else None,
        "saved_share_95": [share.low, share.high] if share else None,
        "saved_uncertainty": figures.uncertainty,
        "accepted_characters": figures.accepted_characters,
        "accepted_character_j": figures.accepted_character_j,
        "accepted_character_tier": figures.total.energy_tier,
        "wasted_j": figures.wasted_j,
        "wasted_tier": figures.wasted_tier,
        "wasted_share": figures.wasted_share,
        "wasted_outcomes": list(WASTED),
        "audit_j": figures.audit_j,
        "audit_tier": figures.audit_tier,
        "promises": [
            {
                "promised": promise.promised,
                "observed": promise.observed,
                "observed_95": [promise.observed_95.low, promise.observed_95.high],
                "audits": promise.audits,
                "tokens": promise.tokens,
            }
            for promise in figures.promises
        ],
        "carbon_intensity": figures.carbon_intensity,
        "co2_g": figures.co2_g(figures.total.energy_j),
        "co2_tier": figures.total.energy_tier,
        "saved_co2_g": figures.co2_g(figures.total.saved_j),
        "saved_co2_tier": "modelled",
        "exit_layers": {str(layer): tokens for layer, tokens in figures.exit_layers.items()},
        "outcomes": _groups_json("outcome", figures.outcomes),
        "languages": _groups_json("language", figures.languages),
        "preferences": _groups_json("preference", figures.preferences),
        "over_time": _groups_json("hour" if figures.scope == "today" else "day", figures.over_time),
    }


def _group_json(group: Group) -> dict[str, object]:
    return {
        "completions": group.completions,
        "tokens": group.tokens,
        "energy_j": group.energy_j,
        "energy_tier": group.energy_tier,
        "full_depth_j": group.full_depth_j,
        "full_depth_tier": "modelled",
        "saved_j": group.saved_j,
        "saved_tier": "modelled",
    }


def _groups_json(key: str, groups: Sequence[Group]) -> list[dict[str, object]]:
    return [{key: group.name, **_group_json(group)} for group in groups]

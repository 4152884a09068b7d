"""The report as text for a terminal, and the ledger's rows as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from greencode_lsp.energy.report import EnergyReport, Group
from greencode_lsp.energy.rows import COLUMNS, WASTED, LedgerRow, values_of

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
BAR_WIDTH = 40
TITLES = {"today": "today", "week": "the last seven days", "all": "everything kept"}


def joules(energy_j: float) -> str:
    """Return joules for a person, to three figures, with the unit that suits them."""
    for unit, size in (("MJ", 1e6), ("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3)):
        if abs(energy_j) >= size:
            return f"{_figures(energy_j / size)} {unit}"
    return "0 J" if not energy_j else f"{_figures(energy_j * 1e3)} mJ"


def grams(mass_g: float) -> str:
    """Return grams for a person."""
    return f"{_figures(mass_g / 1e3)} kg" if abs(mass_g) >= 1e3 else f"{_figures(mass_g)} g"


def percent(share: float | None) -> str:
    """Return a share as a percentage, a dash for none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _figures(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def headline(figures: EnergyReport) -> list[tuple[str, str, str]]:
    """Return the main figures: name, value, and what a person must know of it (its tier always)."""
    total, saved = figures.total, figures.saved_share_95
    span = f"; 95 %: {percent(saved.low)} to {percent(saved.high)}" if saved else ""
    rows = [
        ("spent", joules(total.energy_j), f"energy_tier: {total.energy_tier}"),
        ("full depth would take", joules(total.full_depth_j), "full_depth_tier: modelled"),
        ("saved", joules(total.saved_j), f"{percent(figures.saved_share)}{span}; saved_tier: modelled"),
    ]
    if figures.net_j is not None:
        rows.insert(1, ("of that above idle", joules(figures.net_j), f"net_tier: {total.energy_tier}"))
    accepted_j = figures.accepted_character_j
    rows.append(
        (
            "per accepted character",
            "-" if accepted_j is None else joules(accepted_j),
            f"{figures.accepted_characters} characters; accepted_character_tier: {total.energy_tier}",
        )
    )
    what = ", ".join(WASTED)
    rows.append(
        (
            "wasted",
            joules(figures.wasted_j),
            f"{percent(figures.wasted_share)} ({what}); wasted_tier: {figures.wasted_tier}",
        )
    )
    if figures.audit_j > 0:
        rows.append(("audits", joules(figures.audit_j), f"audit_tier: {figures.audit_tier}"))
    spent_g, saved_g = figures.co2_g(total.energy_j), figures.co2_g(total.saved_j)
    if spent_g is not None and saved_g is not None:
        rows.append(("CO2e", grams(spent_g), f"{grams(saved_g)} saved; co2_tier: {total.energy_tier}"))
    return rows


def promise_lines(figures: EnergyReport) -> list[str]:
    """Return one line for each promise that was audited."""
    return [
        f"promised {percent(p.promised)} of the full model's tokens, observed {percent(p.observed)} "
        f"(95 %: {percent(p.observed_95.low)} to {percent(p.observed_95.high)}) in {p.audits} audits"
        for p in figures.promises
    ]


def to_text(figures: EnergyReport, block: str = "█") -> str:
    """Return the report for a terminal; `block` draws its bars."""
    where = f", {' '.join(figures.models)} on {' '.join(figures.devices) or '-'}" if figures.models else ""
    lines = [f"Energy of {figures.total.completions} completions, {TITLES[figures.scope]}{where}", ""]
    if not figures.total.completions and not figures.total.energy_j:
        return "\n".join([*lines, "  Nothing yet: the ledger fills as an editor asks for completions."])
    lines += [f"  {name:24}{value:>10}   {note}" for name, value, note in headline(figures)]
    lines += [f"  {line}" for line in promise_lines(figures)]
    lines += [f"  uncertainty: {figures.uncertainty}", ""]
    lines += _bars("J by hour" if figures.scope == "today" else "J by day", _worth_showing(figures.over_time), block)
    for title, groups in (
        ("J by language", figures.languages),
        ("J by preference", figures.preferences),
        ("J by outcome", figures.outcomes),
    ):
        lines += _bars(title, groups, block)
    layers = [(str(layer), float(tokens), f"{tokens}") for layer, tokens in figures.exit_layers.items()]
    lines += _chart("tokens by exit layer", layers, block)
    return "\n".join(lines).rstrip()


def _worth_showing(groups: Sequence[Group]) -> list[Group]:
    """Leave out empty stretches of time at both ends."""
    busy = [i for i, group in enumerate(groups) if group.completions or group.energy_j]
    return list(groups[busy[0] : busy[-1] + 1]) if busy else []


def _bars(title: str, groups: Sequence[Group], block: str) -> list[str]:
    def note(group: Group) -> str:
        saved = percent(group.saved_j / group.full_depth_j) if group.full_depth_j else "-"
        return f"{joules(group.energy_j):>8}  saved {saved:>7}  {group.completions:>5} completions"

    return _chart(title, [(group.name, group.energy_j, note(group)) for group in groups], block)


def _chart(title: str, rows: Sequence[tuple[str, float, str]], block: str) -> list[str]:
    if not rows:
        return []
    width, most = max(len(name) for name, _, _ in rows), max(value for _, value, _ in rows)
    lines = [f"  {title}"]
    for name, value, note in rows:
        bar = block * (round(BAR_WIDTH * value / most) if most > 0 else 0)
        lines.append(f"    {name:>{width}} {bar:{BAR_WIDTH}} {note}")
    return [*lines, ""]


def to_csv(rows: Sequence[LedgerRow]) -> str:
    """Return the rows with a header line; joules carry their tiers."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*COLUMNS, "full_depth_tier"])
    writer.writerows((*map(_plain, values_of(row)), "modelled") for row in rows)
    return out.getvalue()


def _plain(value: object) -> object:
    """Return a cell that a spreadsheet takes for text, whatever a model or a language is called."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value

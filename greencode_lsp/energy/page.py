"""The report as one self-contained HTML page: no script, no network, light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from greencode_lsp.energy.charts import Axes, Bar, columns, rows
from greencode_lsp.energy.report import EnergyReport, Group
from greencode_lsp.energy.show import TITLES, headline, joules, percent, promise_lines

WIDE_PX, NARROW_PX = 650, 284
STYLE = """
:root { color-scheme: light dark; --back: #fbfbf9; --card: #ffffff; --ink: #1d2421; --soft: #55605b;
  --line: #d9ddd8; --spent: #1f7a54; --saved: #a9d8bd; }
@media (prefers-color-scheme: dark) { :root { --back: #141816; --card: #1c211f; --ink: #e7ece9; --soft: #a6b1ab;
  --line: #38403c; --spent: #56c08f; --saved: #2b5c45; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 720px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 0 0 8px; }
p { margin: 8px 0 0; } .soft, td.note, footer { color: var(--soft); font-size: .87rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px; margin-top: 16px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin-top: 16px; }
.cards section { margin: 0; padding: 12px 16px; } .cards b { display: block; font-size: 1.35rem; }
svg { display: block; max-width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
svg text.name { fill: var(--ink); } svg text.axis { fill: var(--ink); }
.grid { stroke: var(--line); stroke-width: 1; } .spent { fill: var(--spent); }
.saved { fill: var(--saved); stroke: var(--spent); stroke-width: .75; stroke-dasharray: 3 2; }
.key { display: inline-block; width: 12px; height: 12px; margin: 0 4px 0 12px; vertical-align: -1px; }
.key.spent { background: var(--spent); margin-left: 0; }
.key.saved { background: var(--saved); border: 1px dashed var(--spent); }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: right; padding: 4px 8px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { white-space: normal; overflow-wrap: anywhere; }
svg.thin .saved { stroke: none; } th { color: var(--soft); font-weight: 600; }
.narrow { display: none; }
@media (max-width: 559px) { .wide { display: none; } .narrow { display: block; } }
@media (max-width: 480px) { main { padding: 16px 12px 32px; } section { padding: 12px; }
  table { font-size: .75rem; } th, td { padding: 4px 3px; } .tokens { display: none; } }
"""
KEY = (
    '<p class="soft"><span class="key spent"></span>spent <span class="key saved"></span>saved against full depth '
    "(modelled)</p>"
)


def to_html(figures: EnergyReport) -> str:
    """Return the page."""
    total = figures.total
    where = f"{' '.join(figures.models)} on {' '.join(figures.devices) or '-'}" if figures.models else "no model yet"
    head = (
        f"<h1>Energy of code completion, {TITLES[figures.scope]}</h1>"
        f'<p class="soft">{escape(where)}; {total.completions} completions, {total.tokens} tokens; '
        f"until {figures.until:%Y-%m-%d %H:%M}</p>"
    )
    body = _body(figures) if total.completions or total.energy_j else "<section>Nothing yet.</section>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>greencode energy, {TITLES[figures.scope]}</title><style>{STYLE}</style></head>"
        f"<body><main>{head}{body}</main></body></html>\n"
    )


def _body(figures: EnergyReport) -> str:
    cards = "".join(
        f'<section><span class="soft">{escape(name)}</span><b>{escape(value)}</b>'
        f'<span class="soft">{escape(note)}</span></section>'
        for name, value, note in headline(figures)
    )
    unit = "hour of the day, local time" if figures.scope == "today" else "day"
    times = [_bar(group, group.name if figures.scope == "today" else group.name[5:]) for group in figures.over_time]
    layers = [Bar(str(layer), float(tokens), note=f"{tokens} tokens") for layer, tokens in figures.exit_layers.items()]
    layer_axes = Axes("layers run when the token exited", "tokens")
    parts = [
        f'<div class="cards">{cards}</div>',
        "".join(f'<p class="soft">{escape(line)}</p>' for line in promise_lines(figures)),
        _section("Over time", lambda width: columns(times, Axes(unit, "energy, J"), width), KEY),
        _by("language", figures.languages),
        _by("preference", figures.preferences),
        _by("outcome", figures.outcomes),
    ]
    if layers:
        parts.append(_section("Where tokens exited", lambda width: columns(layers, layer_axes, width)))
    parts.append(
        f"<footer><p>Saved: {escape(figures.uncertainty)}. Wasted: superseded, cancelled or rejected. "
        "Each figure stands beside its tier; what full depth would have taken is always modelled.</p></footer>"
    )
    return "".join(parts)


def _bar(group: Group, name: str) -> Bar:
    saved = percent(group.saved_j / group.full_depth_j) if group.full_depth_j else "-"
    return Bar(name, group.energy_j, group.saved_j, f"{joules(group.energy_j)}, saved {saved}")


def _by(what: str, groups: Sequence[Group]) -> str:
    bars = [_bar(group, group.name) for group in groups]
    lines = "".join(
        f'<tr><td>{escape(group.name)}</td><td>{group.completions}</td><td class="tokens">{group.tokens}</td>'
        f"<td>{joules(group.energy_j)}</td><td>{joules(group.saved_j)}</td><td>{group.energy_tier}</td></tr>"
        for group in groups
    )
    table = (
        f'<table><tr><th>{what}</th><th>count</th><th class="tokens">tokens</th><th>spent</th>'
        f"<th>saved</th><th>energy_tier</th></tr>{lines}</table>"
    )
    return _section(f"By {what}", lambda width: rows(bars, Axes("energy, J", what), width), KEY + table)


def _section(title: str, draw: Callable[[int], str], after: str = "") -> str:
    """Return a section with its chart twice: for wide screens and for narrow ones, so that text keeps its size."""
    wide, narrow = draw(WIDE_PX), draw(NARROW_PX)
    return (
        f'<section><h2>{escape(title)}</h2><div class="wide">{wide}</div>'
        f'<div class="narrow">{narrow}</div>{after}</section>'
    )

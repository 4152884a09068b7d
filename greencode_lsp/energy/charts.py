"""Bars as inline SVG, in CSS variables for colours, so that one page suits light and dark screens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

CHARACTER_PX = 7.0
"""How wide a character of the style's 12 px is, at most, on average."""
THIN_PX = 10
"""Below it, a bar has no outline."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, perhaps with a second part on top: what was spent, and what was saved."""

    name: str
    value: float
    more: float = 0.0
    note: str = ""

    def parts(self) -> list[tuple[str, float, float]]:
        """Return class, start and end of each part that has a length."""
        end = self.value + max(0.0, self.more)
        parts = [("spent", 0.0, self.value), ("saved", self.value, end)]
        return [(kind, low, high) for kind, low, high in parts if high > low]


@dataclass(frozen=True, slots=True)
class Axes:
    """What a chart's axes say, units included."""

    x: str
    y: str


def ticks(most: float, count: int = 5) -> list[float]:
    """Return round numbers from 0 to at least `most`, at most about `count` steps apart."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    return [step * i for i in range(math.ceil(most / step - 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1e5 else f"{value:.0e}"


def _shortened(name: str, most: int) -> str:
    """Return the name, its end left out where it has more than `most` characters: figures behind it need the room."""
    return name if len(name) <= most else f"{name[: max(1, most - 1)]}…"


def _text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def _rect(kind: str, corner: tuple[float, float], size: tuple[float, float], title: str) -> str:
    place = f'x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"'
    return f'<rect class="{kind}" {place}><title>{escape(title)}</title></rect>'


def columns(bars: Sequence[Bar], axes: Axes, width: int, height: int = 240) -> str:
    """Return upright bars over a labelled axis; every n-th name where there is no room for all."""
    marks = ticks(max((bar.value + max(0.0, bar.more) for bar in bars), default=0.0))
    left = 30 + CHARACTER_PX * max(len(_number(mark)) for mark in marks)
    top, bottom, right = 10, height - 48, width - 8

    def at(value: float) -> float:
        return bottom - (bottom - top) * value / marks[-1]

    out = []
    for mark in marks:
        out.append(f'<line class="grid" x1="{left:.1f}" x2="{right}" y1="{at(mark):.1f}" y2="{at(mark):.1f}"/>')
        out.append(_text(left - 6, at(mark) + 4, _number(mark), 'text-anchor="end"'))
    slot = (right - left) / max(1, len(bars))
    thick = min(48.0, slot * 0.72)
    longest = max((len(bar.name) for bar in bars), default=1)
    every = max(1, math.ceil((longest + 1.5) * CHARACTER_PX / slot))
    for i, bar in enumerate(bars):
        x = left + slot * i + (slot - thick) / 2
        for kind, low, high in bar.parts():
            out.append(_rect(kind, (x, at(high)), (thick, at(low) - at(high)), bar.note or bar.name))
        if i % every == 0:
            half = CHARACTER_PX * len(bar.name) / 2
            middle = min(max(x + thick / 2, left + half - 8), width - half)
            out.append(_text(middle, bottom + 16, bar.name, 'text-anchor="middle"'))
    out.append(_text((left + right) / 2, height - 8, axes.x, 'text-anchor="middle" class="axis"'))
    turned = f'text-anchor="middle" class="axis" transform="rotate(-90 12 {(top + bottom) / 2:.1f})"'
    out.append(_text(12, (top + bottom) / 2, axes.y, turned))
    return _svg(out, width, height, f"{axes.y} by {axes.x}", "thin" if thick < THIN_PX else "")


def rows(bars: Sequence[Bar], axes: Axes, width: int) -> str:
    """Return lying bars, each under its name and note, over a labelled axis."""
    line = 42
    marks = ticks(max((bar.value + max(0.0, bar.more) for bar in bars), default=0.0), 5 if width > 400 else 3)
    left, right = 2.0, width - 8 - CHARACTER_PX * len(_number(marks[-1])) / 2
    bottom = line * len(bars) + 4
    height = bottom + 42

    def at(value: float) -> float:
        return left + (right - left) * value / marks[-1]

    out = []
    for mark in marks:
        out.append(f'<line class="grid" x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="0" y2="{bottom}"/>')
        anchor = "middle" if mark else "start"
        out.append(_text(at(mark), bottom + 16, _number(mark), f'text-anchor="{anchor}"'))
    for i, bar in enumerate(bars):
        y = line * i
        name = _shortened(bar.name, int(right / CHARACTER_PX) - len(f": {bar.note}"))
        out.append(_text(left, y + 15, f"{name}: {bar.note}", 'class="name"'))
        for kind, low, high in bar.parts():
            out.append(_rect(kind, (at(low), y + 21), (at(high) - at(low), 14), bar.note))
    out.append(_text((left + right) / 2, height - 8, axes.x, 'text-anchor="middle" class="axis"'))
    return _svg(out, width, height, f"{axes.x} by {axes.y}")


def _svg(parts: Sequence[str], width: int, height: int, label: str, kind: str = "") -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg role="img" class="{kind}" aria-label="{escape(label)}" {size}>{"".join(parts)}</svg>'

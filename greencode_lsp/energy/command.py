"""`greencode-lsp energy`: the ledger's report in the form that was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from greencode_lsp.energy.ledger import read_rows
from greencode_lsp.energy.page import to_html
from greencode_lsp.energy.report import Scope, report, since_of, to_json
from greencode_lsp.energy.rows import utc_now
from greencode_lsp.energy.show import to_csv, to_text
from greencode_lsp.errors import LedgerError, SettingError
from greencode_lsp.models.store import ledger_path

Form = Literal["text", "json", "html", "csv"]
MAX_CARBON_INTENSITY = 2000.0
"""Grams of CO2e per kWh: coal emits about half of it."""


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What the command line asks for."""

    scope: Scope = "today"
    form: Form = "text"
    file: str | None = None
    """Where a page or a table goes; None or "-": it is printed."""
    carbon_intensity: float | None = None
    block: str = "#"
    """What bars are made of."""


def figures(scope: Scope, intensity: float | None, *, with_page: bool) -> dict[str, Any]:
    """Return the report as plain values, with the page under `html` where wanted; `intensity` in grams CO2e per kWh.

    Raises LedgerError where the ledger cannot be read.
    """
    sums = report(ledger_path(), scope, intensity)
    return to_json(sums) | ({"html": to_html(sums)} if with_page else {})


def run(wanted: ReportOptions, write: Callable[[str], None]) -> None:
    """Write the report. Raises LedgerError or SettingError, each naming what to fix."""
    intensity = wanted.carbon_intensity
    if intensity is not None and not 0 <= intensity <= MAX_CARBON_INTENSITY:
        raise SettingError(f"A carbon intensity of {intensity:g} is not between 0 and 2000 g CO2e per kWh; give one.")
    if wanted.form == "csv":
        text = to_csv(read_rows(ledger_path(), since_of(wanted.scope, utc_now().astimezone())))
    else:
        sums = report(ledger_path(), wanted.scope, intensity)
        if wanted.form == "html":
            text = to_html(sums)
        else:
            text = json.dumps(to_json(sums), indent=2) if wanted.form == "json" else to_text(sums, wanted.block)
    if wanted.file in (None, "-"):
        write(text.removesuffix("\n"))
        return
    path = Path(str(wanted.file)).expanduser()
    try:
        path.write_text(text, encoding="utf8", newline="")
    except OSError as error:
        raise LedgerError(f"{path} cannot be written ({error.strerror or error}); name another file.") from error
    write(f"{path}")

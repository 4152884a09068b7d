"""The report: sums worked by hand, its forms, and what it says where there is little to say."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest

from greencode_lsp import cli
from greencode_lsp.energy import device_profile
from greencode_lsp.energy.bounds import saved_bounds
from greencode_lsp.energy.charts import CHARACTER_PX, Axes, Bar, columns, rows, ticks
from greencode_lsp.energy.ledger import Ledger
from greencode_lsp.energy.page import to_html
from greencode_lsp.energy.report import SCOPES, EnergyReport, report, since_of, to_json
from greencode_lsp.energy.rows import OUTCOMES, LedgerRow
from greencode_lsp.energy.show import joules, to_csv, to_text
from greencode_lsp.models.store import ledger_path
from tests.test_energy_device_profile import PROFILE

NOON = datetime(2026, 3, 10, 12, 0).astimezone()
ROW = LedgerRow(
    language="python",
    model="mini-1",
    preference=0.5,
    tokens=4,
    energy_j=2.0,
    energy_tier="modelled",
    full_depth_j=2.5,
    elapsed_ms=80.0,
    device="cpu",
    exit_layers={4: 3, 20: 1},
    time_utc=NOON,
)
AUDIT = replace(ROW, outcome="audit", tokens=10, agreed_tokens=9, promised=0.98, energy_j=1.0, full_depth_j=0.0)


def reported(*found: LedgerRow, scope: str = "all", carbon_intensity: float | None = None) -> EnergyReport:
    ledger = Ledger(Path(":memory:"))
    for row in found:
        ledger.add(row)
    assert scope in SCOPES
    return report(ledger, scope, carbon_intensity, NOON)


def test_spent_and_saved_are_sums_over_rows() -> None:
    found = reported(ROW, replace(ROW, energy_j=3.0, full_depth_j=3.5))
    assert (found.total.energy_j, found.total.saved_j, found.saved_share) == (5.0, 1.0, 1.0 / 6.0)
    assert (found.total.completions, found.total.tokens) == (2, 8)


def test_audits_are_paid_for_out_of_what_was_saved() -> None:
    found = reported(ROW, AUDIT)
    assert (found.total.energy_j, found.total.saved_j, found.audit_j) == (3.0, -0.5, 1.0)
    assert found.total.completions == 1


@pytest.mark.parametrize("scope", ["today", "all"])
@pytest.mark.parametrize("grouped", ["outcomes", "languages", "preferences", "over_time"])
def test_groups_add_up_to_the_total_whatever_audits_took(grouped: str, scope: str) -> None:
    late = replace(AUDIT, time_utc=NOON + timedelta(hours=3))
    found = reported(ROW, replace(ROW, outcome="empty"), AUDIT, late, scope=scope)
    groups = getattr(found, grouped)
    assert sum(group.energy_j for group in groups) == found.total.energy_j == 6.0
    assert sum(group.saved_j for group in groups) == found.total.saved_j
    assert sum(group.completions for group in groups) == found.total.completions == 2


def test_audits_have_a_card_and_a_bar_even_where_none_had_a_token_to_count() -> None:
    found = reported(replace(AUDIT, tokens=0, agreed_tokens=0))
    assert found.promises == () and [group.name for group in found.outcomes] == ["audit"]
    assert "audit_tier: modelled" in to_text(found) and "audit_tier: modelled" in to_html(found)
    assert re.search(r"J by day\n.* #+ .*1 J", to_text(found, block="#"))


def test_all_joules_are_paid_for_by_the_characters_accepted() -> None:
    found = reported(ROW, replace(ROW, outcome="accepted", accepted_characters=8))
    assert found.accepted_character_j == 0.5


def test_wasted_is_what_brought_the_user_nothing() -> None:
    found = reported(*(replace(ROW, outcome=outcome) for outcome in OUTCOMES))
    assert (found.wasted_j, found.wasted_share) == (6.0, 6.0 / 16.0)


def test_groups_are_by_language_preference_outcome_and_exit_layer() -> None:
    found = reported(ROW, replace(ROW, language="java", energy_j=9.0), replace(ROW, preference=1.0, outcome="empty"))
    assert [group.name for group in found.languages] == ["java", "python"]
    assert {group.name: group.completions for group in found.preferences} == {"0.5": 2, "1": 1}
    assert [group.name for group in found.outcomes] == ["shown", "empty"]
    assert found.exit_layers == {4: 9, 20: 3}


def test_a_sum_is_as_sure_as_its_weakest_row() -> None:
    attributed = replace(ROW, energy_tier="attributed")
    assert reported(attributed, attributed).total.energy_tier == "attributed"
    assert reported(attributed, ROW).total.energy_tier == "modelled"


def test_net_is_reported_only_where_idle_is_known_of_every_row() -> None:
    known = replace(ROW, idle_j=0.5)
    assert reported(known, known).net_j == 3.0
    assert reported(known, ROW).net_j is None


@pytest.mark.parametrize(("scope", "completions", "stretches"), [("today", 1, 24), ("week", 2, 7), ("all", 3, 11)])
def test_a_scope_begins_at_a_local_midnight(scope: str, completions: int, stretches: int) -> None:
    old = [replace(ROW, time_utc=NOON - timedelta(days=days)) for days in (0, 6, 10)]
    found = reported(*old, scope=scope)
    assert (found.total.completions, len(found.over_time)) == (completions, stretches)
    assert sum(group.completions for group in found.over_time) == completions


def test_a_scope_knows_the_days_of_the_local_zone() -> None:
    assert since_of("today", NOON) == NOON - timedelta(hours=12)
    assert since_of("all", NOON) is None


def test_co2_is_kilowatt_hours_times_intensity_and_reported_only_where_that_is_given() -> None:
    found = reported(replace(ROW, energy_j=3.6e6, full_depth_j=7.2e6), carbon_intensity=400.0)
    assert (found.co2_g(found.total.energy_j), to_json(found)["saved_co2_g"]) == (400.0, 400.0)
    assert to_json(reported(ROW))["co2_g"] is None
    assert "CO2" not in to_text(reported(ROW)) + to_html(reported(ROW))


def test_a_promise_stands_beside_what_audits_observed() -> None:
    found = reported(ROW, AUDIT, replace(AUDIT, agreed_tokens=10), replace(AUDIT, promised=0.9))
    first, second = found.promises
    assert (first.promised, second.promised) == (0.9, 0.98)
    assert (second.audits, second.tokens) == (2, 20)
    assert second.observed == pytest.approx(0.95)
    assert second.observed_95.low < 0.95 < second.observed_95.high
    assert "promised 98.0 %" in to_text(found) and "promised 98.0 %" in to_html(found)


def test_few_rows_have_no_interval() -> None:
    found = reported(ROW)
    assert (found.saved_j_95, found.saved_share_95) == (None, None)
    assert "fewer than 10" in found.uncertainty


def varied(count: int) -> list[tuple[float, float]]:
    return [(2.0 + i % 3, 1.5 + i % 2) for i in range(count)]


def test_the_bootstrap_holds_the_sum_and_narrows_with_rows() -> None:
    widths = []
    for count in (30, 3000):
        pairs = varied(count)
        saved_j = sum(full - spent for full, spent in pairs)
        joule, share = saved_bounds(pairs, 0.0)
        assert joule is not None and share is not None
        assert joule.low < saved_j < joule.high
        widths.append(share.high - share.low)
    assert widths[1] < widths[0] / 5


def test_the_models_own_error_widens_the_interval() -> None:
    _, share = saved_bounds([(2.0, 1.5)] * 50, share_error=0.04)
    assert share is not None
    assert [share.low, share.high] == pytest.approx([0.21, 0.29])


def test_a_stored_profiles_error_is_in_the_interval_and_named() -> None:
    found = [replace(ROW, model=PROFILE.checkpoint)] * 20
    before = reported(*found)
    device_profile.save(replace(PROFILE, saved_share_error=0.05))
    after = reported(*found)
    assert before.saved_share_95 is not None and after.saved_share_95 is not None
    assert after.saved_share_95.low == pytest.approx(before.saved_share_95.low - 0.05)
    assert "own error is not in it" in before.uncertainty and "5.0%" in after.uncertainty


def test_every_figure_of_energy_in_json_stands_beside_its_tier() -> None:
    def check(value: object) -> int:
        if isinstance(value, list):
            return sum(check(item) for item in value)
        if not isinstance(value, dict):
            return 0
        figures = [key for key in value if key.endswith("_j")]
        for key in figures:
            assert value[key.removesuffix("_j") + "_tier"] in ("modelled", "attributed"), key
        return len(figures) + sum(check(item) for item in value.values())

    assert check(to_json(reported(ROW, AUDIT))) > 10


def test_json_has_no_text_that_is_not_json() -> None:
    assert json.loads(json.dumps(to_json(reported(ROW, AUDIT)), allow_nan=False))["scope"] == "all"


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_is_no_formula_in_csv(name: str) -> None:
    _, line = csv.reader(io.StringIO(to_csv([replace(ROW, language=name, model=name)]), newline=""))
    assert line.count("'" + name) == 2


def test_csv_has_a_header_and_a_line_for_each_row() -> None:
    header, *lines = csv.reader(io.StringIO(to_csv([ROW, AUDIT])))
    assert len(lines) == 2 and {len(line) for line in lines} == {len(header)}
    first = dict(zip(header, lines[0], strict=True))
    assert (first["energy_j"], first["energy_tier"], first["full_depth_tier"]) == ("2.0", "modelled", "modelled")


@pytest.mark.parametrize(
    ("energy_j", "text"),
    [(0.0, "0 J"), (0.00012, "0.12 mJ"), (0.5, "500 mJ"), (1.234, "1.23 J"), (-2.0, "-2 J"), (4567.0, "4.57 kJ"),
     (7.5e6, "7.5 MJ")],
)  # fmt: skip
def test_joules_are_shown_to_three_figures(energy_j: float, text: str) -> None:
    assert joules(energy_j) == text


def test_the_terminal_shows_bars_as_long_as_their_values() -> None:
    shown = to_text(reported(ROW, ROW, replace(ROW, language="java")), block="#")
    bars = dict(re.findall(r"^ +(python|java) (#+)", shown, re.MULTILINE))
    assert (len(bars["python"]), len(bars["java"])) == (40, 20)


def test_nothing_yet_is_said_so() -> None:
    assert "Nothing yet" in to_text(reported()) and "Nothing yet" in to_html(reported())


class Page(HTMLParser):
    """Collects what a page refers to and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [str(value) for name, value in attributes if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass  # opened and closed at once

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_refers_to_nothing_outside() -> None:
    found = to_html(reported(ROW, AUDIT, carbon_intensity=300.0))
    page = Page()
    page.feed(found)
    assert page.open == []
    assert page.links == [] and "<script" not in found and "url(" not in found and "@import" not in found
    assert "prefers-color-scheme: dark" in found


def test_a_name_from_an_editor_is_text_in_the_page() -> None:
    found = to_html(reported(replace(ROW, language="<i>x")))
    assert "<i>" not in found and "&lt;i&gt;x" in found


@pytest.mark.parametrize("count", [1, 7, 24, 366])
@pytest.mark.parametrize("width", [284, 650])
def test_nothing_of_a_chart_is_outside_its_frame(count: int, width: int) -> None:
    bars = [Bar(f"{i:05}", float(i + 1), more=0.5) for i in range(count)]
    for chart in (columns(bars, Axes("day", "energy, J"), width), rows(bars, Axes("energy, J", "day"), width)):
        root = ElementTree.fromstring(chart)
        height = float(root.attrib["height"])
        texts = [part.text for part in root.iter("text")]
        assert {"energy, J"} <= set(texts)
        for part in root.iter("rect"):
            x, y, w, h = (float(part.attrib[name]) for name in ("x", "y", "width", "height"))
            assert x >= 0 and x + w <= width + 0.1 and y >= 0 and y + h <= height
        for part in root.iter("text"):
            anchor, words = part.attrib.get("text-anchor"), 7.0 * len(str(part.text))
            if "transform" in part.attrib or part.attrib.get("class") == "name":
                continue
            left = float(part.attrib["x"]) - {"middle": words / 2, "end": words}.get(str(anchor), 0.0)
            assert left >= -8 and left + words <= width + 8, part.text


@pytest.mark.parametrize("width", [284, 650])
def test_a_long_name_is_shortened_so_that_its_figures_stay_in_sight(width: int) -> None:
    note = "1.23 kJ, saved 12.3 %"
    chart = rows([Bar("language" * 20, 1.0, note=note), Bar("java", 1.0, note=note)], Axes("energy, J", "x"), width)
    long, short = (part.text for part in ElementTree.fromstring(chart).iter("text") if part.get("class") == "name")
    assert long is not None and len(long) * CHARACTER_PX <= width
    assert long.startswith("language") and long.endswith(f"…: {note}")
    assert short == f"java: {note}"


@pytest.mark.parametrize(
    ("most", "last"), [(0.0, 1.0), (0.9, 1.0), (7.0, 8.0), (98.0, 100.0), (441.0, 500.0), (1e6, 1e6)]
)
def test_ticks_are_round_and_reach_the_largest_value(most: float, last: float) -> None:
    assert ticks(most)[0] == 0.0
    assert ticks(most)[-1] == pytest.approx(last)


def fill(count: int = 12) -> None:
    ledger = Ledger(ledger_path())
    for _ in range(count):
        ledger.add(replace(ROW, time_utc=datetime.now(timezone.utc)))
    ledger.close()


@pytest.mark.parametrize("form", [[], ["--json"], ["--html", "-"], ["--csv", "-"]], ids=["text", "json", "html", "csv"])
def test_without_counters_no_output_says_measured_and_every_tier_says_modelled(
    form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fill()
    assert cli.main(["energy", "all", "--carbon-intensity", "300", *form]) == 0
    out = capsys.readouterr().out
    assert "measured" not in out.lower() and "attributed" not in out
    tiers = re.findall(r'_tier"?: "?(\w+)', out)
    assert set(tiers) <= {"modelled"} and (tiers or form == ["--csv", "-"])


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_without_counters_the_demo_says_modelled_of_every_figure(
    form: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("greencode_lsp.energy.detect.open_rapl", lambda fallback, notify: None)
    assert cli.main(["demo", *form]) == 0
    out = capsys.readouterr().out
    assert "measured" not in out
    assert set(re.findall(r'_tier"?: "?(\w+)', out)) == {"modelled"}


def test_the_command_line_knows_the_reports_scopes() -> None:
    assert cli.SCOPES == SCOPES


def test_a_file_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill()
    path = tmp_path / "energy.html"
    assert cli.main(["energy", "--html", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_text(encoding="utf8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--carbon-intensity", "-1"], "not between 0 and 2000"),
        (["--carbon-intensity", "nan"], "not between 0 and 2000"),
        (["--html", "/nonexistent/energy.html"], "name another file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["energy", *options]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and sentence in captured.err and captured.err.count("\n") == 1


def test_a_ledger_of_a_newer_version_is_reported_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(ledger_path()) as database:
        database.execute("PRAGMA user_version = 99")
    assert cli.main(["energy"]) == 1
    assert "newer greencode-lsp" in capsys.readouterr().err

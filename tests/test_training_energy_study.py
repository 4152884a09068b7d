"""The energy study's parts: windows, turns, intervals, tables. Nothing here is timed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from greencode_lsp.energy.sampler import Usage
from greencode_lsp.engine.load import load_engine
from greencode_lsp.errors import SettingError
from greencode_lsp.records import FixedControl
from tests import reference
from tests.fakes import tokenizer
from training.bench import energy_study
from training.bench.energy_results import (
    FULL,
    NEW_TOKENS,
    PAPER,
    PAPER_CODEBLEU,
    REST,
    UNCACHED,
    StudyWindow,
    interval,
    of_one_kind,
    summary,
    to_markdown,
    write,
)
from training.bench.energy_study import CACHED, Complete, Line, StudyOptions, measure, own_methods, quality, replay
from training.data.cursors import SourcePosition

PROMPTS = [[1, 2], [3], [4]]


class Machine:
    """A clock that moves with the work, and a counter that shows 30 W."""

    devices: tuple[str, ...] = ("fake",)
    period_s = 0.001

    def __init__(self) -> None:
        self.now_s = self.others_s = 0.0
        self.asked: list[str] = []

    def read_j(self) -> float:
        return 30.0 * self.now_s

    def usage(self) -> Usage | None:
        return Usage(self.now_s, self.now_s + self.others_s)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def method(self, name: str, seconds: float) -> energy_study.Complete:
        def run(prompt: Sequence[int]) -> list[int]:
            self.now_s += seconds
            self.asked.append(name)
            return [1] * NEW_TOKENS

        return run


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake = Machine()
    clock = SimpleNamespace(perf_counter=lambda: fake.now_s, sleep=fake.sleep)
    monkeypatch.setattr(energy_study, "time", clock)
    monkeypatch.setattr(energy_study, "find_counter", lambda device: None)
    monkeypatch.setattr(energy_study, "busy_clock", lambda device, threads: lambda: fake.now_s)
    return fake


def test_a_window_is_whole_passes_over_the_prompts_and_as_long_as_asked(machine: Machine) -> None:
    found = replay(machine.method("a", 0.7), PROMPTS, 5.0, None, lambda: machine.now_s / 2)
    assert found["completions"] == 9
    assert [found["seconds"], found["busy_s"]] == pytest.approx([6.3, 3.15])


@pytest.mark.parametrize(
    ("window_s", "others_s", "tier"),
    [
        (5.0, 0.0, "measured"),
        (5.0, 0.04, "measured"),
        (1.0, 0.0, "attributed"),
        (5.0, 0.15, "modelled"),
        (5.0, 9.0, "modelled"),
    ],
)
def test_a_windows_joules_are_as_sure_as_it_is_long_and_the_device_ours(
    window_s: float, others_s: float, tier: str, machine: Machine
) -> None:
    def method(prompt: Sequence[int]) -> list[int]:
        machine.now_s += 1.0
        machine.others_s += others_s
        return []

    found = replay(method, PROMPTS, window_s, machine, lambda: machine.now_s)
    assert found["energy_tier"] == tier
    assert tier == "modelled" or found["energy_j"] == pytest.approx(30.0 * found["seconds"])


def measured(machine: Machine, folder: Path, options: StudyOptions) -> list[StudyWindow]:
    methods = {name: machine.method(name, 0.5) for name in ("a", "b", "c")}
    return measure(methods, PROMPTS, options, folder / "part", "cpu")


def order(machine: Machine) -> list[str]:
    return [name for name, before in zip(machine.asked, ["", *machine.asked], strict=False) if name != before]


def test_every_round_takes_every_way_once_in_an_order_of_the_seed(machine: Machine, tmp_path: Path) -> None:
    windows = measured(machine, tmp_path, StudyOptions(repeats=4, window_s=1.0))
    assert sorted((w.round, w.method) for w in windows) == [(r, w) for r in range(4) for w in "abc"]
    assert len({tuple(w.method for w in windows if w.round == r) for r in range(4)}) > 1
    first = [w.method for w in windows]
    (tmp_path / "part").unlink()
    assert [w.method for w in measured(machine, tmp_path, StudyOptions(repeats=4, window_s=1.0))] == first
    (tmp_path / "part").unlink()
    assert [w.method for w in measured(machine, tmp_path, StudyOptions(repeats=4, window_s=1.0, seed=1))] != first


def test_without_a_counter_joules_are_a_stated_power_times_seconds(machine: Machine, tmp_path: Path) -> None:
    for window in measured(machine, tmp_path, StudyOptions(repeats=2, window_s=1.0)):
        assert window.energy_j == pytest.approx(25.0 * window.busy_s)
        assert window.energy_tier == "modelled"


def disturbed(machine: Machine, monkeypatch: pytest.MonkeyPatch, turns: Sequence[int]) -> dict[str, Complete]:
    """Return the machine's methods, its counter found; others use it in the turns of `b` that are named."""
    monkeypatch.setattr(energy_study, "find_counter", lambda device: machine)
    taken = iter(range(1000))

    def b(prompt: Sequence[int]) -> list[int]:
        if next(taken) // 13 in turns:  # a turn is one completion to warm up and twelve
            machine.others_s += 0.5
        return machine.method("b", 0.5)(prompt)

    return {"a": machine.method("a", 0.5), "b": b}


def test_with_a_counter_each_round_begins_with_a_rest_and_its_power_is_counted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    methods = disturbed(machine, monkeypatch, ())
    windows = measure(methods, PROMPTS, StudyOptions(repeats=2), tmp_path / "part", "cpu")
    assert [(w.method == REST, w.round) for w in windows] == [(i % 3 == 0, i // 3) for i in range(6)]
    assert {w.energy_tier for w in windows} == {"measured"}
    assert [w.energy_j for w in windows] == pytest.approx([30.0 * w.seconds for w in windows])


def test_a_window_that_others_disturb_is_taken_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    methods = disturbed(machine, monkeypatch, (0, 1))
    windows = measure(methods, PROMPTS, StudyOptions(repeats=2), tmp_path / "part", "cpu")
    assert {w.energy_tier for w in windows} == {"measured"} and len(windows) == 6
    assert machine.asked.count("b") == 13 * 4


def test_a_window_that_stays_disturbed_makes_the_whole_study_modelled_and_when_it_goes_on_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    methods = disturbed(machine, monkeypatch, (0, 1, 2))
    windows = measure(methods, PROMPTS, StudyOptions(repeats=2), tmp_path / "part", "cpu")
    assert [w.method for w in windows if w.method == REST] == [] and len(windows) == 4
    assert {w.energy_tier for w in windows} == {"modelled"}
    assert [w.energy_j for w in windows] == pytest.approx([25.0 * w.busy_s for w in windows])
    assert measure(methods, PROMPTS, StudyOptions(repeats=2), tmp_path / "part", "cpu") == windows


def test_a_run_that_was_stopped_goes_on(machine: Machine, tmp_path: Path) -> None:
    options = StudyOptions(repeats=3, window_s=1.0)
    whole = measured(machine, tmp_path, options)
    lines = (tmp_path / "part").read_text().splitlines()
    (tmp_path / "part").write_text("\n".join(lines[:6]) + "\n")
    machine.asked.clear()
    again = measured(machine, tmp_path, options)
    assert [(w.method, w.round) for w in again] == [(w.method, w.round) for w in whole]
    assert order(machine) == [w.method for w in whole[5:]]


def test_windows_of_other_options_are_not_mixed_in(machine: Machine, tmp_path: Path) -> None:
    measured(machine, tmp_path, StudyOptions(repeats=2, window_s=1.0))
    machine.asked.clear()
    assert len(measured(machine, tmp_path, StudyOptions(repeats=2, window_s=2.0))) == 6
    assert machine.asked


def test_the_interval_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert [low, high] == pytest.approx([2.0 - 2.4841, 2.0 + 2.4841], abs=1e-3)  # 4.3027 / sqrt(3)


def windows() -> list[StudyWindow]:
    out = []
    for number, pace in enumerate((1.0, 2.0)):  # the machine is twice as slow in the second round
        out += [
            StudyWindow(UNCACHED, number, 10, 200.0 * pace, 200.0 * pace, 5000.0 * pace, "modelled"),
            StudyWindow(CACHED, number, 10, 50.0 * pace, 50.0 * pace, 1250.0 * pace, "modelled"),
            StudyWindow(FULL, number, 10, 10.0 * pace, 10.0 * pace, 250.0 * pace, "modelled"),
            StudyWindow("preference 0.5", number, 10, 8.0 * pace, 8.0 * pace, 200.0 * pace, "modelled"),
        ]
    return out


METHODS = [UNCACHED, CACHED, FULL, "preference 0.5"]


def test_ratios_are_by_round_so_that_a_slow_round_is_nobodys_gain() -> None:
    found = summary(windows(), METHODS)
    assert list(found) == METHODS
    assert found["preference 0.5"]["of_full_depth"] == pytest.approx((0.8, 0.8, 0.8))
    assert found["preference 0.5"]["seconds"][0] == pytest.approx(1.2)
    assert found[FULL]["token_j"][0] == pytest.approx(37.5 / NEW_TOKENS)


def counted_windows() -> list[StudyWindow]:
    """Return the same by a counter, with rests of 10 W and 12 W."""
    methods = [replace(w, energy_tier="measured") for w in windows()]
    return methods + [StudyWindow(REST, n, 50, 5.0, 0.0, 5.0 * (10.0 + 2.0 * n), "measured") for n in range(2)]


def test_net_joules_are_without_the_rounds_own_power_at_rest() -> None:
    found = summary(counted_windows(), METHODS)
    assert list(found) == METHODS
    assert found[FULL]["net_j"][0] == pytest.approx(((25.0 - 10.0) + (50.0 - 24.0)) / 2)
    assert found[FULL]["energy_j"][0] == pytest.approx(37.5)


def test_counted_joules_are_not_compared_with_stated_ones() -> None:
    first, *others = counted_windows()
    assert of_one_kind([first, *others], 40.0) == [first, *others]
    disturbed = replace(first, energy_j=math.nan, energy_tier="modelled")
    found = of_one_kind([disturbed, *others], 40.0)
    assert {w.energy_tier for w in found} == {"modelled"} and REST not in {w.method for w in found}
    assert [w.energy_j for w in found] == pytest.approx([40.0 * w.busy_s for w in found])
    assert {row["energy_tier"] for row in summary(found, METHODS).values()} == {"modelled"}
    assert summary(found, METHODS)[FULL]["net_j"] is None


def results() -> dict[str, Any]:
    return {
        "model": "toy",
        "device": "cpu",
        "device_name": "Fake CPU",
        "precision": "int8",
        "threads": 1,
        "power_w": 25.0,
        "options": {"model": "bundled", "repeats": 2, "window_s": 5.0, "seed": 0},
        "prompt_tokens": 200.0,
        "new_tokens": NEW_TOKENS,
        "methods": summary(windows(), METHODS),
        "quality": {
            FULL: {"edit_similarity": 0.3, "agreement": 1.0},
            CACHED: {"edit_similarity": None, "agreement": 1},
        },
        "quality_lines": 100,
        "modelled_time": {"completions": 200, "ratio": 0.97, "within_15_percent": 0.9, "saved_share_error": 0.01},
        "windows": [],
    }


def test_the_table_has_every_way_and_the_papers_and_claims_no_more_than_it_knows() -> None:
    text = to_markdown(results())
    assert all(f"| {name} |" in text for name in (*METHODS, *PAPER))
    assert "measured" not in text and "a stated 25 W" in text
    assert "median 0.970, 90% of them within 15 %" in text


def test_counted_joules_are_shown_gross_and_net() -> None:
    text = to_markdown(results() | {"methods": summary(counted_windows(), METHODS)})
    assert "| energy, J | net, J |" in text and "Joules are the device's counter" in text and "a stated" not in text


def test_the_papers_figures_have_their_quality_beside_them() -> None:
    assert PAPER.keys() == PAPER_CODEBLEU.keys()


def test_the_study_is_written_as_json_markdown_and_a_plot(tmp_path: Path) -> None:
    write(results(), tmp_path)
    assert json.loads((tmp_path / "energy-study.json").read_text())["model"] == "toy"
    assert (tmp_path / "energy-study.png").read_bytes().startswith(b"\x89PNG")
    assert "# Energy study of toy" in (tmp_path / "energy-study.md").read_text()


def test_the_engines_ways_complete_and_full_depth_agrees_with_itself(tmp_path: Path) -> None:
    engine = load_engine(reference.save(reference.llama(), tmp_path), "cpu", "float32")
    methods = own_methods(engine)
    assert {FULL, "fixed exit 2", "preference 0.5", "verified, preference 1"} <= set(methods)
    prompt = [3, 1, 4, 1, 5]
    tokens = {name: method(prompt) for name, method in methods.items()}
    assert {len(found) for found in tokens.values()} == {NEW_TOKENS}
    assert tokens[FULL] == engine.full_depth_argmax(prompt, tokens[FULL], FixedControl())
    lines = [Line(SourcePosition("", 0), prompt, "")]
    found = quality({FULL: methods[FULL]}, engine, tokenizer(), lines)
    assert found[FULL] == {"edit_similarity": None, "agreement": 1.0}


@pytest.mark.parametrize("options", [StudyOptions(repeats=1), StudyOptions(window_s=0.0)])
def test_too_little_for_an_interval_is_refused(options: StudyOptions, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="two windows"):
        energy_study.run(options, tmp_path)

"""Stored profiles: seconds and joules against numbers worked by hand, the fit, the file."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from greencode_lsp.energy.checkpoint import Checkpoint
from greencode_lsp.energy.detect import detect, modelled
from greencode_lsp.energy.device_profile import (
    DeviceProfile,
    Joules,
    ReplayWindow,
    Segment,
    busy_clock,
    fit,
    load,
    profile_path,
    save,
)
from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.records import Work

MS = 1e-3
SEGMENT = Segment({1: 1 * MS, 8: 8 * MS, 64: 32 * MS, 512: 200 * MS}, weight_bytes=1000, operations=2000)
PROFILE = DeviceProfile(
    device="cpu",
    device_name="Fake CPU",
    checkpoint="fake-1",
    precision="int8",
    threads=1,
    exits=(2, 4),
    segments=(SEGMENT, SEGMENT),
    head=Segment({1: 3 * MS, 2: 4 * MS}, weight_bytes=500, operations=1000),
    check_s=0.5 * MS,
    token_s=2 * MS,
    start_s=4 * MS,
)
FAKE_1 = Checkpoint("fake-1", (2, 4), "int8")
JOULES = Joules(idle_w=10.0, byte_j=1e-4, operation_j=1e-5, fit_error=0.02, windows=8, devices=("cpu package-0",))
WORK = Work(
    prompt_tokens=72,
    reused_tokens=8,
    emitted_tokens=3,
    prefill_layer_positions=4 * 64,
    decode_runs=((0, 1), (0, 1), (1, 2)),
    head_runs=(1, 2),
    exit_checks=2,
)
PROMPT_S = 2 * 32 * MS


def test_seconds_are_start_prompt_runs_head_checks_and_tokens() -> None:
    runs_s = 1 * MS + 1 * MS + 2 * MS  # two of the first segment, one of the last over two positions
    heads_s = 3 * MS + 4 * MS  # one position, and two verified together
    expected_s = 4 * MS + PROMPT_S + runs_s + heads_s + 2 * 0.5 * MS + 3 * 2 * MS
    assert PROFILE.seconds(WORK) == pytest.approx(expected_s)


def test_positions_beside_a_prompts_take_what_they_add_to_it() -> None:
    """Their weights are read for the prompt already."""
    mixed = replace(WORK, mixed_runs=((1, 32, 4),))
    assert PROFILE.seconds(mixed) - PROFILE.seconds(WORK) == pytest.approx(4 * (32 - 8) / (64 - 8) * MS)
    (read_bytes, operations), (before_bytes, before) = PROFILE.traffic(mixed), PROFILE.traffic(WORK)
    assert (read_bytes - before_bytes, operations - before) == (0, 4 * PROFILE.segments[1].operations)


def test_full_depth_takes_every_segment_a_token_after_the_first_and_the_same_prompt() -> None:
    expected_s = 4 * MS + PROMPT_S + 2 * 2 * MS + 3 * 3 * MS + 3 * 2 * MS
    assert PROFILE.full_depth_seconds(WORK) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("fed", "segment_ms"),
    [(1, 1.0), (8, 8.0), (36, 20.0), (64, 32.0), (288, 288 * 0.4453125), (512, 200.0), (1024, 400.0)],
)
def test_a_prompts_cost_is_interpolated_and_beyond_the_last_point_in_proportion(fed: int, segment_ms: float) -> None:
    work = Work(prompt_tokens=fed, prefill_layer_positions=4 * fed)
    assert PROFILE.seconds(work) == pytest.approx(4 * MS + 2 * segment_ms * MS)


def test_nothing_run_takes_no_time() -> None:
    assert (PROFILE.seconds(Work()), PROFILE.full_depth_seconds(Work())) == (0.0, 0.0)


def test_a_prompt_that_half_the_layers_ran_costs_half() -> None:
    half = replace(WORK, prefill_layer_positions=2 * 64)
    assert PROFILE.seconds(WORK) - PROFILE.seconds(half) == pytest.approx(PROMPT_S / 2)


def test_joules_are_idle_bytes_and_operations() -> None:
    read_bytes = 2000 + 3 * 1000 + 2 * 500  # the prompt reads every weight once, each run of the head its own
    operations = 64 * 4000 + 4 * 2000 + 3 * 1000
    assert PROFILE.traffic(WORK) == (read_bytes, operations)
    energy_j, idle_j = replace(PROFILE, joules=JOULES).energy_j(WORK, busy_s=0.5) or (0.0, 0.0)
    assert idle_j == 5.0
    assert energy_j == pytest.approx(5.0 + 1e-4 * read_bytes + 1e-5 * operations)


def reading_of(profile: DeviceProfile | None) -> tuple[float, float, str, float | None]:
    ticks = iter((10.0, 10.5))
    meter = ModelledMeter("cpu", 20.0, 0.25, lambda: next(ticks), profile)
    found = meter.open().close(WORK)
    return found.energy_j, found.full_depth_j, found.energy_tier, found.idle_j


def test_without_a_counter_joules_stay_stated_power_and_full_depth_is_by_seconds() -> None:
    energy_j, full_depth_j, tier, idle_j = reading_of(PROFILE)
    ratio = PROFILE.full_depth_seconds(WORK) / PROFILE.seconds(WORK)
    assert (energy_j, tier, idle_j) == (10.0, "modelled", None)
    assert full_depth_j == pytest.approx(10.0 * ratio)


def test_a_shortlist_takes_its_share_of_the_head_over_several_positions_too() -> None:
    profile = replace(PROFILE, shortlist_s=1 * MS)  # a third of the head's
    work = replace(WORK, head_runs=(), shortlist_runs=(1, 2))
    nothing = replace(WORK, head_runs=())
    assert profile.seconds(work) - profile.seconds(nothing) == pytest.approx((3 + 4) * MS / 3)
    read_bytes, operations = (a - b for a, b in zip(profile.traffic(work), profile.traffic(nothing), strict=True))
    assert (read_bytes, operations) == pytest.approx((2 * 500 / 3, 3 * 1000 / 3))


def test_fitted_joules_are_modelled_and_know_their_idle_part() -> None:
    energy_j, _, tier, idle_j = reading_of(replace(PROFILE, joules=JOULES))
    assert (tier, idle_j) == ("modelled", 5.0)
    assert energy_j > 5.0


def test_the_busy_clock_counts_threads_that_work_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greencode_lsp.energy.device_profile.time.process_time", lambda: 6.0)
    assert (busy_clock("cpu")(), busy_clock("cpu", 2)()) == (6.0, 3.0)


def windows(noise: float = 0.0) -> list[ReplayWindow]:
    """Return windows as a device of known coefficients would have them."""
    shapes = [(5.0, 0.0, 0.0), (5.0, 2e9, 1e9), (5.0, 5e8, 9e10), (5.0, 1e9, 3e10), (6.0, 3e9, 6e9), (5.0, 1e8, 5e10)]
    return [
        ReplayWindow(s, b, o, (20.0 * s + 3e-8 * b + 1e-9 * o) * (1 + noise * (-1) ** i))
        for i, (s, b, o) in enumerate(shapes)
    ]


def test_the_fit_finds_the_coefficients() -> None:
    found = fit(windows(), ("cpu",))
    assert [found.idle_w, found.byte_j, found.operation_j] == pytest.approx([20.0, 3e-8, 1e-9], rel=1e-6)
    assert (found.windows, found.devices) == (6, ("cpu",))
    assert found.fit_error == pytest.approx(0.0, abs=1e-6)


def test_the_fit_tells_its_error() -> None:
    assert 0.01 < fit(windows(noise=0.05)).fit_error < 0.05


def test_no_coefficient_is_below_zero() -> None:
    cheaper_busy = [ReplayWindow(5.0, b, o, 100.0 - b * 1e-9) for b, o in ((0, 0), (1e9, 1e9), (2e9, 5e8), (3e9, 7e9))]
    found = fit(cheaper_busy)
    assert found.byte_j == 0.0 and found.operation_j >= 0.0 and found.idle_w > 0.0


@pytest.mark.parametrize(
    "found", [windows()[:2], [replace(w, counted_j=0.0) for w in windows()]], ids=["two", "a counter that stands"]
)
def test_too_little_to_fit_by_is_refused(found: list[ReplayWindow]) -> None:
    with pytest.raises(ValueError, match="windows"):
        fit(found)


@pytest.mark.parametrize("profile", [PROFILE, replace(PROFILE, joules=JOULES, time_ratio=1.02)])
def test_a_profile_is_read_back_as_it_was_saved(profile: DeviceProfile) -> None:
    path = save(profile)
    assert load("cpu", FAKE_1) == profile
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_profiles_are_kept_by_device_and_checkpoint() -> None:
    save(PROFILE)
    assert load("cuda", FAKE_1) is None and load("cpu", replace(FAKE_1, name="fake-2")) is None
    assert load("cpu", replace(FAKE_1, name="fake/1")) is None  # the same file name is another checkpoint's


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format_version": 3}', '{"format_version": 2, "checkpoint": "fake-1"}'],
)
def test_a_file_that_cannot_be_read_is_no_profile(text: str) -> None:
    path = profile_path("cpu", "fake-1")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert load("cpu", FAKE_1) is None


def changed(**values: object) -> Path:
    path = save(PROFILE)
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return path


@pytest.mark.parametrize("values", [{"segments": []}, {"exits": [4, 2]}, {"joules": {"idle_w": 1}}, {"more": 1}])
def test_a_profile_that_does_not_hold_together_is_none(values: dict[str, object]) -> None:
    changed(**values)
    assert load("cpu", FAKE_1) is None


def test_the_modelled_meter_is_profiled_where_the_checkpoint_is_named() -> None:
    save(PROFILE)
    assert modelled("cpu", FAKE_1).profile == PROFILE
    assert modelled("cpu").profile is None
    assert modelled("cuda:1", FAKE_1).profile is None


def test_detect_reads_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greencode_lsp.energy.detect.open_rapl", lambda fallback, notify: None)
    save(PROFILE)
    assert detect("cpu", checkpoint=FAKE_1) == modelled("cpu", FAKE_1)


@pytest.mark.parametrize(
    "other",
    [replace(FAKE_1, exits=(2, 4, 6)), replace(FAKE_1, precision="float32")],
    ids=["more exits", "other arithmetic"],
)
def test_another_model_of_the_same_name_is_not_profiled(other: Checkpoint) -> None:
    save(PROFILE)
    assert load("cpu", other) is None


def test_where_processor_time_moves_in_long_steps_time_that_passes_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert busy_clock("cpu", 2) is time.perf_counter

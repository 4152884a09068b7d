"""`greencode-lsp calibrate`: a tiny real engine, a replayed counter, the bundled model end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from greencode_lsp import calibrate, cli
from greencode_lsp.calibrate import Trial, describe, fitted, judged
from greencode_lsp.demo.positions import positions
from greencode_lsp.energy.calibration import POSITIONS, Calibration, Segment, stored
from greencode_lsp.energy.sampler import CounterLostError, Usage
from greencode_lsp.engine import calibrate as timing
from greencode_lsp.engine.load import load_engine
from greencode_lsp.records import Work
from tests import reference
from tests.test_energy_calibration import CALIBRATION

WORKS = {
    "tokens": Work(prompt_tokens=8, prefill_layer_positions=32, decode_runs=((0, 1), (1, 1)) * 20, head_positions=21),
    "prompts": Work(prompt_tokens=512, prefill_layer_positions=2048, head_positions=1),
    "both": Work(prompt_tokens=64, prefill_layer_positions=256, decode_runs=((0, 1),) * 40, head_positions=41),
}
IDLE_W, BYTE_J, OPERATION_J = 12.0, 2e-4, 3e-7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.save(reference.llama(max_position_embeddings=128), tmp_path_factory.mktemp("model"))


def test_every_part_is_timed_and_more_positions_never_cost_less(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32")
    parts = timing.time_parts(engine, folder, rounds=2)
    assert len(parts.segments) == len(engine.exits)
    for segment in parts.segments:
        assert list(segment.seconds) == [m for m in POSITIONS if m < 128]
        assert list(segment.seconds.values()) == sorted(segment.seconds.values()) and segment.seconds[1] > 0.0
    assert parts.head.seconds[1] > 0.0
    assert min(parts.check_s, parts.token_s, parts.start_s) >= 0.0
    assert parts.threads >= 1 and parts.device_name


def test_a_model_without_exits_is_timed_too(tmp_path: Path) -> None:
    reference.save(reference.llama(max_position_embeddings=128), tmp_path)
    (tmp_path / "greencode.json").unlink()
    engine = load_engine(tmp_path, "cpu", "float32")
    (segment,) = timing.time_parts(engine, tmp_path, rounds=1).segments
    assert segment.seconds[1] > 0.0


def test_weights_are_counted_by_segment_and_head(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32")
    segments, head = timing.weight_counts(folder, engine.exits)
    assert engine.exits == (1, 2, 4)
    assert segments == [segments[0], segments[0], 2 * segments[0]]
    assert head == reference.VOCAB * 48


def test_replays_differ_in_what_they_read_and_compute(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32")
    found = [of_shape(engine.exits).traffic(replay.run()) for replay in timing.replays(engine)]
    shares = {round(operations / read_bytes, 3) for read_bytes, operations in found}
    assert len(found) >= 5 and len(shares) >= 4


def of_shape(exits: tuple[int, ...]) -> Calibration:
    """Return a calibration of a model with these exits."""
    return replace(CALIBRATION, exits=exits, segments=(Segment({1: 1e-3}, 1000, 2000),) * len(exits))


class FakeCounter:
    """A device of known coefficients, whose clock moves with the work."""

    devices: tuple[str, ...] = ("fake",)
    period_s = 0.001

    def __init__(self) -> None:
        self.now_s = self.total_j = self.others_s = 0.0
        self.lost = False

    def read_j(self) -> float:
        if self.lost:
            raise CounterLostError("gone")
        return self.total_j

    def usage(self) -> Usage | None:
        return Usage(self.now_s, self.now_s + self.others_s)

    def pass_time(self, seconds: float, work: Work = Work()) -> None:  # noqa: B008 - frozen
        read_bytes, operations = CALIBRATION.traffic(work)
        self.now_s += seconds
        self.total_j += IDLE_W * seconds + BYTE_J * read_bytes + OPERATION_J * operations

    def replay(self, work: Work) -> Callable[[], Work]:
        def run() -> Work:
            self.pass_time(0.05, work)
            return work

        return run


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> FakeCounter:
    fake = FakeCounter()
    clock = SimpleNamespace(monotonic=lambda: fake.now_s, sleep=fake.pass_time)
    monkeypatch.setattr(calibrate, "time", clock)
    return fake


def test_joules_are_fitted_over_windows_of_five_seconds(counter: FakeCounter) -> None:
    told: list[str] = []
    found = fitted(CALIBRATION, counter, [(n, counter.replay(w)) for n, w in WORKS.items()], told.append)
    assert found is not None
    assert [found.idle_w, found.byte_j, found.operation_j] == pytest.approx([IDLE_W, BYTE_J, OPERATION_J], rel=1e-3)
    assert (found.windows, found.devices) == (4, ("fake",))
    assert counter.now_s == pytest.approx(4 * 5.0, abs=0.3)
    assert "of nothing: 12.0 W" in told[0]


def test_where_others_use_the_device_nothing_is_fitted_and_that_is_told(counter: FakeCounter) -> None:
    told: list[str] = []

    def run() -> Work:
        counter.others_s += 0.05
        return counter.replay(WORKS["both"])()

    assert fitted(CALIBRATION, counter, [("both", run)], told.append) is None
    assert "Other programs" in told[-1]


@pytest.mark.parametrize("what", ["lost", "stands"])
def test_a_counter_that_fails_is_told_and_nothing_is_fitted(what: str, counter: FakeCounter) -> None:
    told: list[str] = []

    def run() -> Work:
        counter.now_s += 0.5
        counter.lost = what == "lost"
        return WORKS["both"]

    assert fitted(CALIBRATION, counter, [("both", run)] * 3, told.append) is None
    assert "cannot be used" in told[-1]


def test_trials_say_how_right_the_times_are() -> None:
    found = judged(
        CALIBRATION, [Trial(10.0, 8.0, 11.0, 9.9), Trial(10.0, 8.0, 9.0, 8.1), Trial(20.0, 20.0, 20.0, 14.0)]
    )
    assert found.time_ratio == pytest.approx((1.0 + 1.0125) / 2)
    assert found.saved_share_error == pytest.approx(36.0 / 40.0 - 32.0 / 40.0)


def test_without_trials_nothing_is_said_of_them() -> None:
    assert judged(CALIBRATION, []) == CALIBRATION


def test_the_times_are_shown_by_segment_and_size() -> None:
    lines = describe(CALIBRATION)
    assert lines[1].split() == ["segment", "to", "layer", "1", "8", "64", "512"]
    assert lines[2].split() == ["2", "1.000", "8.000", "32.000", "200.000"]


def test_the_bundled_model_is_calibrated_and_the_result_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "BUDGET_S", 0.0)
    monkeypatch.setattr(calibrate, "TRIALS", 1)
    monkeypatch.setattr(calibrate, "positions", lambda: positions()[:2])
    monkeypatch.setattr(calibrate, "find_counter", lambda device: None)
    assert cli.main(["calibrate"]) == 0
    out = capsys.readouterr().out
    assert "measured" not in out and "a stated power of 25 W" in out
    kept = stored("cpu", "mini-2")
    assert kept is not None
    assert kept.joules is None and kept.time_ratio is not None and kept.time_ratio > 0.0
    work = Work(prompt_tokens=100, emitted_tokens=8, prefill_layer_positions=2000, head_positions=8)
    assert 0.0 < kept.seconds(work) < kept.full_depth_seconds(work)

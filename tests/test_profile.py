"""`greencode-lsp profile`: a tiny real engine, a replayed counter, the bundled model end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from greencode_lsp import cli, profile
from greencode_lsp.completion.backend import Backend
from greencode_lsp.demo.positions import CursorPosition, positions
from greencode_lsp.energy.device_profile import POSITIONS, DeviceProfile, Segment, stored
from greencode_lsp.energy.sampler import CounterLostError, Usage
from greencode_lsp.engine import timing
from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.onnx.model import OnnxModel, OnnxRunner
from greencode_lsp.engine.policy import AgentPolicy, observation_size, policies_of
from greencode_lsp.engine.state import Vector
from greencode_lsp.engine.timing import time_checkpoint
from greencode_lsp.profile import Trial, describe, fitted, judged, trials
from greencode_lsp.records import Work
from greencode_lsp.settings import Settings
from tests import fakes, reference
from tests.test_energy_device_profile import PROFILE

WORKS = {
    "tokens": Work(prompt_tokens=8, prefill_layer_positions=32, decode_runs=((0, 1), (1, 1)) * 20, head_runs=(1,) * 21),
    "prompts": Work(prompt_tokens=512, prefill_layer_positions=2048, head_runs=(1,)),
    "both": Work(prompt_tokens=64, prefill_layer_positions=256, decode_runs=((0, 1),) * 40, head_runs=(1,) * 41),
}
IDLE_W, BYTE_J, OPERATION_J = 12.0, 2e-4, 3e-7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.save(reference.llama(max_position_embeddings=128), tmp_path_factory.mktemp("model"))


def test_every_part_is_timed_and_more_positions_never_cost_less(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32")
    parts = timing.time_parts(engine, rounds=3)
    assert len(parts.segments) == len(engine.exits)
    for segment in parts.segments:
        assert list(segment.seconds) == [m for m in POSITIONS if m < 128]
        assert list(segment.seconds.values()) == sorted(segment.seconds.values()) and segment.seconds[1] > 0.0
    assert parts.head.seconds[1] > 0.0
    assert min(parts.check_s, parts.token_s, parts.start_s) >= 0.0
    assert parts.threads >= 1 and parts.device_name


def test_in_two_seconds_small_batches_are_typical_ones(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32")
    parts = timing.time_parts(engine, rounds=timing.QUICK_ROUNDS)
    for part in (*parts.segments, parts.head):
        assert {m: part.seconds[m] / part.seconds[1] for m in timing.TYPICAL} == pytest.approx(timing.TYPICAL)


def test_a_model_without_exits_is_timed_too(tmp_path: Path) -> None:
    reference.save(reference.llama(max_position_embeddings=128), tmp_path)
    (tmp_path / "greencode.json").unlink()
    engine = load_engine(tmp_path, "cpu", "float32")
    (segment,) = timing.time_parts(engine, rounds=1).segments
    assert segment.seconds[1] > 0.0


def test_weights_are_counted_by_segment_and_head(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32")
    parts = timing.time_parts(engine, rounds=1)
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 80
    assert [segment.operations for segment in parts.segments] == [2 * layer, 2 * layer, 4 * layer]
    assert parts.head.operations == 2 * reference.VOCAB * 64


def test_replays_differ_in_what_they_read_and_compute(folder: Path) -> None:
    engine = load_engine(folder, "cpu", "float32")
    found = [of_shape(engine.exits).traffic(workload.run()) for workload in timing.workloads(engine)]
    shares = {round(operations / read_bytes, 3) for read_bytes, operations in found}
    assert len(found) >= 5 and len(shares) >= 4


def of_shape(exits: tuple[int, ...]) -> DeviceProfile:
    """Return a profile of a model with these exits."""
    return replace(PROFILE, exits=exits, segments=(Segment({1: 1e-3}, 1000, 2000),) * len(exits))


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
        read_bytes, operations = PROFILE.traffic(work)
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
    monkeypatch.setattr(profile, "time", clock)
    return fake


def test_joules_are_fitted_over_windows_of_five_seconds(counter: FakeCounter) -> None:
    notices: list[str] = []
    found = fitted(PROFILE, counter, [(n, counter.replay(w)) for n, w in WORKS.items()], notices.append)
    assert found is not None
    assert [found.idle_w, found.byte_j, found.operation_j] == pytest.approx([IDLE_W, BYTE_J, OPERATION_J], rel=1e-3)
    assert (found.windows, found.devices) == (4, ("fake",))
    assert counter.now_s == pytest.approx(4 * 5.0, abs=0.3)
    assert "of nothing: 12.0 W" in notices[0]


def test_where_others_use_the_device_nothing_is_fitted_and_that_is_reported(counter: FakeCounter) -> None:
    notices: list[str] = []

    def run() -> Work:
        counter.others_s += 0.05
        return counter.replay(WORKS["both"])()

    assert fitted(PROFILE, counter, [("both", run)], notices.append) is None
    assert "Other programs" in notices[-1]


@pytest.mark.parametrize("what", ["lost", "stands"])
def test_a_counter_that_fails_is_reported_and_nothing_is_fitted(what: str, counter: FakeCounter) -> None:
    notices: list[str] = []

    def run() -> Work:
        counter.now_s += 0.5
        counter.lost = what == "lost"
        return WORKS["both"]

    assert fitted(PROFILE, counter, [("both", run)] * 3, notices.append) is None
    assert "cannot be used" in notices[-1]


def test_trials_say_how_right_the_times_are() -> None:
    found = judged(PROFILE, [Trial(10.0, 8.0, 11.0, 9.9), Trial(10.0, 8.0, 9.0, 8.1), Trial(20.0, 20.0, 20.0, 14.0)])
    assert found.time_ratio == pytest.approx((1.0 + 1.0125) / 2)
    assert found.saved_share_error == pytest.approx(36.0 / 40.0 - 32.0 / 40.0)


def test_without_trials_nothing_is_said_of_them() -> None:
    assert judged(PROFILE, []) == PROFILE


def test_the_times_are_shown_by_segment_and_size() -> None:
    lines = describe(PROFILE)
    assert lines[1].split() == ["segment", "to", "layer", "1", "8", "64", "512"]
    assert lines[2].split() == ["2", "1.000", "8.000", "32.000", "200.000"]


def test_the_bundled_model_is_profiled_and_the_result_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "BUDGET_S", 1.0)
    monkeypatch.setattr(profile, "TRIALS", 1)
    monkeypatch.setattr(profile, "positions", lambda: positions()[:2])
    monkeypatch.setattr(profile, "find_counter", lambda device: None)
    assert cli.main(["profile"]) == 0
    out = capsys.readouterr().out
    assert "measured" not in out and "a stated power of 25 W" in out
    kept = stored("cpu", "small-1")
    assert kept is not None
    assert kept.joules is None and kept.time_ratio is not None
    work = Work(prompt_tokens=100, emitted_tokens=8, prefill_layer_positions=2000, head_runs=(1,) * 8)
    assert 0.0 < kept.seconds(work) < kept.full_depth_seconds(work)


class KnownMachine:
    """Its clock moves by what the engine runs and by nothing else."""

    def __init__(self, layer_s: float, position_s: float, head_s: float) -> None:
        self.layer_s, self.position_s, self.head_s = layer_s, position_s, head_s
        self.now_s = 0.0

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    def drives(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        run, head = OnnxRunner.run, OnnxModel.head
        widths = [after - before for before, after in pairwise((0, *engine.exits))]

        def timed_run(runner: OnnxRunner, segment: int, start: int, stop: int, *, batch_invariant: bool) -> None:
            self.now_s += widths[segment] * (self.layer_s + self.position_s * (stop - start))
            run(runner, segment, start, stop, batch_invariant=batch_invariant)

        def timed_head(model: OnnxModel, normalised: Vector) -> Vector:
            self.now_s += self.head_s * len(normalised)
            return head(model, normalised)

        monkeypatch.setattr(OnnxRunner, "run", timed_run)
        monkeypatch.setattr(OnnxModel, "head", timed_head)
        clock = SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.pass_time)
        for module in (profile, timing):
            monkeypatch.setattr(module, "time", clock)
            monkeypatch.setattr(module, "busy_clock", lambda device, threads: lambda: self.now_s)


@pytest.fixture(scope="module")
def code_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model with exits whose vocabulary is the fake tokenizer's, and room for every size that is timed."""
    model = reference.llama(vocab_size=fakes.tokenizer().vocab_size, max_position_embeddings=1024)
    return reference.save(model, tmp_path_factory.mktemp("model"))


FAST = (1e-3, 1e-4, 5e-4)
SLOW = (0.02, 0.01, 0.05)
"""A hundred times slower: a token takes a sixth of a second, a prompt of 256 ten."""
PLACES = [CursorPosition("fake", fakes.SAMPLE, fakes.SAMPLE.index(mark)) for mark in ("result.append", "self.name")]


def known(machine: KnownMachine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Return the model on that machine, leaving after its first layer wherever it may."""
    engine = load_engine(folder, "cpu", "float32")
    machine.drives(engine, monkeypatch)
    manifest = replace(engine.manifest, exit_policy="fixed", calibration={"python": {"fixed": fakes.ROWS}})
    return Backend(engine, fakes.tokenizer(), manifest)


def test_on_a_machine_of_known_cost_the_modelled_time_is_the_observed_one(
    code_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = known(KnownMachine(*FAST), code_model, monkeypatch)
    found = time_checkpoint(profile.engine_of(backend))
    trial, *_ = done = list(trials(backend, found, Settings(preference=0.0), PLACES))
    assert len(done) == len(PLACES) and trial.served_s < 0.8 * trial.full_depth_s
    verdict = judged(found, done)
    assert verdict.time_ratio == pytest.approx(1.0, abs=0.02)
    assert verdict.saved_share_error == pytest.approx(0.0, abs=0.02)


def test_times_half_again_too_long_are_reported_as_such(code_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = KnownMachine(*FAST)
    backend = known(machine, code_model, monkeypatch)
    machine.layer_s, machine.position_s, machine.head_s = (1.5 * cost for cost in FAST)
    found = time_checkpoint(profile.engine_of(backend))
    machine.layer_s, machine.position_s, machine.head_s = FAST
    done = list(trials(backend, found, Settings(preference=0.0), PLACES))
    assert judged(found, done).time_ratio == pytest.approx(1.5, abs=0.03)


def test_timing_ends_at_the_deadline_and_leaves_out_the_sizes_it_did_not_come_to(
    code_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = KnownMachine(*SLOW)
    backend = known(machine, code_model, monkeypatch)
    parts = timing.time_parts(profile.engine_of(backend), deadline_s=12.0)
    assert machine.now_s < 30.0  # what nothing can be said without; one whole round is 60
    assert list(parts.segments[0].seconds) == [1, *timing.TYPICAL, 64]


def test_a_trial_that_runs_at_the_deadline_is_cancelled_and_none_begins_after_it(
    code_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = KnownMachine(*FAST)
    backend = known(machine, code_model, monkeypatch)
    whole = list(trials(backend, of_shape(reference.EXITS), Settings(), PLACES))
    spent_s, machine.now_s = machine.now_s, 0.0
    cut = list(trials(backend, of_shape(reference.EXITS), Settings(), PLACES, deadline_s=0.75 * spent_s))
    assert machine.now_s == pytest.approx(0.75 * spent_s, abs=0.05)
    assert len(cut) < len(whole)
    assert [astuple(trial) for trial in cut] == [pytest.approx(astuple(trial)) for trial in whole[: len(cut)]]


def test_a_slow_machine_is_profiled_within_90_seconds(code_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = KnownMachine(*SLOW)
    notices: list[str] = []
    backend = known(machine, code_model, monkeypatch)
    counter = SimpleNamespace(
        read_j=lambda: 20.0 * machine.now_s, usage=lambda: Usage(machine.now_s, machine.now_s), devices=("fake",)
    )
    monkeypatch.setattr(profile, "load_backend", lambda settings: backend)
    monkeypatch.setattr(profile, "find_counter", lambda device: counter)
    profile.run(Settings(preference=0.0), notices.append)
    assert machine.now_s <= 90.0
    assert "fitted over 5 windows" in notices[-2]


def test_what_loading_took_is_left_out_of_the_time_for_the_rest(
    code_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = KnownMachine(*FAST)
    backend = known(machine, code_model, monkeypatch)

    def slowly(settings: Settings) -> Backend:
        machine.pass_time(38.0)
        return backend

    monkeypatch.setattr(profile, "load_backend", slowly)
    monkeypatch.setattr(profile, "find_counter", lambda device: None)
    notices: list[str] = []
    profile.run(Settings(preference=0.0), notices.append)
    assert machine.now_s == pytest.approx(profile.TIMES_S, abs=0.5)
    assert any("no trial completion ended in time" in line for line in notices)
    assert stored("cpu", backend.manifest.name) is not None


@pytest.mark.parametrize("gate", [None, 0.5])
def test_what_asking_an_agent_takes_is_timed(
    code_model: Path, monkeypatch: pytest.MonkeyPatch, gate: float | None
) -> None:
    machine = KnownMachine(*FAST)
    engine = profile.engine_of(known(machine, code_model, monkeypatch))
    exits, hidden = len(engine.exits), engine.model.architecture.hidden_size
    tensors = {"w1": np.zeros((2, observation_size(hidden, exits)), np.float32), "b1": np.zeros(2, np.float32)}
    tensors |= {"w2": np.zeros((2, 2), np.float32), "b2": np.zeros(2, np.float32)}
    agent = AgentPolicy(tensors | {"w3": np.zeros(2, np.float32), "b3": np.zeros(1, np.float32)}, engine.exits)
    agent.gate = gate
    engine.policies |= policies_of(agent)
    logits = AgentPolicy.exit_logits

    def slowly(policy: AgentPolicy, seen: Vector) -> Vector:
        machine.pass_time(4e-4)
        return logits(policy, seen)

    monkeypatch.setattr(AgentPolicy, "exit_logits", slowly)
    assert time_checkpoint(engine).check_s == pytest.approx(4e-4, rel=0.05)

"""The attributed meter by replay: fake counters and a fake pynvml, no driver, no waiting."""

from __future__ import annotations

import os
import threading
from types import ModuleType, SimpleNamespace

import pytest

from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.energy.nvml import NvmlCounter, open_nvml
from greencode_lsp.energy.sampler import AttributedMeter, CounterLostError, Usage
from greencode_lsp.records import EnergyReading, Work

WORK = Work(layer_equivalents=60.0, full_depth_layer_equivalents=100.0, prefill_layer_positions=200)


class Board:
    """A device that draws 50 W idle and 250 W in a request, its clock, and its counter."""

    devices: tuple[str, ...] = ("Fake GPU",)
    period_s = 0.0

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.total_j = 5e6
        self.power_w = 50.0
        self.only_ours = True
        self.stalled = False
        self.lost = False
        self.notices: list[str] = []
        self.read = threading.Event()

    def clock_s(self) -> float:
        return self.now_s

    def read_j(self) -> float:
        self.read.set()
        if self.lost:
            raise CounterLostError("GPU is lost")
        return self.total_j

    def usage(self) -> Usage | None:
        return Usage(self.now_s, self.now_s) if self.only_ours else None

    def meter(self) -> AttributedMeter:
        fallback = ModelledMeter("cuda", power_w=100.0, prefill_cost=0.2, clock_s=self.clock_s)
        return AttributedMeter(self, fallback, self.notices.append, self.clock_s, background=False)

    def idle(self, meter: AttributedMeter, seconds: float) -> None:
        """Let time pass, sampled every quarter of a second."""
        for _ in range(round(seconds * 4)):
            self.pass_time(0.25)
            meter.sample()

    def request(self, meter: AttributedMeter, seconds: float, work: Work = WORK) -> EnergyReading:
        """Run one request at 250 W, sampled on the way."""
        window = meter.open()
        self.power_w = 250.0
        self.idle(meter, seconds)
        self.power_w = 50.0
        return window.close(work)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        if not self.stalled:
            self.total_j += self.power_w * seconds


@pytest.fixture
def board() -> Board:
    return Board()


def test_a_lone_request_is_charged_its_own_power_and_not_the_idle_time_beside_it(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    reading = board.request(meter, 0.25)
    # The window of a second holds 0.75 s at 50 W, which is nobody's, and 0.25 s at 250 W.
    assert (reading.energy_tier, reading.devices) == ("attributed", ("Fake GPU",))
    assert [reading.energy_j, reading.saved_j] == pytest.approx([62.5, 25.0])
    assert reading.idle_j == pytest.approx(12.5)


def test_a_window_is_shared_by_modelled_work(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    board.request(meter, 0.5, Work(layer_equivalents=300.0))
    reading = board.request(meter, 0.5, Work(layer_equivalents=100.0))
    # 200 W above idle for a second: a quarter of it by work, and 0.5 s at the idle 50 W.
    assert reading.energy_j == pytest.approx(200.0 / 4 + 25.0)


def test_requests_of_equal_work_add_up_to_the_window(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    before_j = board.total_j
    readings = [board.request(meter, 0.5) for _ in range(6)]
    assert sum(r.energy_j for r in readings) == pytest.approx(board.total_j - before_j)


def test_a_request_longer_than_the_window_is_charged_whole(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    assert board.request(meter, 4.0).energy_j == pytest.approx(1000.0)


def test_without_a_window_long_enough_the_tier_is_modelled(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 0.5)
    assert board.request(meter, 0.25) == EnergyReading(25.0, "modelled", ("cuda",), saved_j=10.0)


def test_after_a_long_rest_without_samples_the_tier_is_modelled(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    board.pass_time(100.0)
    assert board.request(meter, 0.25).energy_tier == "modelled"


def test_where_another_process_shares_the_device_the_tier_is_modelled(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    board.only_ours = False
    assert board.request(meter, 0.25).energy_tier == "modelled"


def test_two_requests_at_once_are_modelled(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    other = meter.open()
    assert board.request(meter, 0.5).energy_tier == "modelled"
    assert other.close(WORK).energy_tier == "modelled"


def test_after_requests_at_once_the_next_alone_is_attributed_again(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    other = meter.open()
    board.request(meter, 0.5)
    other.close(WORK)
    board.idle(meter, 3.0)
    assert board.request(meter, 0.5).energy_tier == "attributed"


def test_a_counter_that_stalls_makes_the_tier_modelled_and_never_zero_joules(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    board.stalled = True
    board.idle(meter, 2.0)
    reading = board.request(meter, 0.25)
    assert reading.energy_tier == "modelled"
    assert reading.energy_j == pytest.approx(25.0)
    assert board.notices == []


def test_a_stalled_counter_that_moves_again_is_trusted_again(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    board.stalled = True
    board.request(meter, 0.25)
    board.stalled = False
    board.idle(meter, 3.0)
    assert board.request(meter, 0.25).energy_j == pytest.approx(62.5)


def test_a_counter_that_starts_again_from_zero_gives_no_negative_energy(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    board.total_j = 0.0
    reading = board.request(meter, 0.25)
    assert reading.energy_tier == "modelled"
    assert reading.energy_j == pytest.approx(25.0)


def test_a_lost_device_is_named_in_one_sentence_once(board: Board) -> None:
    meter = board.meter()
    board.lost = True
    board.idle(meter, 1.0)
    assert len(board.notices) == 1
    assert "Fake GPU" in board.notices[0] and "GPU is lost" in board.notices[0]


def test_after_a_loss_the_meter_is_the_modelled_one(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    board.lost = True
    assert board.request(meter, 0.25).energy_tier == "modelled"


def test_work_that_ran_nothing_is_modelled(board: Board) -> None:
    meter = board.meter()
    board.idle(meter, 3.0)
    assert board.request(meter, 0.25, Work()).energy_tier == "modelled"


def test_the_sampler_reads_by_itself_in_the_background(board: Board) -> None:
    board.lost = True  # its thread ends at the first reading
    fallback = ModelledMeter("cuda", power_w=100.0, prefill_cost=0.2)
    AttributedMeter(board, fallback, board.notices.append)
    assert board.read.wait(timeout=10.0)


class FakeNvmlError(Exception):
    pass


def fake_nvml(**changes: object) -> ModuleType:
    """Return a module with the calls of pynvml that we use; an exception as a value is raised by its call."""
    answers: dict[str, object] = {
        "nvmlInit": None,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetHandleByUUID": "handle by UUID",
        "nvmlDeviceGetName": "NVIDIA Fake",
        "nvmlDeviceGetTotalEnergyConsumption": 12_345,
        "nvmlDeviceGetFieldValues": [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=70_000))],
        "nvmlDeviceGetPowerUsage": 90_000,
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=os.getpid())],
        "nvmlDeviceGetGraphicsRunningProcesses": [],
        "nvmlDeviceGetMigMode": [0, 0],
    }
    module = ModuleType("pynvml")
    for name, value in {"NVMLError": FakeNvmlError, "NVML_SUCCESS": 0, "NVML_FI_DEV_POWER_INSTANT": 186}.items():
        setattr(module, name, value)
    for name, answer in (answers | changes).items():

        def call(*arguments: object, answer: object = answer) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

        setattr(module, name, call)
    return module


NOT_SUPPORTED = FakeNvmlError("Not Supported")


def test_the_total_energy_counter_is_read_in_joules() -> None:
    assert NvmlCounter(fake_nvml(), 0).read_j() == pytest.approx(12.345)


def test_without_a_counter_instant_power_is_integrated(board: Board) -> None:
    counter = NvmlCounter(fake_nvml(nvmlDeviceGetTotalEnergyConsumption=NOT_SUPPORTED), 0, clock_s=board.clock_s)
    board.now_s += 2.0
    assert counter.read_j() == pytest.approx(140.0)


def test_without_instant_power_plain_power_is_integrated(board: Board) -> None:
    no_field = [SimpleNamespace(nvmlReturn=3, value=SimpleNamespace(uiVal=0))]
    module = fake_nvml(nvmlDeviceGetTotalEnergyConsumption=NOT_SUPPORTED, nvmlDeviceGetFieldValues=no_field)
    counter = NvmlCounter(module, 0, clock_s=board.clock_s)
    board.now_s += 2.0
    assert counter.read_j() == pytest.approx(180.0)


def test_a_reading_that_fails_is_a_lost_counter() -> None:
    module = fake_nvml()
    counter = NvmlCounter(module, 0)
    broken = fake_nvml(nvmlDeviceGetTotalEnergyConsumption=FakeNvmlError("GPU is lost"))
    module.nvmlDeviceGetTotalEnergyConsumption = broken.nvmlDeviceGetTotalEnergyConsumption  # type: ignore[attr-defined]
    with pytest.raises(CounterLostError, match="NVIDIA Fake: GPU is lost"):
        counter.read_j()


def several_nvml(**lost: object) -> ModuleType:
    """Return a module with devices 0 and 1, named and counting by their number."""
    module = fake_nvml()
    module.nvmlDeviceGetHandleByIndex = lambda index: index  # type: ignore[attr-defined]
    module.nvmlDeviceGetName = lambda handle: f"GPU {handle}"  # type: ignore[attr-defined]

    def count_mj(handle: int) -> int:
        if f"gpu_{handle}" in lost:
            raise FakeNvmlError("GPU is lost")
        return 1000 * (handle + 1)

    module.nvmlDeviceGetTotalEnergyConsumption = count_mj  # type: ignore[attr-defined]
    return module


def test_several_devices_are_summed_and_named() -> None:
    counter = NvmlCounter(several_nvml(), 0, 1)
    assert (counter.read_j(), counter.devices) == (3.0, ("GPU 0", "GPU 1"))


def test_of_several_devices_the_lost_one_is_named() -> None:
    module = several_nvml()
    counter = NvmlCounter(module, 0, 1)
    module.nvmlDeviceGetTotalEnergyConsumption = several_nvml(  # type: ignore[attr-defined]
        gpu_1=True
    ).nvmlDeviceGetTotalEnergyConsumption
    with pytest.raises(CounterLostError, match="GPU 1: GPU is lost"):
        counter.read_j()


@pytest.mark.parametrize(
    ("changes", "alone"),
    [
        pytest.param({}, True, id="our process only"),
        pytest.param({"nvmlDeviceGetMigMode": NOT_SUPPORTED}, True, id="a device without slices"),
        pytest.param({"nvmlDeviceGetMigMode": [1, 1]}, False, id="a slice of a shared board"),
        pytest.param({"nvmlDeviceGetComputeRunningProcesses": []}, False, id="processes hidden"),
        pytest.param({"nvmlDeviceGetComputeRunningProcesses": NOT_SUPPORTED}, False, id="processes not reported"),
        pytest.param(
            {"nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=1)]},
            False,
            id="another process",
        ),
        pytest.param({"nvmlDeviceGetGraphicsRunningProcesses": [SimpleNamespace(pid=1)]}, False, id="a desktop"),
    ],
)
def test_the_counter_is_ours_only_where_that_can_be_reported(changes: dict[str, object], alone: bool) -> None:
    assert (NvmlCounter(fake_nvml(**changes), 0).usage() is not None) is alone


def test_visible_devices_are_counted_as_the_framework_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-abc")
    asked: list[object] = []
    module = fake_nvml()
    module.nvmlDeviceGetHandleByIndex = asked.append  # type: ignore[attr-defined]
    module.nvmlDeviceGetHandleByUUID = asked.append  # type: ignore[attr-defined]
    NvmlCounter(module, 0)
    NvmlCounter(module, 1)
    assert asked == [3, "GPU-abc"]


def test_without_a_driver_there_is_no_counter() -> None:
    module = fake_nvml(nvmlInit=FakeNvmlError("Driver Not Loaded"))
    assert open_nvml([0], ModelledMeter("cuda", 100.0, 0.2), print, module) is None

"""RAPL by replay: powercap folders written by the test, no processor's own counters, no privilege."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.energy.rapl import RaplCounter, domains, how_to_read, open_rapl
from greencode_lsp.energy.sampler import AttributedMeter, CounterLostError
from greencode_lsp.records import EnergyReading, Work

RANGE_UJ = 262_143_328_850
WORK = Work(layer_equivalents=60.0, full_depth_layer_equivalents=100.0)
HZ = os.sysconf("SC_CLK_TCK")


class Machine:
    """The files of a machine with one package and its memory, a clock, and who kept the processors busy."""

    def __init__(self, folder: Path) -> None:
        self.root, self.proc_stat = folder / "powercap", folder / "stat"
        self.now_s, self.own_s, self.all_s = 1000.0, 5.0, 300.0
        self.package_w, self.memory_w = 8.0, 2.0
        self.notices: list[str] = []
        self.domain("intel-rapl:0", "package-0", 1_000_000)
        self.domain("intel-rapl:0:0", "core", 500)
        self.domain("intel-rapl:0:2", "dram", 2_000_000)
        self.domain("intel-rapl:1", "psys", 9_000_000)
        self.domain("intel-rapl-mmio:0", "package-0", 1_000_000)
        self.write_usage()

    def domain(self, folder: str, name: str, energy_uj: int) -> None:
        path = self.root / folder
        path.mkdir(parents=True, exist_ok=True)
        for file, text in {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": RANGE_UJ}.items():
            (path / file).write_text(f"{text}\n")

    def write_usage(self) -> None:
        user, idle = round(self.all_s * HZ), 123_456
        self.proc_stat.write_text(f"cpu  {user} 0 0 {idle} 77 0 0 55 0 0\ncpu0 1 2 3 4\n")

    def counter(self) -> RaplCounter:
        return RaplCounter(self.root, self.proc_stat, lambda: self.now_s)

    def meter(self, monkeypatch: pytest.MonkeyPatch) -> AttributedMeter:
        monkeypatch.setattr("greencode_lsp.energy.rapl.time.process_time", lambda: self.own_s)
        fallback = ModelledMeter("cpu", 100.0, 0.2, lambda: self.now_s)
        return AttributedMeter(self.counter(), fallback, self.notices.append, lambda: self.now_s, background=False)

    def add_uj(self, folder: str, energy_uj: float) -> None:
        path = self.root / folder / "energy_uj"
        path.write_text(f"{(int(path.read_text()) + round(energy_uj)) % RANGE_UJ}\n")

    def run(self, meter: AttributedMeter, seconds: float, own_load: float = 0.0, others_load: float = 0.0) -> None:
        """Let time pass with so many processors busy, each drawing 10 W more than idle; sampled as it goes."""
        for _ in range(round(seconds * 4)):
            self.now_s += 0.25
            self.own_s += own_load * 0.25
            self.all_s += (own_load + others_load) * 0.25
            self.add_uj("intel-rapl:0", (self.package_w + 10.0 * (own_load + others_load)) * 0.25e6)
            self.add_uj("intel-rapl:0:2", self.memory_w * 0.25e6)
            self.write_usage()
            meter.sample()

    def request(self, meter: AttributedMeter, seconds: float, others_load: float = 0.0) -> EnergyReading:
        window = meter.open()
        self.run(meter, seconds, own_load=1.0, others_load=others_load)
        return window.close(WORK)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_packages_and_memory_are_counted_once(machine: Machine) -> None:
    assert [folder.name for folder in domains(machine.root)] == ["intel-rapl:0", "intel-rapl:0:2"]
    assert machine.counter().devices == ("cpu package-0", "cpu dram")


def test_joules_are_counted_from_the_start_over_all_domains(machine: Machine) -> None:
    counter = machine.counter()
    machine.now_s += 1.0
    machine.add_uj("intel-rapl:0", 3e6)
    machine.add_uj("intel-rapl:0:2", 1e6)
    assert counter.read_j() == pytest.approx(4.0)


def test_a_counter_that_wraps_goes_on(machine: Machine) -> None:
    machine.domain("intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    counter = machine.counter()
    for _ in range(3):
        machine.now_s += 1.0
        machine.add_uj("intel-rapl:0", 2e6)
    assert counter.read_j() == pytest.approx(6.0)


def test_a_counter_that_goes_backwards_begins_anew(machine: Machine) -> None:
    counter = machine.counter()
    machine.now_s += 1.0
    machine.add_uj("intel-rapl:0", 5e6)
    first = counter.read_j()
    machine.now_s += 1.0
    machine.add_uj("intel-rapl:0", -3e6)
    assert [first, counter.read_j()] == pytest.approx([5.0, 0.0])
    machine.now_s += 1.0
    machine.add_uj("intel-rapl:0", 1e6)
    assert counter.read_j() == pytest.approx(1.0)


def test_a_domain_that_disappears_is_named(machine: Machine) -> None:
    counter = machine.counter()
    (machine.root / "intel-rapl:0:2" / "energy_uj").unlink()
    with pytest.raises(CounterLostError, match="dram"):
        counter.read_j()


def test_a_lost_domain_is_reported_once_and_joules_modelled(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = machine.meter(monkeypatch)
    machine.run(meter, 3.0)
    (machine.root / "intel-rapl:0:2" / "energy_uj").rename(machine.root / "gone")
    with pytest.raises(FileNotFoundError):
        machine.run(meter, 1.0)  # the test's own hand finds it gone
    assert meter.open().close(WORK).energy_tier == "modelled"
    assert meter.open().close(WORK).energy_tier == "modelled"
    assert len(machine.notices) == 1 and "dram" in machine.notices[0]


def test_alone_on_the_machine_a_request_is_charged_all_above_idle(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = machine.meter(monkeypatch)
    machine.run(meter, 3.0)
    reading = machine.request(meter, 2.0)
    assert (reading.energy_tier, reading.devices) == ("attributed", ("cpu package-0", "cpu dram"))
    assert [reading.energy_j, reading.idle_j] == pytest.approx([2.0 * 20.0, 2.0 * 10.0], rel=1e-3)


def test_beside_others_only_our_processor_time_is_ours(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = machine.meter(monkeypatch)
    machine.run(meter, 3.0)
    reading = machine.request(meter, 2.0, others_load=3.0)  # 40 W above idle, a quarter of it ours
    assert reading.energy_tier == "attributed"
    assert reading.energy_j - (reading.idle_j or 0.0) == pytest.approx(2.0 * 10.0, rel=0.02)


def test_where_others_never_rest_idle_is_unknown_and_the_tier_modelled(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = machine.meter(monkeypatch)
    machine.run(meter, 5.0, others_load=2.0)
    assert machine.request(meter, 2.0, others_load=2.0).energy_tier == "modelled"


def test_where_usage_cannot_be_read_the_tier_is_modelled(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = machine.meter(monkeypatch)
    machine.run(meter, 3.0)
    machine.proc_stat = machine.proc_stat.with_name("elsewhere")
    (machine.root.parent / "stat").unlink()
    assert machine.request(meter, 2.0).energy_tier == "modelled"


def test_a_counter_that_stalls_makes_the_tier_modelled(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = machine.meter(monkeypatch)
    machine.run(meter, 3.0)
    monkeypatch.setattr(machine, "add_uj", lambda folder, energy_uj: None)
    reading = machine.request(meter, 2.0)
    assert (reading.energy_tier, machine.notices) == ("modelled", [])
    assert reading.energy_j == pytest.approx(200.0)


def test_without_counters_there_is_no_meter_and_nothing_to_fix(tmp_path: Path) -> None:
    assert open_rapl(ModelledMeter("cpu", 1.0, 0.2), print, tmp_path / "none") is None
    assert how_to_read(tmp_path / "none") is None


def test_counters_that_may_not_be_read_are_explained_with_the_fix(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    sentence = how_to_read(machine.root)
    assert sentence is not None
    assert f"sudo chmod a+r {machine.root}/intel-rapl:0/energy_uj {machine.root}/intel-rapl:0:2/energy_uj" in sentence
    assert 'SUBSYSTEM=="powercap"' in sentence and "CVE-2020-8694" in sentence


def test_counters_that_can_be_read_need_no_fix(machine: Machine) -> None:
    assert how_to_read(machine.root) is None


@pytest.mark.parametrize("text", ["", "not a number\n"], ids=["empty", "garbled"])
def test_a_counter_of_nonsense_is_no_counter(machine: Machine, text: str) -> None:
    (machine.root / "intel-rapl:0" / "energy_uj").write_text(text)
    assert open_rapl(ModelledMeter("cpu", 1.0, 0.2), print, machine.root, machine.proc_stat) is None

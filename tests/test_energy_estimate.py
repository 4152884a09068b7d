"""The modelled meter and the formula of savings, against numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from greencode_lsp import energy
from greencode_lsp.energy.detect import detect
from greencode_lsp.energy.estimate import ACTIVE_POWER_W, ModelledMeter
from greencode_lsp.energy.meter import PREFILL_COST, full_depth_work, modelled_work
from greencode_lsp.records import EnergyReading, Work

# Decoding took 60 layer equivalents where full depth takes 100; 200 prompt positions at a fifth weigh 40.
WORK = Work(layer_equivalents=60.0, full_depth_layer_equivalents=100.0, prefill_layer_positions=200)


def saved_j(energy_j: float, work: Work, prefill_cost: float) -> float:
    """Return what the unprofiled meter says is saved by a completion of `energy_j`."""
    return ModelledMeter("cpu", energy_j, prefill_cost).reading(1.0, work).saved_j


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_work_is_decoding_plus_the_prompt_at_its_cost() -> None:
    assert modelled_work(WORK, prefill_cost=0.2) == pytest.approx(100.0)


def test_full_depth_pays_for_the_prompt_too() -> None:
    assert full_depth_work(WORK, prefill_cost=0.2) == pytest.approx(140.0)


def test_savings_are_the_layers_not_run_at_the_price_of_the_work_done() -> None:
    # 50 J bought 100 units of work; 40 more would have been run.
    assert saved_j(50.0, WORK, prefill_cost=0.2) == pytest.approx(20.0)


def test_savings_equal_the_decode_share_times_the_inverse_ratio_less_one() -> None:
    decode_j = 50.0 * 60.0 / 100.0
    assert saved_j(50.0, WORK, prefill_cost=0.2) == pytest.approx(decode_j * (1 / WORK.layer_equivalents_ratio - 1))


def test_the_prompt_is_charged_to_both_sides() -> None:
    spent_j, full_j = 50.0, 50.0 + saved_j(50.0, WORK, prefill_cost=0.2)
    prompt_j = 50.0 * 40.0 / 100.0
    assert (full_j - prompt_j) / (spent_j - prompt_j) == pytest.approx(100.0 / 60.0)


def test_full_depth_saves_nothing() -> None:
    assert saved_j(50.0, replace(WORK, layer_equivalents=100.0), prefill_cost=0.2) == 0.0


def test_exits_that_cost_more_than_they_spare_show_a_negative_saving() -> None:
    assert saved_j(50.0, replace(WORK, layer_equivalents=110.0), prefill_cost=0.2) < 0.0


def test_a_generation_that_ran_nothing_saves_nothing() -> None:
    assert saved_j(50.0, Work(), prefill_cost=0.2) == 0.0


def test_modelled_joules_are_power_times_busy_seconds() -> None:
    clock = Clock()
    window = ModelledMeter("cpu", power_w=25.0, prefill_cost=0.2, clock_s=clock).open()
    clock.now_s += 2.0
    assert window.close(WORK) == EnergyReading(50.0, "modelled", ("cpu",), saved_j=20.0)


def test_windows_of_one_meter_do_not_share_their_start() -> None:
    clock = Clock()
    meter = ModelledMeter("cpu", power_w=10.0, prefill_cost=0.2, clock_s=clock)
    first = meter.open()
    clock.now_s += 1.0
    second = meter.open()
    clock.now_s += 1.0
    assert [first.close(WORK).energy_j, second.close(WORK).energy_j] == pytest.approx([20.0, 10.0])


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "", "quantum"])
def test_detect_always_returns_a_meter(device: str) -> None:
    reading = detect(device).open().close(WORK)
    assert reading.energy_tier == "modelled"
    assert reading.energy_j >= 0.0


def test_every_device_kind_has_a_power_and_a_prefill_cost() -> None:
    assert ACTIVE_POWER_W.keys() == PREFILL_COST.keys()


@pytest.mark.parametrize("module", sorted(Path(energy.__file__).parent.glob("*.py")), ids=lambda path: str(path.name))
def test_no_duration_is_taken_from_the_wall_clock(module: Path) -> None:
    assert "time.time" not in module.read_text(encoding="utf8")

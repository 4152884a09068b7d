"""A run that is told to end: the rate falls to zero from the step that saw the request, resumed or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from greencode_lsp.errors import CorpusError
from tests import training_toy as toy
from training.__main__ import main
from training.lm import decay
from training.lm.decay import Decay, OnRequest
from training.lm.lite import Budget, train
from training.lm.run_checkpoints import COMPLETE
from training.preset import Preset

Weights = dict[str, torch.Tensor]


def recipe() -> Preset:
    return toy.preset(learning_rate_schedule="constant")


def asked_at(monkeypatch: pytest.MonkeyPatch, work: Path, step: int, stop: int | None = None) -> None:
    """Let the request come during a step, and the time be up at another."""

    def on_step_end(self: Budget, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step and decay.read(work) is None:
            decay.request(work, 3)
        if state.global_step == stop:
            control.should_save = control.should_training_stop = True

    monkeypatch.setattr(Budget, "on_step_end", on_step_end)


def run(work: Path) -> Weights:
    weights: Weights = load_file(train(recipe(), work) / "model.safetensors")
    return weights


def last_step(work: Path) -> int:
    return max(int(path.name.partition("-")[2]) for path in work.glob("checkpoints/checkpoint-*"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return toy.work_folder(tmp_path / "work", recipe())


def test_the_run_ends_when_the_rate_is_zero(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_at(monkeypatch, work, step=4)
    run(work)
    assert decay.read(work) == Decay(3, from_step=4)
    assert last_step(work) == 7


def test_a_decay_that_is_longer_than_the_rest_ends_with_the_run(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = recipe().lite.steps
    asked_at(monkeypatch, work, step=steps - 2)
    run(work)
    assert decay.read(work) == Decay(2, from_step=steps - 2)


def test_a_decay_that_is_interrupted_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, stop in (("whole", None), ("parts", 5)):
        work = toy.work_folder(tmp_path / name, recipe())
        asked_at(monkeypatch, work, step=4, stop=stop)
        weights = run(work)
        asked_at(monkeypatch, work, step=4)
        found.append(weights if stop is None else run(work))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_an_undone_decay_goes_on_where_it_began(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_at(monkeypatch, work, step=4)
    run(work)
    decay.undo(work)
    assert (last_step(work), decay.read(work)) == (4, None)
    monkeypatch.undo()
    run(work)
    assert last_step(work) == recipe().lite.steps


def test_a_new_run_of_the_folder_is_not_ended_by_the_decay_of_the_one_before(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_at(monkeypatch, work, step=4)
    run(work)
    monkeypatch.undo()
    shutil.rmtree(work / "checkpoints")
    run(work)
    assert last_step(work) == recipe().lite.steps
    assert not (work / decay.KEPT).exists()


def test_a_request_that_waits_for_its_run_is_kept(tmp_path: Path) -> None:
    decay.request(tmp_path, 5)
    decay.forget(tmp_path)
    assert decay.read(tmp_path) == Decay(5)


def test_a_run_cut_off_before_it_was_saved_saves_where_the_decay_begins(tmp_path: Path) -> None:
    (tmp_path / decay.FILE).write_text(json.dumps({"steps": 5, "from_step": 9}))
    request, control = OnRequest(tmp_path), SimpleNamespace(should_save=False)
    asked: list[bool] = []
    for step in (8, 9, 10):
        control.should_save = False
        request.on_step_end(SimpleNamespace(), SimpleNamespace(global_step=step), control)
        asked.append(control.should_save)
    assert asked == [False, True, False]


def test_the_newest_whole_checkpoint_is_gone_back_to(tmp_path: Path) -> None:
    for step in (900, 1000, 1100):
        (tmp_path / decay.KEPT / f"checkpoint-{step}").mkdir(parents=True)
        if step < 1100:
            (tmp_path / decay.KEPT / f"checkpoint-{step}" / COMPLETE).touch()
    (tmp_path / "checkpoints" / "checkpoint-1200").mkdir(parents=True)
    decay.undo(tmp_path)
    assert last_step(tmp_path) == 1000


def test_the_rate_stays_and_then_falls_in_a_line() -> None:
    assert [Decay(4, from_step=10).factor(step) for step in (0, 10, 12, 14, 99)] == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_nothing_is_asked_without_a_request(tmp_path: Path) -> None:
    assert OnRequest(tmp_path).factor(10**6) == 1.0


def test_the_command_asks_the_run_of_a_work_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["lite", "--preset", "small-1", "--work", str(tmp_path), "--decay-now"]
    assert main([*ask, "20"]) == 0
    assert decay.read(tmp_path) == Decay(20)
    assert main([*ask, "0"]) == 1
    assert main([*ask[:-1], "--decay-undo"]) == 1
    assert "not begun to decay" in capsys.readouterr().err


def test_a_second_request_is_refused_once_the_run_decays(tmp_path: Path) -> None:
    (tmp_path / decay.FILE).write_text(json.dumps({"steps": 5, "from_step": 100}))
    with pytest.raises(CorpusError, match="since step 100"):
        decay.request(tmp_path, 10)


def test_a_damaged_request_is_named(tmp_path: Path) -> None:
    (tmp_path / decay.FILE).write_text("[1]")
    with pytest.raises(CorpusError, match="no request to decay"):
        decay.read(tmp_path)

"""LITE training runs: what resumes, what stops, what is refused, and what may not change the weights."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from greencode_lsp.errors import CorpusError
from tests import training_toy as toy
from training.checkpoint import bpe
from training.lm import run_checkpoints
from training.lm.batches import SequenceBatches, Share
from training.lm.lite import Budget, learning_rate_factor, train
from training.lm.lite_loss import LiteModel
from training.preset import Preset, Stage

Weights = dict[str, torch.Tensor]


def trained(work: Path, recipe: Preset | None = None, minutes: float = 10.0) -> Weights:
    """Train in a fresh or existing toy folder; return the weights."""
    recipe = recipe or toy.preset()
    if not (work / "stage0.npy").exists():
        toy.work_folder(work, recipe)
    weights: Weights = load_file(train(recipe, work, minutes) / "model.safetensors")
    return weights


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the time be up at a step."""
    check = Budget.on_step_end

    def on_step_end(self: Budget, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._end_s = -1.0 if state.global_step == step else float("inf")
        check(self, args, state, control, **kwargs)

    monkeypatch.setattr(Budget, "on_step_end", on_step_end)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return trained(tmp_path_factory.mktemp("whole"))


def equal(left: Weights, right: Weights, tolerance: float = 0.0) -> bool:
    return set(left) == set(right) and all(
        torch.allclose(left[n], right[n], atol=tolerance, rtol=tolerance) for n in left
    )


@pytest.mark.parametrize("step", [3, 10, 12])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    uninterrupted: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        assert not equal(trained(tmp_path), uninterrupted)
    assert (tmp_path / "checkpoints" / f"checkpoint-{step}" / run_checkpoints.COMPLETE).exists()
    assert equal(trained(tmp_path), uninterrupted)


def test_an_opt_with_dropout_resumes_exactly_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = toy.preset(dataclasses.replace(toy.SHAPE, family="opt"), stages=toy.STAGES[:1])
    whole = trained(tmp_path / "whole", recipe)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        trained(tmp_path / "parts", recipe)
    assert equal(trained(tmp_path / "parts", recipe), whole)


def test_a_changed_learning_rate_acts_on_a_resumed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = toy.work_folder(tmp_path, toy.preset())
    stop_after(monkeypatch, 4)
    train(toy.preset(), work)
    before = load_file(work / "lite" / "model.safetensors")
    monkeypatch.undo()
    after = load_file(train(toy.preset(learning_rate=0.0), work) / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_loss_falls(tmp_path: Path) -> None:
    trained(tmp_path, toy.preset(stages=[Stage(context=16, rows=8, tokens=128 * 60)], eval_every_steps=30))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [30, 60]
    for exit_layer in ("1", "2", "4"):
        assert lines[-1]["exits"][exit_layer]["loss"] < lines[0]["exits"][exit_layer]["loss"] - 0.1


def test_a_half_written_checkpoint_is_not_gone_on_from(
    uninterrupted: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        trained(tmp_path)
    half = tmp_path / "checkpoints" / "checkpoint-9"
    shutil.copytree(tmp_path / "checkpoints" / "checkpoint-7", half)
    (half / run_checkpoints.COMPLETE).unlink()
    (half / "model.safetensors").write_bytes(b"cut off")
    assert equal(trained(tmp_path), uninterrupted)
    assert not half.exists()


def test_checkpoints_that_no_run_called_whole_are_not_written_over(tmp_path: Path) -> None:
    recipe = toy.preset()
    toy.work_folder(tmp_path, recipe)
    (tmp_path / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    with pytest.raises(CorpusError, match=r"checkpoint-5 has no complete.json.*remove it"):
        train(recipe, tmp_path)


def test_a_run_that_diverges_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    recipe = toy.preset()
    toy.work_folder(tmp_path, recipe)
    loss = LiteModel.forward

    def poisoned(self: LiteModel, input_ids: torch.Tensor, step: int) -> torch.Tensor:
        return loss(self, input_ids, step) * (float("nan") if step == 7 else 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiteModel, "forward", poisoned)
        with pytest.raises(CorpusError, match=r"diverged before step 10 .*checkpoint-5 is kept"):
            train(recipe, tmp_path)
    assert not (tmp_path / "lite").exists()
    kept = load_file(tmp_path / "checkpoints" / "checkpoint-5" / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())
    assert not (tmp_path / "checkpoints" / "checkpoint-10").exists()


def test_a_diverging_loss_is_noticed_between_two_checkpoints(tmp_path: Path) -> None:
    recipe = toy.preset(stages=[Stage(context=16, rows=1, tokens=16 * 60)], learning_rate=1e30, eval_every_steps=60)
    with pytest.raises(CorpusError, match="diverged before step 25"):
        trained(tmp_path, recipe)


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_is_kept(tmp_path: Path) -> None:
    recipe = toy.preset()
    toy.work_folder(tmp_path, recipe)
    save = torch.save

    def full(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if "checkpoint-10" in str(file):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(value, file, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(CorpusError, match=r"checkpoint-10 could not be written .*No space.*checkpoint-5 is kept"):
            train(recipe, tmp_path)
    assert run_checkpoints.last_checkpoint(recipe, tmp_path) == tmp_path / "checkpoints" / "checkpoint-5"


def test_a_disk_too_small_for_the_checkpoints_is_noticed_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(CorpusError, match="free some space"):
        trained(tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_checkpoint_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    bpe.build(["other text, other merges\n" * 40], 270).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CorpusError, match="another tokenizer_sha256"):
        train(toy.preset(), tmp_path)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    other = dataclasses.replace(toy.SHAPE, exits=[2, 3, 4])
    with pytest.raises(CorpusError, match="another model"):
        train(toy.preset(other), tmp_path)


def test_rows_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    recipe = toy.preset()
    toy.work_folder(tmp_path, recipe)
    rows = np.load(tmp_path / "stage1.npy")
    rows[-1, -1] = toy.VOCAB
    np.save(tmp_path / "stage1.npy", rows)
    with pytest.raises(CorpusError, match="different tokenizers"):
        train(recipe, tmp_path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda work: (work / "stage1.npy").unlink(), "run `python -m training corpus`"),
        (lambda work: (work / "stage1.npy").write_bytes(b"\x93NUMPY"), "cannot be read"),
        (lambda work: np.save(work / "stage0.npy", np.zeros((4, 9), np.uint16)), r"not \[N, 17\]"),
    ],
    ids=["missing", "cut off", "of another length"],
)
def test_rows_that_cannot_be_trained_on_are_one_sentence(tmp_path: Path, damage: Any, sentence: str) -> None:
    recipe = toy.preset()
    damage(toy.work_folder(tmp_path, recipe))
    with pytest.raises(CorpusError, match=sentence):
        train(recipe, tmp_path)


def test_rows_that_cannot_be_shared_out_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="3 parts per step"):
        trained(tmp_path, toy.preset(accumulation=3))


def test_rows_longer_than_the_model_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="64 positions"):
        trained(tmp_path, toy.preset(stages=[Stage(context=65, rows=2, tokens=260)]))


def test_rows_are_read_in_a_circle(tmp_path: Path) -> None:
    recipe = toy.preset()
    work = toy.work_folder(tmp_path, recipe)
    rows = np.load(work / "stage0.npy")
    np.save(work / "stage0.npy", rows[:6])
    batches = SequenceBatches(work, recipe.lite, toy.VOCAB, Share())
    assert np.array_equal(batches[1]["input_ids"].numpy(), rows[[4, 5, 0, 1]])


def test_two_processes_share_each_steps_rows(tmp_path: Path) -> None:
    recipe = toy.preset(accumulation=1)
    work = toy.work_folder(tmp_path, recipe)
    whole = SequenceBatches(work, recipe.lite, toy.VOCAB, Share())
    halves = [SequenceBatches(work, recipe.lite, toy.VOCAB, Share(rank, 2)) for rank in (0, 1)]
    for step in range(len(whole)):
        joined = torch.cat([half[step]["input_ids"] for half in halves])
        assert torch.equal(joined, whole[step]["input_ids"])


def test_accumulated_parts_train_what_one_batch_trains(uninterrupted: Weights, tmp_path: Path) -> None:
    assert equal(trained(tmp_path, toy.preset(accumulation=2)), uninterrupted, tolerance=2e-4)


def test_gradient_checkpointing_changes_no_weight(uninterrupted: Weights, tmp_path: Path) -> None:
    assert equal(trained(tmp_path, toy.preset(gradient_checkpointing=True)), uninterrupted, tolerance=1e-6)


def test_bfloat16_leaves_the_weights_in_float32_and_near(uninterrupted: Weights, tmp_path: Path) -> None:
    weights = trained(tmp_path, toy.preset(bf16=True))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert not equal(weights, uninterrupted)
    assert equal(weights, uninterrupted, tolerance=0.05)


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    options = toy.preset(stages=[Stage(context=16, rows=1, tokens=1600)], warmup_steps=10, decay_share=0.2).lite
    factor = learning_rate_factor(options)
    assert [factor(s) for s in (0, 4, 9, 50, 80, 90, 100)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0])


def test_the_papers_learning_rate_is_constant() -> None:
    factor = learning_rate_factor(toy.preset(learning_rate_schedule="constant", warmup_steps=0).lite)
    assert {factor(step) for step in range(14)} == {1.0}


def test_an_unknown_learning_rate_schedule_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="wsd or constant"):
        trained(tmp_path, toy.preset(learning_rate_schedule="cosine"))


def test_a_slow_run_saves_every_ten_minutes(tmp_path: Path) -> None:
    now_s = [0.0]
    budget, args = Budget(60.0, tmp_path, lambda: now_s[0]), SimpleNamespace(world_size=1)
    saved = []
    for minute in range(1, 31):
        now_s[0], control = 60.0 * minute, SimpleNamespace(should_save=False, should_training_stop=False)
        budget.on_step_end(args, SimpleNamespace(), control)
        if control.should_save:
            saved.append(minute)
            budget.on_save(args, SimpleNamespace(), control)
    assert saved == [11, 22]

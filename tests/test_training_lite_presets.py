"""The published presets: the paper's exits and settings, one step of each at less width, and what they would take."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import training_toy as toy
from training.__main__ import main
from training.lm.batches import SequenceBatches, Share
from training.lm.families import build_model, exit_states
from training.lm.lite import train
from training.lm.plan import layer_bytes, plan
from training.preset import ModelOptions, Preset, Stage, load_preset

PAPER = {
    "opt-2.7b": [4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32],
    "llama-3.2-3b": [4, 6, 8, 10, 12, 14, 18, 22, 26, 28],
}


def narrow(shape: ModelOptions) -> ModelOptions:
    """Return the shape shrunk in width only."""
    groups = 4 * shape.num_key_value_heads // shape.num_attention_heads or 1
    return dataclasses.replace(
        shape, hidden_size=16, intermediate_size=24, num_attention_heads=4, num_key_value_heads=groups
    )


def one_step(name: str) -> Preset:
    """Return a published preset at less width: one step of one row per part, at its row length."""
    preset = load_preset(name)
    parts, context = preset.lite.accumulation, preset.lite.stages[0].context
    lite = dataclasses.replace(preset.lite, stages=[Stage(context=context, rows=parts, tokens=parts * context)])
    corpus = dataclasses.replace(preset.corpus, vocab_size=toy.VOCAB)
    return dataclasses.replace(preset, model=narrow(preset.model), lite=lite, corpus=corpus)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_settings(name: str) -> None:
    preset = load_preset(name)
    lite, (stage,) = preset.lite, preset.lite.stages
    assert preset.model.exits == PAPER[name]
    assert (lite.schedule, lite.learning_rate, lite.learning_rate_schedule) == ("paper", 1e-5, "constant")
    assert (lite.weight_decay, lite.warmup_steps, lite.seed) == (0.01, 0, 42)
    assert (stage.context, stage.rows, lite.accumulation) == (256, 128, 16)


@pytest.mark.parametrize(("name", "published"), [("opt-2.7b", 2_651_596_800), ("llama-3.2-3b", 3_212_749_824)])
def test_the_shapes_have_the_published_number_of_parameters(name: str, published: int) -> None:
    preset = load_preset(name)
    with torch.device("meta"):
        model = build_model(preset.model, preset.corpus.vocab_size)
    assert sum(parameter.numel() for parameter in model.parameters()) == published


@pytest.mark.parametrize("name", PAPER)
def test_one_step_of_the_papers_preset_at_less_width(tmp_path: Path, name: str) -> None:
    recipe = one_step(name)
    work = toy.work_folder(tmp_path / "work", recipe)
    start = tmp_path / "start"
    build_model(recipe.model, toy.VOCAB).save_pretrained(start)
    shutil.copyfile(work / "tokenizer.json", start / "tokenizer.json")
    recipe = dataclasses.replace(recipe, lite=dataclasses.replace(recipe.lite, start=str(start)))
    before, after = load_file(start / "model.safetensors"), load_file(train(recipe, work) / "model.safetensors")
    moved = {n: (after[n] - before[n]).abs().max().item() for n in before if ".layers." in n and n.endswith("weight")}
    assert all(0 < most < 1.5e-5 for most in moved.values())  # AdamW's first step is the learning rate's size
    (line,) = (work / "metrics.jsonl").read_text().splitlines()
    assert list(json.loads(line)["exits"]) == [str(e) for e in PAPER[name]]


def test_base_is_rehearsed_on_a_cpu(tmp_path: Path) -> None:
    base = load_preset("base")
    stages = [Stage(context=32, rows=4, tokens=256), Stage(context=64, rows=2, tokens=256)]
    lite = dataclasses.replace(base.lite, stages=stages, compile=False, eval_every_steps=2)
    recipe = dataclasses.replace(base, model=narrow(base.model), lite=lite)
    work = toy.work_folder(tmp_path, recipe)
    train(recipe, work, budget_minutes=0.0)  # a slice that ends after its first step
    assert [path.name for path in (work / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]
    assert load_file(train(recipe, work) / "model.safetensors")
    assert (work / "checkpoints" / "checkpoint-4").exists()


def test_base_keeps_to_its_size() -> None:
    base = load_preset("base")
    with torch.device("meta"):
        model = build_model(base.model, base.corpus.vocab_size)
    assert 50e6 <= sum(parameter.numel() for parameter in model.parameters()) <= 60e6


def test_activations_are_what_a_whole_model_keeps(tmp_path: Path) -> None:
    shape = dataclasses.replace(toy.SHAPE, hidden_size=64, intermediate_size=160, exits=[4])
    model, sizes = build_model(shape, toy.VOCAB), dict[int, int]()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        states = exit_states(model, torch.zeros((4, 64), dtype=torch.long), [4])
    kept = sum(size for at, size in sizes.items() if at not in weights)
    assert states and 4 * 4 * layer_bytes(shape, 64, bf16=False) == pytest.approx(kept, rel=0.15)


def test_a_plan_counts_four_floats_per_parameter() -> None:
    figures = plan(toy.preset(schedule="plain"))
    fixed = figures.weights_bytes + figures.gradients_bytes + figures.optimiser_bytes
    assert fixed == 16 * figures.parameters
    assert figures.tokens == sum(stage.tokens for stage in toy.STAGES)


def test_exits_and_checkpointing_cost_arithmetic() -> None:
    plain, protect, paper = (plan(toy.preset(schedule=name)).flops for name in ("plain", "protect", "paper"))
    assert plain < protect < paper
    assert plan(toy.preset(schedule="plain", gradient_checkpointing=True)).flops > plain


def test_protect_costs_below_one_and_a_half_times_plain_at_minis_shape() -> None:
    mini = load_preset("mini")
    plain = dataclasses.replace(mini, lite=dataclasses.replace(mini.lite, schedule="plain"))
    assert mini.lite.schedule == "protect"
    assert 1.0 < plan(mini).flops / plan(plain).flops < 1.5


def test_checkpointing_keeps_less() -> None:
    figures = plan(toy.preset())
    assert figures.memory_bytes(checkpointing=True) < figures.memory_bytes(checkpointing=False)


def test_a_dry_run_fits_a_screen_and_ends_with_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lite", "--preset", "nano", "--dry-run", "--work", str(tmp_path / "none")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    report = json.loads(lines[-1])
    here = report["here"]
    assert 0 < here["needed_bytes"] < here["memory_bytes"] and here["hours"] > 0
    assert report["parameters"] == 287_552
    assert not (tmp_path / "none").exists()


def test_a_step_of_the_papers_batch_is_sixteen_parts(tmp_path: Path) -> None:
    lite = load_preset("opt-2.7b").lite
    lite = dataclasses.replace(lite, stages=[dataclasses.replace(lite.stages[0], tokens=128 * 256)])
    batches = SequenceBatches(toy.work_folder(tmp_path, toy.preset(stages=lite.stages)), lite, toy.VOCAB, Share())
    assert len(batches) == 16
    assert {tuple(batches[i]["input_ids"].shape) for i in range(16)} == {(8, 257)}
    assert {batches[i]["step"] for i in range(16)} == {0}

"""What a LITE training may start from: any folder, the hub, the bundled model; and what of these is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from greencode_lsp.errors import CorpusError
from greencode_lsp.models.store import bundled_folder
from tests import training_corpora
from tests import training_toy as toy
from tests.test_training_lite import equal, trained
from training.checkpoint import base_checkpoint as starting
from training.checkpoint import bpe
from training.data.prepare import prepare
from training.lm.families import build_model
from training.lm.lite import train
from training.preset import ModelOptions, Stage


def test_a_start_folder_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    recipe = toy.preset(start=str(tmp_path / "start"))
    build_model(recipe.model, toy.VOCAB).save_pretrained(tmp_path / "start")
    bpe.build(["other text, other merges\n" * 40], 270).save(str(tmp_path / "start" / "tokenizer.json"))
    with pytest.raises(CorpusError, match="make the corpus with the checkpoint's own"):
        trained(tmp_path / "work", recipe)


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_a_training_goes_on_from_any_folder(tmp_path: Path, family: str) -> None:
    shape = dataclasses.replace(toy.SHAPE, family=family)
    recipe = toy.preset(shape, stages=toy.STAGES[:1], start=str(tmp_path / "start"), learning_rate=0.0)
    work = toy.work_folder(tmp_path / "work", recipe)
    torch.manual_seed(7)
    build_model(shape, toy.VOCAB).save_pretrained(tmp_path / "start")
    shutil.copyfile(work / "tokenizer.json", tmp_path / "start" / "tokenizer.json")
    before = load_file(tmp_path / "start" / "model.safetensors")
    assert equal(trained(work, recipe), before)


def test_a_start_of_older_layout_is_imported(tmp_path: Path) -> None:
    recipe = toy.preset(stages=toy.STAGES[:1], start=str(tmp_path / "start"), learning_rate=0.0)
    work = toy.work_folder(tmp_path / "work", recipe)
    model = build_model(recipe.model, toy.VOCAB)
    model.config.save_pretrained(tmp_path / "start")
    torch.save(model.state_dict(), tmp_path / "start" / "pytorch_model.bin")
    shutil.copyfile(work / "tokenizer.json", tmp_path / "start" / "tokenizer.json")
    assert equal(trained(work, recipe), {n: t for n, t in model.state_dict().items() if n != "lm_head.weight"})


def test_a_start_that_the_hub_does_not_give_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(starting, "snapshot_download", offline)
    with pytest.raises(CorpusError, match=r"'someone/model' is no folder.*no network"):
        trained(tmp_path, toy.preset(start="someone/model"))


def test_a_start_that_lacks_weights_is_one_sentence(tmp_path: Path) -> None:
    recipe = toy.preset(start=str(tmp_path / "start"))
    work = toy.work_folder(tmp_path / "work", recipe)
    model = build_model(recipe.model, toy.VOCAB)
    state = {n: t for n, t in model.state_dict().items() if "layers.2.mlp" not in n}
    model.save_pretrained(tmp_path / "start", state_dict=state)
    shutil.copyfile(work / "tokenizer.json", tmp_path / "start" / "tokenizer.json")
    with pytest.raises(CorpusError, match=r"lacks model.layers.2.mlp"):
        train(recipe, work)


def test_a_start_of_another_depth_is_one_sentence(tmp_path: Path) -> None:
    shape = dataclasses.replace(toy.SHAPE, num_hidden_layers=3, exits=[1, 3])
    build_model(shape, toy.VOCAB).save_pretrained(tmp_path / "start")
    recipe = toy.preset(start=str(tmp_path / "start"))
    work = toy.work_folder(tmp_path / "work", recipe)
    shutil.copyfile(work / "tokenizer.json", tmp_path / "start" / "tokenizer.json")
    with pytest.raises(CorpusError, match="has 3 layers"):
        train(recipe, work)


def test_the_bundled_model_can_be_gone_on_from(tmp_path: Path) -> None:
    from greencode_lsp.engine.checkpoint import Weights as Stored
    from greencode_lsp.models.manifest import read_manifest

    manifest = read_manifest(bundled_folder())
    assert manifest is not None
    config = json.loads((bundled_folder() / "config.json").read_text())
    names = set(ModelOptions.__dataclass_fields__) & set(config)
    shape = ModelOptions(**{name: config[name] for name in names}, exits=list(manifest.exits))
    recipe = toy.preset(shape, stages=[Stage(context=8, rows=1, tokens=16)], start="bundled", learning_rate=0.0)
    work = toy.work_folder(tmp_path, recipe)
    shutil.copyfile(bundled_folder() / "tokenizer.json", work / "tokenizer.json")
    stored = Stored(bundled_folder())
    weights = trained(work, recipe)
    assert all(torch.equal(weights[name], torch.from_numpy(stored.float32(name))) for name in stored.names())


def test_a_fine_tuning_takes_its_starts_tokenizer_from_corpus_to_weights(tmp_path: Path) -> None:
    start = tmp_path / "start"
    build_model(toy.SHAPE, toy.VOCAB).save_pretrained(start)
    bpe.build([toy.TEXT] * 40, 280).save(str(start / "tokenizer.json"))
    text = (start / "tokenizer.json").read_text().replace("<|fim_", "<|other_")  # as published: no fill-in-the-middle
    (start / "tokenizer.json").write_text(text)
    files = {f"{i}.py": training_corpora.code(i) for i in range(4)}
    sources = training_corpora.two_packages(tmp_path, files, {"a.py": training_corpora.code(99)})
    recipe = toy.preset(start=str(start), learning_rate=1e-3)
    recipe = dataclasses.replace(recipe, corpus=dataclasses.replace(recipe.corpus, sources=[sources]))
    work = tmp_path / "work"
    prepare(recipe, work)
    assert bpe.load(work).to_str() == bpe.load(start).to_str()
    special = set(range(4))
    assert not special & set(np.load(work / "stage0.npy").ravel().tolist())
    assert not equal(trained(work, recipe), load_file(start / "model.safetensors"))

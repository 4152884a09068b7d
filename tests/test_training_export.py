"""Export: both families, int8 rows, shards, languages; and memory that grows with a shard, not with the model."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from greencode_lsp.engine.checkpoint import Weights
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.quantize import read_blocks, round_to_blocks
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import read_manifest
from greencode_lsp.records import FixedControl
from tests import reference
from tests import training_toy as toy
from training.checkpoint import bpe
from training.checkpoint import export as exporting
from training.checkpoint.export import dequantise, export
from training.lm.families import build_model


def exported(tmp_path: Path, **shape: Any) -> Path:
    """Export a random toy model; returns its folder."""
    narrow = shape.pop("four_bits", [])
    recipe = dataclasses.replace(toy.preset(dataclasses.replace(toy.SHAPE, **shape)), four_bits=narrow)
    work = toy.work_folder(tmp_path / "work", recipe)
    torch.manual_seed(3)
    build_model(recipe.model, toy.VOCAB).save_pretrained(work / "lite")
    return export(recipe, work, work / "lite", tmp_path / "out")


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_the_engine_and_transformers_agree_on_an_exported_model(tmp_path: Path, family: str) -> None:
    folder = exported(tmp_path, family=family)
    engine = load_engine(folder, "cpu")
    model = AutoModelForCausalLM.from_pretrained(dequantise(folder, tmp_path / "floats"), dtype=torch.float32)
    emitted = [s.token_id for s in engine.generate([5, 6, 7], FixedControl(), max_new_tokens=16)]
    assert emitted == reference.reference_generate(model.eval(), [5, 6, 7], 16)


def test_an_exported_opt_says_what_it_is(tmp_path: Path) -> None:
    manifest = read_manifest(exported(tmp_path, family="opt"))
    assert manifest is not None
    assert (manifest.family, manifest.exits, manifest.weight_format) == ("opt", (1, 2, 4), "int8")


def test_the_languages_are_those_of_the_corpus(tmp_path: Path) -> None:
    manifest = read_manifest(exported(tmp_path))
    assert manifest is not None
    assert manifest.languages == ("java",)


def test_a_tokenizer_without_fill_in_the_middle_is_served_without(tmp_path: Path) -> None:
    recipe = toy.preset()
    work = toy.work_folder(tmp_path / "work", recipe)
    build_model(recipe.model, toy.VOCAB).save_pretrained(work / "lite")
    text = (work / "tokenizer.json").read_text()
    (work / "tokenizer.json").write_text(text.replace("<|fim_", "<|other_"))
    manifest = read_manifest(export(recipe, work, work / "lite", tmp_path / "out"))
    assert manifest is not None
    assert manifest.fim == {"document": "<|endoftext|>"}


def test_a_model_of_a_smaller_tokenizer_is_refused(tmp_path: Path) -> None:
    recipe = toy.preset()
    work = toy.work_folder(tmp_path / "work", recipe)
    build_model(recipe.model, toy.VOCAB).save_pretrained(work / "lite")
    texts = [f"value_{i} = other_{i * i}\n" for i in range(500)]
    bpe.build(texts, toy.VOCAB + 20).save(str(work / "tokenizer.json"))
    with pytest.raises(CorpusError, match="belong to different runs"):
        export(recipe, work, work / "lite", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_int8_rows_are_off_by_half_a_step_at_most() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(20, 30) * torch.logspace(-3, 3, 20)[:, None]
    rounded, scale = (torch.from_numpy(part) for part in exporting.quantise_rows(matrix.numpy()))
    assert ((rounded.float() * scale[:, None] - matrix).abs() <= 0.5001 * scale[:, None]).all()


FOUR_BITS = {"intermediate_size": 64, "four_bits": ["gate_proj", "up_proj", "down_proj"]}


def test_a_matrix_in_four_bits_is_the_one_that_was_rounded(tmp_path: Path) -> None:
    folder = exported(tmp_path, **FOUR_BITS)
    trained, stored = Weights(tmp_path / "work" / "lite"), Weights(folder)
    name = "model.layers.1.mlp.down_proj.weight"
    rounded = round_to_blocks(trained.float32(name), 4).float32()
    assert stored.shape(name) == rounded.shape == (32, 64)
    assert np.allclose(stored.float32(name), rounded, rtol=1e-3)  # scales are float16


def test_a_matrix_in_four_bits_is_computed_with_as_stored(tmp_path: Path) -> None:
    stored, name = Weights(exported(tmp_path, **FOUR_BITS)), "model.layers.1.mlp.up_proj.weight"
    for bits in (4, 8):
        assert (read_blocks(stored, name, bits).float32() == stored.float32(name)).all()


def test_the_engine_and_transformers_agree_on_four_bits(tmp_path: Path) -> None:
    folder = exported(tmp_path, **FOUR_BITS)
    engine = load_engine(folder, "cpu", "float32")
    model = AutoModelForCausalLM.from_pretrained(dequantise(folder, tmp_path / "floats"), dtype=torch.float32)
    emitted = [s.token_id for s in engine.generate([5, 6, 7], FixedControl(), max_new_tokens=16)]
    assert emitted == reference.reference_generate(model.eval(), [5, 6, 7], 16)


def test_four_bits_are_fewer_bytes_than_eight(tmp_path: Path) -> None:
    sizes: list[int] = []
    for narrow in ([], FOUR_BITS["four_bits"]):
        folder = exported(tmp_path / str(len(sizes)), **FOUR_BITS | {"four_bits": narrow})
        tensors = load_file(folder / "model.safetensors")
        sizes.append(sum(t.numel() * t.element_size() for name, t in tensors.items() if ".mlp." in name))
    assert sizes[1] < 0.65 * sizes[0]


def test_shards_keep_to_their_size_and_hold_every_tensor_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MAX_SHARD_BYTES", 12_000)
    folder = exported(tmp_path)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    names = [name for shard in shards for name in load_file(shard)]
    assert len(names) == len(set(names))
    assert all(sum(t.numel() * t.element_size() for t in load_file(shard).values()) <= 12_000 for shard in shards)
    assert json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].keys() == set(names)
    load_engine(folder, "cpu")


PEAK = """
import re, sys
from pathlib import Path
import torch
from greencode_lsp.engine.load import load_engine
from training.checkpoint.export import _save_stored, dequantise
def peak():  # of this process; getrusage's figure is inherited from the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
torch.ones(8, 8) @ torch.ones(8, 8)
before = peak()
{action}
print(peak() - before)
"""
ACTIONS = {
    "loading": "engine = load_engine(Path(sys.argv[1]), 'cpu')",
    "export": "Path(sys.argv[2]).mkdir(); _save_stored(Path(sys.argv[1]), Path(sys.argv[2]))",
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 folder of 2 shards, the shape of Llama-3.2-3B scaled down: 208 MB as the float32 the engine holds."""
    folder = tmp_path_factory.mktemp("large")
    shape = {"hidden_size": 512, "intermediate_size": 1376, "num_attention_heads": 8, "num_key_value_heads": 4}
    model = reference.llama(
        vocab_size=16_000, num_hidden_layers=15, max_position_embeddings=64, tie_word_embeddings=True, **shape
    )
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="60MB")
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel states no peak memory")
@pytest.mark.parametrize(("action", "share"), [("loading", 1.3), ("export", 0.75)])
def test_a_model_is_loaded_and_exported_shard_by_shard(tmp_path: Path, large: Path, action: str, share: float) -> None:
    size = sum(t.numel() * 4 for shard in large.glob("model*.safetensors") for t in load_file(shard).values())
    assert size > 200e6
    script = PEAK.format(action=ACTIONS[action])
    command = [sys.executable, "-c", script, str(large), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    peak = int(done.stdout.splitlines()[-1])
    assert 0.1 * size < peak <= share * size


def test_the_tokens_seen_are_those_up_to_the_weights_step() -> None:
    options = toy.preset().lite  # 10 steps of 4 x 16, 4 of 2 x 32
    assert [exporting._tokens_seen(steps, options) for steps in (0, 3, 12, 99)] == [0, 192, 768, 896]


def test_an_export_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = exported(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "_save_stored", full)
    with pytest.raises(CorpusError, match="free some space"):
        exported(tmp_path)
    assert read_manifest(folder) is not None

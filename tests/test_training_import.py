"""Import: older published folders become safetensors and tokenizer.json, and nothing but weights is unpickled."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from greencode_lsp.engine.load import load_engine
from greencode_lsp.errors import GreenCodeError, ModelDamagedError, ModelNotFoundError, UnsupportedModelError
from greencode_lsp.records import FixedControl
from tests import reference
from training.__main__ import main
from training.checkpoint.importer import import_folder

MERGES = ["d e", "de f", "Ġ de", "i n"]


def published(model: Any, folder: Path, prefix_cut: str = "") -> Path:
    """Write a folder as OPT was published: pytorch_model.bin, vocab.json, merges.txt."""
    folder.mkdir()
    model.config.save_pretrained(folder)
    state = {name.removeprefix(prefix_cut): tensor for name, tensor in model.state_dict().items()}
    torch.save(state, folder / "pytorch_model.bin")
    symbols = sorted({chr(code) for code in range(33, 127)} | {"Ġ", "Ċ"})
    words = ["<s>", "<pad>", "</s>", "<unk>", *symbols, *(merge.replace(" ", "") for merge in MERGES)]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    return folder


@pytest.mark.parametrize("prefix_cut", ["", "model."], ids=["names of today", "older names"])
@pytest.mark.parametrize("build_model", [reference.opt, reference.llama])
def test_an_imported_folder_generates_what_the_model_did(tmp_path: Path, build_model: Any, prefix_cut: str) -> None:
    model = build_model()
    out = import_folder(published(model, tmp_path / "old", prefix_cut), tmp_path / "new")
    engine = load_engine(out, "cpu", "float32")
    emitted = [s.token_id for s in engine.generate([5, 6, 7], FixedControl(), max_new_tokens=12)]
    assert emitted == reference.reference_generate(model, [5, 6, 7], 12)
    again = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_shards_with_an_index_are_joined(tmp_path: Path) -> None:
    model = reference.llama()
    folder = published(model, tmp_path / "old")
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    weight_map = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(state)}
    for file in set(weight_map.values()):
        torch.save({name: state[name] for name in state if weight_map[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    engine = load_engine(import_folder(folder, tmp_path / "new"), "cpu", "float32")
    emitted = [s.token_id for s in engine.generate([9], FixedControl(), max_new_tokens=8)]
    assert emitted == reference.reference_generate(model, [9], 8)


def test_vocabulary_and_merges_become_one_file(tmp_path: Path) -> None:
    out = import_folder(published(reference.opt(), tmp_path / "old"), tmp_path / "new")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert tokenizer.encode("def in def", add_special_tokens=False).tokens == ["def", "Ġ", "in", "Ġ", "def"]
    assert tokenizer.decode(tokenizer.encode("def in def", add_special_tokens=False).ids) == "def in def"


class Harmful:
    """What a pickle may do when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harmed"),))


def test_a_pickle_that_does_more_than_hold_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = published(reference.opt(), tmp_path / "old")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Harmful()}))
    with pytest.raises(ModelDamagedError, match="holds no plain weights"):
        import_folder(folder, tmp_path / "new")
    assert not (tmp_path / "harmed").exists()
    assert not (tmp_path / "new").exists()


def cut(name: str) -> Any:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100])


def other_family(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bloom"}))


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda folder: (folder / "pytorch_model.bin").unlink(), ModelNotFoundError),
        (lambda folder: (folder / "merges.txt").unlink(), ModelNotFoundError),
        (lambda folder: (folder / "config.json").unlink(), ModelNotFoundError),
        (cut("pytorch_model.bin"), ModelDamagedError),
        (lambda folder: torch.save([1, 2], folder / "pytorch_model.bin"), ModelDamagedError),
        (lambda folder: (folder / "pytorch_model.bin.index.json").write_text("{}"), ModelDamagedError),
        (cut("vocab.json"), ModelDamagedError),
        (other_family, UnsupportedModelError),
        (lambda folder: (folder.parent / "new").mkdir(), ModelNotFoundError),
    ],
    ids=["no weights", "no merges", "no config", "cut", "a list", "empty index", "cut vocab", "family", "out exists"],
)
def test_what_is_wrong_with_a_folder_is_one_sentence(tmp_path: Path, damage: Any, error: type[GreenCodeError]) -> None:
    folder = published(reference.opt(), tmp_path / "old")
    damage(folder)
    with pytest.raises(error) as raised:
        import_folder(folder, tmp_path / "new")
    assert "\n" not in str(raised.value)


def test_the_command_imports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = published(reference.opt(), tmp_path / "old")
    assert main(["import", str(folder), str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "tokenizer.json").exists()
    assert main(["import", str(folder), str(tmp_path / "new")]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_command_that_lacks_a_folder_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(tmp_path)]) == 1
    assert "import FOLDER OUT" in capsys.readouterr().err

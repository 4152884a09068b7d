"""Published files, where they are: logits and ids are those of transformers on the same file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from greencode_lsp.engine.load import load_engine
from greencode_lsp.models.gguf import GGUFWeights
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from tests import gguf_files
from tests.fakes import SAMPLE
from tests.test_gguf_tokenizer import SCRIPTS

MODELS = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
POSITIONS = 96


def their_logits(path: Path, ids: list[int]) -> np.ndarray:
    weights = GGUFWeights(path)
    config, kind = MODELS[weights.config["model_type"]]
    with torch.device("meta"):
        model = kind(config(**weights.config))
    state = {name: torch.from_numpy(weights.float32(name)) for name in weights.names()}
    if "lm_head.weight" not in state:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)  # no weight, so it stayed without values
    with torch.inference_mode():
        return np.asarray(model.eval()(torch.tensor([ids])).logits[0])


@pytest.mark.parametrize("name", [gguf_files.SMOLLM, gguf_files.QWEN])
def test_in_float32_logits_are_those_of_transformers_on_the_dequantised_weights(name: str) -> None:
    path = gguf_files.published(name)
    ids = CodeTokenizer.of(path).encode(SAMPLE)[:POSITIONS]
    engine = load_engine(path, "cpu", "float32")
    engine.state.crop(0)
    engine.state.feed(ids)
    ours = engine.state.full_depth_logits(len(ids), lambda: False)
    assert np.abs(ours - their_logits(path, ids)).max() < 1e-3


def test_ids_are_those_of_transformers_conversion() -> None:
    """Of SmolLM2 it drops the split at digits, which the publisher's own tokenizer and llama.cpp have."""
    path = gguf_files.published(gguf_files.QWEN)
    theirs, ours = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name), CodeTokenizer.of(path)
    library = sorted(Path(sys.modules["json"].__file__ or "").parent.glob("*.py"))
    plain = [text for text in (SAMPLE, *SCRIPTS) if "<|" not in text]
    for text in (*plain, *(file.read_text(encoding="utf8") for file in library)):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)

"""A GGUF file becomes the folder it was made from."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError, UnsupportedModelError
from tests import gguf_files
from training.checkpoint import bpe
from training.checkpoint.importer import import_folder

MODEL = gguf_files.model("llama")
TOKENS = ["<|endoftext|>", *"!\"#$%&'()abcdef", "Ġ", "1", "2", "12", "ab", "abc"]


def written(file: Path, pre: str = "smollm", kind: str = "gpt2", architecture: str = "llama") -> Path:
    """Write a Llama with a tokenizer as llama.cpp's converter does."""
    config = MODEL.config
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    tokens = [*TOKENS, *(f"unused{i}" for i in range(config.vocab_size - len(TOKENS)))]
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["a b", "ab c", "1 2"])
    for name, tensor in MODEL.state_dict().items():
        values = gguf_files.permuted(name, tensor.numpy(), config)
        writer.add_tensor(gguf_files.stored_name(name), np.ascontiguousarray(values))
    gguf_files.finish(writer)
    return file


def test_the_logits_are_those_of_the_model_it_was_written_from(tmp_path: Path) -> None:
    out = import_folder(written(tmp_path / "m.gguf"), tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, MODEL(ids).logits, atol=1e-6)


def test_digits_stand_alone_and_merges_hold_in_the_tokenizer(tmp_path: Path) -> None:
    out = import_folder(written(tmp_path / "m.gguf"), tmp_path / "out")
    tokenizer = bpe.load(out)
    assert tokenizer.encode("abc(12").tokens == ["abc", "(", "1", "2"]
    assert tokenizer.token_to_id("<|endoftext|>") in tokenizer.get_added_tokens_decoder()


@pytest.mark.parametrize("change", [{"kind": "llama"}, {"pre": "unheard-of"}, {"architecture": "mamba"}])
def test_what_is_not_a_llama_with_a_known_byte_level_tokenizer_is_refused(
    tmp_path: Path, change: dict[str, str]
) -> None:
    file = written(tmp_path / "m.gguf", **change)
    with pytest.raises(UnsupportedModelError):
        import_folder(file, tmp_path / "out")


def test_a_missing_or_cut_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"none\.gguf"):
        import_folder(tmp_path / "none.gguf", tmp_path / "out")
    file = written(tmp_path / "m.gguf")
    for size in (3, 40, file.stat().st_size // 2):
        (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:size])
        with pytest.raises(ModelDamagedError, match="fetch it again"):
            import_folder(tmp_path / "cut.gguf", tmp_path / f"out{size}")

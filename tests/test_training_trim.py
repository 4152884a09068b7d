"""A trimmed vocabulary: smaller, still byte-level, and cutting code as before; the embedding's rows follow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from greencode_lsp.errors import CorpusError, UnsupportedModelError
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from tests.training_corpora import code
from training.checkpoint import bpe
from training.checkpoint.bpe import SPECIAL_TOKENS
from training.checkpoint.trim import rows_for, trim, trim_folder, trim_folder_to

CODE = [code(seed) for seed in range(30)]
PROSE = [" ".join(f"wherefore{n} notwithstanding" for n in range(200)) for _ in range(30)]
SIZE = 400


def base(size: int = 700) -> Tokenizer:
    """Return a tokenizer that knows prose too, with a special token of its own before the project's."""
    tokenizer = bpe.build([*CODE, *PROSE], size)
    tokenizer.add_special_tokens(["<|im_start|>"])
    return tokenizer


@pytest.mark.parametrize("tied", [True, False])
def test_a_trimmed_model_gives_the_kept_tokens_the_logits_they_had(tmp_path: Path, tied: bool) -> None:
    torch.manual_seed(0)
    tokenizer = base()
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=701
    )
    config.tie_word_embeddings = tied
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "base")
    tokenizer.save(str(tmp_path / "base" / "tokenizer.json"))
    trim_folder(tmp_path / "base", CODE, SIZE, tmp_path / "small")
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    old_ids = trim(tokenizer, CODE, SIZE).old_ids
    kept = torch.tensor([i is not None for i in old_ids])
    new = bpe.load(tmp_path / "small").encode(CODE[0]).ids[:20]
    old = [old_ids[i] for i in new]
    with torch.no_grad():
        expected = model(torch.tensor([old])).logits[0][:, [i for i in old_ids if i is not None]]
        assert torch.allclose(small(torch.tensor([new])).logits[0][:, kept], expected, atol=1e-5)


def test_a_start_trimmed_elsewhere_is_made_again_from_its_tokenizer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, vocab_size=701
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    base().save(str(tmp_path / "base" / "tokenizer.json"))
    trim_folder(tmp_path / "base", CODE, SIZE, tmp_path / "here")
    trim_folder_to(tmp_path / "base", bpe.load(tmp_path / "here"), tmp_path / "there")
    here, there = (load_file(tmp_path / name / "model.safetensors") for name in ("here", "there"))
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_text_of_kept_tokens_is_cut_as_before() -> None:
    tokenizer = base()
    trimmed = trim(tokenizer, CODE, SIZE)
    kept = {i for i in trimmed.old_ids if i is not None}
    lines = [line for text in CODE for line in text.split("\n") if kept >= set(tokenizer.encode(line).ids)]
    assert lines
    for line in lines:
        assert trimmed.tokenizer.encode(line).tokens == tokenizer.encode(line).tokens


def test_every_token_can_be_reached_by_merges_of_kept_tokens() -> None:
    trimmed = trim(base(), CODE, SIZE).tokenizer
    alone = CodeTokenizer(trimmed)
    words = [t for t, i in trimmed.get_vocab().items() if i >= len(SPECIAL_TOKENS)]
    lost = [t for t in words if trimmed.model.tokenize(t)[0].value != t]
    assert not lost
    assert alone.vocab_size == SIZE


def test_any_text_survives_the_round_trip() -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    few = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(alphabet)[:200])}, merges=[]))
    few.pre_tokenizer, few.decoder = base().pre_tokenizer, base().decoder
    text = "x = 'ü ☃ \U0001f600'\n\t\x00\x7f"
    for tokenizer in (base(), few):  # the second lacks bytes: they are added
        trimmed = CodeTokenizer(trim(tokenizer, CODE, 300).tokenizer)
        assert trimmed.decode(trimmed.encode(text)) == text


def test_the_special_tokens_are_the_projects_alone() -> None:
    trimmed = trim(base(), CODE, SIZE).tokenizer
    added = trimmed.get_added_tokens_decoder()
    assert {i: t.content for i, t in added.items()} == dict(enumerate(SPECIAL_TOKENS.values()))


def test_frequent_tokens_are_kept_and_those_of_other_text_go() -> None:
    words = trim(base(), CODE, SIZE).tokenizer.get_vocab()
    assert "return" in words
    assert not any("notwith" in word for word in words)


def test_a_new_token_begins_as_the_mean_of_the_kept_rows() -> None:
    rows = rows_for(torch.tensor([[0.0], [2.0], [9.0], [4.0]]), [1, None, 3])
    assert rows.tolist() == [[2.0], [3.0], [4.0]]


def test_other_tokenizers_are_refused() -> None:
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(UnsupportedModelError, match="byte-level BPE"):
        trim(words, CODE, SIZE)


def test_a_size_below_the_bytes_is_refused() -> None:
    with pytest.raises(CorpusError, match="no room"):
        trim(base(), CODE, 200)

"""From document to ids: exact bytes, the order of the prompt, and token healing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError, UnsupportedModelError
from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.heal import heal
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from tests.fakes import FIM, SAMPLE, at_cursor, tokenizer


def ids_of(special: str) -> int:
    token_id = tokenizer().token_id(FIM[special])
    assert token_id is not None
    return token_id


@pytest.mark.parametrize("text", [SAMPLE, "", "s = '😀é'\t\x0c\r\n", "\n\n  x", "<|endoftext|>"])
def test_the_bytes_of_the_ids_are_the_bytes_of_the_text(text: str) -> None:
    ids = tokenizer().encode(text)
    assert b"".join(map(tokenizer().token_bytes, ids)).decode() == tokenizer().decode(ids) == text
    assert not tokenizer().special_ids & set(ids)


def test_a_lone_surrogate_is_read_as_a_question_mark() -> None:
    assert tokenizer().decode(tokenizer().encode("a\ud83d")) == "a?"


def test_a_missing_tokenizer_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.json"):
        CodeTokenizer.from_folder(tmp_path)


def test_a_damaged_tokenizer_is_reported(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelDamagedError, match=r"tokenizer\.json"):
        CodeTokenizer.from_folder(tmp_path)


def test_a_tokenizer_that_is_not_byte_level_is_reported() -> None:
    with pytest.raises(UnsupportedModelError, match="byte-level"):
        CodeTokenizer(Tokenizer(models.BPE(vocab={"▁a": 0}, merges=[])))


def prompt(marked: str, budget: int = 200, fim: dict[str, str] = FIM) -> str:
    text, offset = at_cursor(marked)
    ids = build_prompt(text, offset, tokenizer(), tokenizer().fim(fim), budget)
    assert len(ids) <= budget
    return tokenizer().decode(ids)


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("|", "<|endoftext|>"),
        ("x = |", "<|endoftext|>x = "),
        ("x = |\n\n", "<|endoftext|>x = "),
        ("f(|x)\n", "<|endoftext|><|fim_suffix|>x)\n<|fim_prefix|>f("),
        ("|x\n", "<|endoftext|><|fim_suffix|>x\n<|fim_prefix|>"),
        ("a\r\nb|c\r\nd", "<|endoftext|><|fim_suffix|>c\nd<|fim_prefix|>a\nb"),
    ],
    ids=["empty document", "no suffix", "blank suffix", "suffix first", "no prefix", "line ends are newlines"],
)
def test_the_prompt_is_suffix_then_prefix(marked: str, expected: str) -> None:
    assert prompt(marked) == expected


def test_a_model_without_fill_in_the_middle_reads_the_prefix_only() -> None:
    assert prompt("f(|)", fim={"document": "<|endoftext|>"}) == "<|endoftext|>f("
    assert prompt("f(|)", fim={}) == "f("


def test_healing_drops_the_last_token_and_allows_exactly_what_spells_it_again() -> None:
    ids = tokenizer().encode("    return resul")
    healed = heal(ids, tokenizer())
    assert healed.prompt_ids == tuple(ids[:-1])
    assert healed.dropped == tokenizer().token_bytes(ids[-1])
    assert healed.constraint is not None
    expected = {
        i
        for i in set(range(tokenizer().vocab_size)) - tokenizer().special_ids
        if (text := tokenizer().token_bytes(i)) and (text.startswith(healed.dropped) or healed.dropped.startswith(text))
    }
    allowed = healed.constraint([])
    assert allowed is not None
    assert set(allowed) == expected
    assert len(set(allowed)) == len(allowed)


def test_healing_goes_on_until_the_dropped_bytes_are_covered() -> None:
    ids = tokenizer().encode("    for item in items")
    healed = heal(ids, tokenizer())
    assert healed.constraint is not None
    assert len(healed.dropped) > 1
    first = tokenizer().continuing(healed.dropped[:1])
    shortest = next(i for i in first if tokenizer().token_bytes(i) == healed.dropped[:1])
    allowed = healed.constraint([shortest])
    assert allowed is not None
    assert all(
        tokenizer().token_bytes(i).startswith(healed.dropped[1:])
        or healed.dropped[1:].startswith(tokenizer().token_bytes(i))
        for i in allowed
    )
    assert healed.constraint([ids[-1]]) is None


@pytest.mark.parametrize("text", ["", "<|fim_prefix|>"])
def test_special_tokens_are_not_healed(text: str) -> None:
    ids = [ids_of("document"), *([ids_of("prefix")] if text else [])]
    assert heal(ids, tokenizer()).prompt_ids == tuple(ids)
    assert heal(ids, tokenizer()).constraint is None


def test_a_token_that_nothing_else_could_spell_is_not_healed() -> None:
    ids = tokenizer().encode("x = 1\n")
    assert heal(ids, tokenizer()).prompt_ids == tuple(ids)

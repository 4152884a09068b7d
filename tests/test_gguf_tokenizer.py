"""The tokenizer of a GGUF file: its ids are llama.cpp's, or one sentence says why not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import pytest

from greencode_lsp.errors import GreenCodeError, ModelDamagedError, UnsupportedModelError
from greencode_lsp.prompt.gguf_tokenizer import SPLITS
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from tests import gguf_files
from tests.fakes import SAMPLE
from tests.test_prompt_fim import QWEN_MARKS, qwen

NORMAL, CONTROL, TEXT, UNUSED = 1, 3, 4, 5
SCRIPTS = (
    "def f(x):\n    return x\r\n\t# 変数 = 日本語、函数",
    "مرحبا بالعالم = 'שלום' // हिन्दी ไทย 한국어",
    "😀👩‍👩‍👧 → é e\u0301 ñ \u00a0\u3000\u200b \U0001d518 ß",
    "x = 1234567 + ١٢٣; don't I'LL 'S \u017f\x0c\x00\n\n\n    y==!=z    \n  ",
    "<|im_start|> <|fim_prefix|>",
)


def parts() -> tuple[list[str], list[int], list[str]]:
    """Tokens, types and merges of the small tokenizer with Qwen's marks, one padding token at the end."""
    inner = qwen()._tokenizer
    vocabulary = inner.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    types = [CONTROL if token in QWEN_MARKS else NORMAL for token in tokens]
    merges = json.loads(inner.to_str())["model"]["merges"]
    return [*tokens, "[PAD]"], [*types, UNUSED], [" ".join(pair) for pair in merges]


def write(path: Path, finetune: str = "", **changes: Any) -> Path:
    """Write a file that holds a tokenizer and nothing else; None leaves a key out."""
    tokens, types, merges = parts()
    values = {"model": "gpt2", "pre": "qwen2", "tokens": tokens, "token_type": types, "merges": merges, **changes}
    writer = gguf.GGUFWriter(str(path), "qwen2")
    for key, value in values.items():
        name = f"tokenizer.ggml.{key}"
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, Sequence):
            writer.add_array(name, value)
    if finetune:
        writer.add_string("general.finetune", finetune)
    gguf_files.finish(writer)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.gguf"


@pytest.mark.parametrize("text", [SAMPLE, *SCRIPTS])
def test_a_file_tokenises_as_the_tokenizer_it_was_made_from(path: Path, text: str) -> None:
    found = CodeTokenizer.of(write(path))
    assert found.encode(text) == qwen().encode(text)
    assert found.decode(found.encode(text)) == text


@pytest.mark.parametrize(("finetune", "is_instruct"), [("Instruct-AWQ", True), ("Base", False), ("", False)])
def test_a_file_that_is_an_instruct_models_goes_on_with_a_begun_line_alone(
    path: Path, finetune: str, is_instruct: bool
) -> None:
    assert CodeTokenizer.of(write(path, finetune)).fim({}).goes_on_alone == is_instruct


def test_control_tokens_are_special_and_unused_ones_are_nothing(path: Path) -> None:
    found = CodeTokenizer.of(write(path))
    assert found.special_ids == {found.token_id(mark) for mark in QWEN_MARKS}
    assert found.token_bytes(len(parts()[0]) - 1) == b""
    assert found.fim({}).ids == qwen().fim({}).ids


def test_a_token_of_the_users_own_is_found_before_text_is_split(path: Path) -> None:
    tokens, types, merges = parts()
    found = CodeTokenizer.of(write(path, tokens=[*tokens, "   x   "], token_type=[*types, TEXT], merges=merges))
    assert found.encode("a   x   b")[1] == len(tokens)


def test_a_file_that_asks_for_a_first_token_gets_it(path: Path) -> None:
    first = qwen().token_id("<|endoftext|>")
    assert first is not None
    assert CodeTokenizer.of(write(path, add_bos_token=True, bos_token_id=first)).fim({}).opening == [first]
    assert CodeTokenizer.of(write(path, add_bos_token=False, bos_token_id=first)).fim({}).opening == []


@pytest.mark.parametrize("split", SPLITS)
def test_every_pre_tokenizer_keeps_every_byte(path: Path, split: str) -> None:
    found = CodeTokenizer.of(write(path, pre=split))
    for text in (SAMPLE, *SCRIPTS):
        assert found.decode(found.encode(text)) == text


BAD: dict[str, tuple[dict[str, Any], type[GreenCodeError]]] = {
    "another kind": ({"model": "llama"}, UnsupportedModelError),
    "no kind": ({"model": None}, UnsupportedModelError),
    "another pre-tokenizer": ({"pre": "tekken"}, UnsupportedModelError),
    "no tokens": ({"tokens": None}, ModelDamagedError),
    "no merges": ({"merges": None}, ModelDamagedError),
    "no types": ({"token_type": None}, ModelDamagedError),
    "fewer types": ({"token_type": [1, 1]}, ModelDamagedError),
    "types that are words": ({"token_type": ["a"]}, ModelDamagedError),
    "merges of nothing known": ({"merges": ["nope nope"]}, ModelDamagedError),
    "merges of one part": ({"merges": ["nope"]}, ModelDamagedError),
    "a first token behind the last": ({"add_bos_token": True, "bos_token_id": 10**6}, ModelDamagedError),
    "no first token": ({"add_bos_token": True}, ModelDamagedError),
}


@pytest.mark.parametrize("name", BAD)
def test_a_tokenizer_that_cannot_be_is_one_sentence(path: Path, name: str) -> None:
    changes, error = BAD[name]
    with pytest.raises(error) as raised:
        CodeTokenizer.of(write(path, **changes))
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", [gguf_files.QWEN, gguf_files.SMOLLM])
def test_a_published_file_tokenises_as_llama_cpp_does(name: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    path = gguf_files.published(name)
    theirs, ours = llama_cpp.Llama(str(path), vocab_only=True, verbose=False), CodeTokenizer.of(path)
    for text in (SAMPLE, *SCRIPTS, Path(__file__).read_text(encoding="utf8")):
        assert ours.encode(text) == theirs.tokenize(text.encode(), add_bos=False, special=False)

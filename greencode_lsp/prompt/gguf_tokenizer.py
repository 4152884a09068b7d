"""The tokenizer of a GGUF file: its vocabulary and merges, and the pre-tokenizer that it names.

Ids are those that llama.cpp gives. Text is not normalised, where Qwen's own `tokenizer.json` composes characters first
(NFC): a completion is put between the bytes that stand in the document.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from greencode_lsp.errors import ModelDamagedError, UnsupportedModelError
from greencode_lsp.models.gguf_header import Header, damaged, read_header

_NORMAL, _UNKNOWN, _CONTROL, _TEXT, _UNUSED = 1, 2, 3, 4, 5
"""llama.cpp's token types; 4 is `user defined`: found in text before it is split."""
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3 = (rf"{_ENDINGS}|{_WORDS}|\p{{N}}{{1,3}}|{_OTHERS}",)
_QWEN2 = (rf"{_ENDINGS}|{_WORDS}|\p{{N}}|{_OTHERS}",)
_GPT2 = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",)
_STARCODER = (r"\p{N}", *_GPT2)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")
SPLITS: dict[str, tuple[str, ...]] = {
    "qwen2": _QWEN2,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "smollm": _STARCODER,
    "starcoder": _STARCODER,
    "refact": _STARCODER,
    "command-r": _STARCODER,
    "gpt-2": _GPT2,
    "gpt2": _GPT2,
    "deepseek-coder": _DEEPSEEK_CODER,
}
"""By `tokenizer.ggml.pre`: patterns whose matches, and what lies between them, are split off one after the other.

https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""
_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3")
"""Where a word that is in the vocabulary is taken whole, whatever the merges say."""
_AT = "tokenizer.ggml."


def read_tokenizer(path: Path) -> tuple[Tokenizer, bool]:
    """Return the tokenizer of a GGUF file, and whether the model says of itself that it was tuned on instructions.

    Raises UnsupportedModelError where it is no byte-level BPE or has another pre-tokenizer, ModelDamagedError where
    its lists contradict each other, and what `read_header` raises.
    """
    header = read_header(path)
    is_instruct = (header.text("general.finetune") or "").lower().startswith("instruct")
    kind, split = header.text(f"{_AT}model"), header.text(f"{_AT}pre")
    if kind != "gpt2":
        raise UnsupportedModelError(
            f"{path} has a tokenizer of the kind {kind!r}; byte-level BPE (gpt2) is supported: set greencode.model."
        )
    if split not in SPLITS:
        raise UnsupportedModelError(
            f"{path} splits text as {split!r} does; {', '.join(SPLITS)} are supported: set greencode.model."
        )
    tokens, merges, types = header.strings(f"{_AT}tokens"), header.strings(f"{_AT}merges"), _types(header)
    if not tokens or merges is None or len(types) != len(tokens):
        raise damaged(path, f"its tokenizer has {len(tokens or ())} tokens and {len(types)} types")
    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    vocabulary = dict(zip(tokens, range(len(tokens)), strict=True))
    for index in np.flatnonzero(types == _UNUSED).tolist():
        vocabulary.pop(tokens[index], None)
    try:
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=split in _WHOLE_WORDS))
    except Exception as error:  # the library raises bare Exception, e.g. for a merge that is not in the vocabulary
        raise damaged(path, f"its tokenizer's merges do not fit its tokens: {error}") from error
    tokenizer.pre_tokenizer = _pre_tokenizer(SPLITS[split])
    tokenizer.decoder = decoders.ByteLevel()
    added = [tokens[index] for index in np.flatnonzero(types == _TEXT).tolist()]
    special = [tokens[index] for index in np.flatnonzero((types == _CONTROL) | (types == _UNKNOWN)).tolist()]
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    _open(header, tokenizer, tokens)
    return tokenizer, is_instruct


def _types(header: Header) -> np.ndarray[Any, Any]:
    types = header.metadata.get(f"{_AT}token_type")
    return types if isinstance(types, np.ndarray) else np.zeros(0, np.int32)


def _pre_tokenizer(patterns: tuple[str, ...]) -> pre_tokenizers.PreTokenizer:
    splits: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns
    ]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _open(header: Header, tokenizer: Tokenizer, tokens: list[str]) -> None:
    """Let the tokenizer begin texts with the model's first token, where the file asks for that."""
    if header.metadata.get(f"{_AT}add_bos_token") is not True:
        return
    index = header.number(f"{_AT}bos_token_id")
    if index is None or not 0 <= index < len(tokens):
        raise ModelDamagedError(f"{header.path} names token {index} as its first, of {len(tokens)}; fetch it again.")
    mark = tokens[int(index)]
    template = processors.TemplateProcessing(single=f"{mark} $A", special_tokens=[(mark, int(index))])
    tokenizer.post_processor = template

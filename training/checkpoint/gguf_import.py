"""A GGUF file -> a Hugging Face folder: dequantised float32 weights, config.json, tokenizer.json.

python -m training import smollm2-135m-instruct-q4_1.gguf ~/smollm2-135m
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from greencode_lsp.errors import ModelDamagedError, UnsupportedModelError
from greencode_lsp.models.gguf import GGUFWeights
from greencode_lsp.models.gguf_header import Header
from training.checkpoint.tensor_files import save_shards

MAX_SHARD_BYTES = 500_000_000
_CONTROL = 3
"""llama.cpp's type of a special token."""
_SPLITS = {"smollm": pre_tokenizers.Digits(individual_digits=True), "gpt-2": None}
"""What a pre-tokenizer does before GPT-2's own split, by llama.cpp's name."""


def import_gguf(file: Path, out: Path) -> None:
    """Write the files of a folder into the existing `out`.

    Raises ModelNotFoundError, ModelDamagedError and UnsupportedModelError, the last also for a tokenizer that is not
    byte-level or splits in a way that is not known here.
    """
    weights = GGUFWeights(file)
    tokenizer = _tokenizer(weights.header)
    layout = {name: (weights.shape(name), torch.float32) for name in weights.names()}
    save_shards(out, layout, lambda name: torch.from_numpy(weights.float32(name)), MAX_SHARD_BYTES)
    config = weights.config | {"dtype": "float32", "vocab_size": tokenizer.get_vocab_size()}
    (out / "config.json").write_text(json.dumps(config, indent=1), encoding="utf8")
    tokenizer.save(str(out / "tokenizer.json"))


def _tokenizer(header: Header) -> Tokenizer:
    kind, split = header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")
    if kind != "gpt2" or split not in _SPLITS:
        raise UnsupportedModelError(
            f"{header.path} has the tokenizer {kind!r} with the split {split!r}; byte-level ones split like "
            f"{' or '.join(_SPLITS)} are imported. Take the model's Hugging Face folder instead."
        )
    tokens, stated = header.strings("tokenizer.ggml.tokens") or [], header.strings("tokenizer.ggml.merges") or []
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in stated)]
    try:
        tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    except Exception as error:  # the tokenizers library raises nothing more special
        raise ModelDamagedError(f"The tokenizer in {header.path} cannot be read ({error}); fetch it again.") from error
    first, byte_level = _SPLITS[split], pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = byte_level if first is None else pre_tokenizers.Sequence([first, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = header.metadata.get("tokenizer.ggml.token_type", [])
    special = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return tokenizer

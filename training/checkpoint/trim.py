"""A checkpoint's vocabulary cut to what a corpus needs: fewer rows to store, to multiply and to train.

Tokens are ranked by how often the corpus has them and kept together with every token that their merges pass through, so
that text of kept tokens alone is cut as before. All 256 bytes stay (or become) tokens: any text can still be written.
The project's fill-in-the-middle tokens are added, the base's other special tokens go. Rows of the embedding follow;
a new token starts as the mean of the kept rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from torch import Tensor

from greencode_lsp.engine.checkpoint import Weights, read_config
from greencode_lsp.errors import CorpusError, UnsupportedModelError
from training.checkpoint import bpe
from training.checkpoint.bpe import SPECIAL_TOKENS
from training.checkpoint.tensor_files import save_shards

MAX_SHARD_BYTES = 500_000_000
_BY_VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight", "model.decoder.embed_tokens.weight")


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A smaller tokenizer, and where its ids were before."""

    tokenizer: Tokenizer
    old_ids: list[int | None]
    """[new vocabulary]; None for a new token."""
    kept_share: float
    """Of the corpus's tokens, those that are still one token."""


def trim(tokenizer: Tokenizer, texts: Iterable[str], size: int) -> Trimmed:
    """Return the tokenizer with `size` entries, its special tokens first.

    Raises UnsupportedModelError where it is no byte-level BPE, CorpusError where `size` does not hold the bytes.
    """
    data = _byte_level(tokenizer)
    special = {token["content"]: token["id"] for token in data["added_tokens"]}
    vocabulary: dict[str, int] = {t: i for t, i in data["model"]["vocab"].items() if t not in special}
    counts = _count(tokenizer, texts)
    merges = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in data["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    room = size - len(SPECIAL_TOKENS)
    if room < len(alphabet):
        raise CorpusError(f"A vocabulary of {size} has no room for {len(alphabet)} bytes; raise [corpus] vocab_size.")
    kept = _closed(counts, vocabulary, merges, set(alphabet), room)
    order = [*SPECIAL_TOKENS.values(), *sorted(kept, key=lambda t: (vocabulary.get(t, len(vocabulary)), t))]
    known = special | vocabulary
    total = sum(counts.values())
    return Trimmed(
        _rebuilt(data, order, merges),
        [known.get(token) for token in order],
        sum(counts[vocabulary[token]] for token in kept if token in vocabulary) / max(1, total),
    )


def _byte_level(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the parsed tokenizer.json. Raises UnsupportedModelError where it is no byte-level BPE."""
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    first, model = data["pre_tokenizer"] or {}, data["model"]
    steps = first.get("pretokenizers", [first])
    if model["type"] != "BPE" or model.get("byte_fallback") or not any(s.get("type") == "ByteLevel" for s in steps):
        raise UnsupportedModelError(
            "Only a byte-level BPE can be trimmed; start from another checkpoint, or set [corpus] vocab_size to the "
            "size of its vocabulary."
        )
    return data


def _count(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    counts = Counter[int]()
    for text in texts:
        counts.update(tokenizer.encode(text, add_special_tokens=False).ids)
    return counts


def _closed(
    counts: Counter[int], vocabulary: dict[str, int], merges: list[tuple[str, ...]], kept: set[str], room: int
) -> set[str]:
    """Return at most `room` tokens: `kept`, and by falling count each whose ancestors fit too."""
    parents: dict[str, tuple[str, ...]] = {}
    for merge in merges:
        parents.setdefault("".join(merge), merge)
    for token in sorted(vocabulary, key=lambda token: (-counts[vocabulary[token]], vocabulary[token])):
        needed, stack = set[str](), [token]
        while stack:
            part = stack.pop()
            if part not in kept and part not in needed:
                needed.add(part)
                stack += parents.get(part, ())
        if len(kept) + len(needed) <= room and needed <= vocabulary.keys():
            kept |= needed
    return kept


def _rebuilt(data: dict[str, Any], order: list[str], merges: list[tuple[str, ...]]) -> Tokenizer:
    ids = {token: index for index, token in enumerate(order)}
    model = data["model"] | {"vocab": ids, "unk_token": None}
    model["merges"] = [list(m) for m in merges if "".join(m) in ids and all(part in ids for part in m)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": ids[token], "content": token} | flags for token in SPECIAL_TOKENS.values()]
    parts = {"added_tokens": added, "model": model, "post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(data | parts))


def rows_for(matrix: Tensor, old_ids: list[int | None]) -> Tensor:
    """Return the rows [new vocabulary, D] of `matrix` [old vocabulary, D]; new tokens get the mean of the kept."""
    rows = matrix[torch.tensor([0 if i is None else i for i in old_ids])]
    is_new = torch.tensor([i is None for i in old_ids])
    rows[is_new] = rows[~is_new].mean(0)
    return rows


def trim_folder(folder: Path, texts: Iterable[str], size: int, out: Path) -> float:
    """Write `folder` with a vocabulary of `size` to `out`; returns the share of the corpus's tokens that stay one."""
    trimmed = trim(bpe.load(folder), texts, size)
    _write(folder, trimmed.tokenizer, trimmed.old_ids, out)
    return trimmed.kept_share


def trim_folder_to(folder: Path, tokenizer: Tokenizer, out: Path) -> None:
    """Write `folder` with the vocabulary of a tokenizer that was trimmed from its own elsewhere."""
    known = bpe.load(folder).get_vocab()
    order = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    _write(folder, tokenizer, [known.get(token) for token, _ in order], out)


def _write(folder: Path, tokenizer: Tokenizer, old_ids: list[int | None], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    weights, config, size = Weights(folder), read_config(folder), len(old_ids)

    def read(name: str) -> Tensor:
        tensor = torch.from_numpy(weights.float32(name))
        return rows_for(tensor, old_ids) if name in _BY_VOCABULARY else tensor

    shapes = {name: weights.shape(name) for name in weights.names()}
    cut = {name: (size, *shape[1:]) if name in _BY_VOCABULARY else shape for name, shape in shapes.items()}
    save_shards(out, {name: (shape, torch.float32) for name, shape in cut.items()}, read, MAX_SHARD_BYTES)
    document = list(SPECIAL_TOKENS).index("document")
    marks = {"bos_token_id": document, "eos_token_id": document, "pad_token_id": None}
    (out / "config.json").write_text(json.dumps(config | marks | {"vocab_size": size}, indent=1), encoding="utf8")
    tokenizer.save(str(out / "tokenizer.json"))

"""Counting a draft table (greencode_lsp/models/draft_table.py): what follows a few tokens in the packages trained on.

Every context of up to LONGEST_CONTEXT tokens in every file is counted with the token behind it. Contexts that stand
often and tell enough are kept; of those, the ones whose drafts would be right most often. How likely a draft is the
full model's own token is a little less than how often it follows in text: `ACCEPTED`.

Letters: N tokens counted, n contexts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.errors import CorpusError
from greencode_lsp.models.draft_table import LONGEST_CONTEXT, SHARES, DraftTable, fold, key_of
from greencode_lsp.models.exit_checks import MAX_DRAFTS
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from training.data.corpus import split_of
from training.data.packages import Package
from training.exits.shortlist import BATCH_FILES, texts
from training.preset import DraftOptions

LEAST_SHARE = 0.2
KEY_BITS, TOKEN_BITS = 44, 20
"""Of the numbers that are counted: a context's hash and the token behind it."""
ACCEPTED = ((0.0, 0.0), (0.45, 0.37), (0.85, 0.73), (0.95, 0.82), (1.0, 0.96))
"""By share in text: how often the token is the full model's own, of small-1 in validation packages."""
BETWEEN = -1
"""Stands between two files."""


@dataclass(frozen=True, slots=True)
class Followers:
    """What follows the contexts of one length most often."""

    keys: NDArray[np.uint32]
    """[n]"""
    ids: NDArray[np.int64]
    """[n]"""
    times: NDArray[np.int64]
    """[n] how often the id followed."""
    of: NDArray[np.int64]
    """[n] how often the context stood."""


def count(packages: Sequence[Package], tokenizer: CodeTokenizer, options: DraftOptions) -> DraftTable | None:
    """Return the table of the packages that are trained on; None where no context stands often enough.

    Raises CorpusError for a vocabulary too large, and where no package or a language of them has any text.
    """
    if tokenizer.vocab_size > 2**TOKEN_BITS:
        raise CorpusError(f"Drafts are counted for at most {2**TOKEN_BITS:,} tokens, not {tokenizer.vocab_size:,}.")
    learnt = [package for package in packages if split_of(package) == "train"]
    return build(read(learnt, tokenizer, options.tokens), options.least_times, min(options.most_contexts, MAX_DRAFTS))


def read(packages: Sequence[Package], tokenizer: CodeTokenizer, max_tokens: int) -> NDArray[np.int64]:
    """Return the ids [N] of the packages' files, languages alike, BETWEEN behind each file.

    Raises CorpusError where a language, or every one, has none.
    """
    languages = sorted({package.language for package in packages})
    if not languages:
        raise CorpusError("No package is there to count drafts in; name more sources.")
    return np.concatenate(
        [
            _ids([p for p in packages if p.language == language], tokenizer, max_tokens // len(languages))
            for language in languages
        ]
    )


def _ids(packages: Sequence[Package], tokenizer: CodeTokenizer, max_tokens: int) -> NDArray[np.int64]:
    source, parts, count = texts(packages), list[NDArray[np.int64]](), 0
    while count < max_tokens and (batch := list(islice(source, BATCH_FILES))):
        for ids in tokenizer.encode_many(batch):
            parts.append(np.array([*ids, BETWEEN], np.int64))
            count += len(ids)
    if not count:
        raise CorpusError("A language has no text to count drafts in; name more sources.")
    return np.concatenate(parts)


def followers(ids: NDArray[np.int64], length: int) -> Followers:
    """Return what follows most often behind each context of `length` tokens in ids [N]."""
    behind = len(ids) - length
    context, whole = np.zeros(behind, np.uint64), ids[length:] != BETWEEN
    for back in range(1, length + 1):
        token = ids[length - back : len(ids) - back]
        whole &= token != BETWEEN
        context = fold(context, token.astype(np.uint64))
    low = KEY_BITS - 32  # bits beyond the key, so that contexts of one key are counted apart
    numbers = (key_of(context) << np.uint64(low)) | (context & np.uint64(2**low - 1))
    numbers = (numbers << np.uint64(TOKEN_BITS)) | ids[length:].astype(np.uint64)
    pairs, times = np.unique(numbers[whole], return_counts=True)
    first = np.flatnonzero(np.diff(pairs >> np.uint64(TOKEN_BITS), prepend=~pairs[:1]))  # of each context
    most = np.maximum.reduceat(times, first)
    sizes = np.diff(np.append(first, len(pairs)))
    best = np.flatnonzero(times == np.repeat(most, sizes))
    best = best[np.unique(np.searchsorted(first, best, side="right"), return_index=True)[1]]
    keys = pairs[best] >> np.uint64(TOKEN_BITS + low)
    tokens = pairs[best] & np.uint64(2**TOKEN_BITS - 1)
    return Followers(keys.astype(np.uint32), tokens.astype(np.int64), most, np.add.reduceat(times, first))


def _kept(ids: NDArray[np.int64], least_times: int) -> Iterator[Followers]:
    for length in range(1, LONGEST_CONTEXT + 1):
        if len(ids) <= length:
            return
        counted = followers(ids, length)
        keep = (counted.of >= least_times) & (counted.times >= LEAST_SHARE * counted.of)
        yield Followers(counted.keys[keep], counted.ids[keep], counted.times[keep], counted.of[keep])


def build(ids: NDArray[np.int64], least_times: int, most_contexts: int) -> DraftTable | None:
    """Return the table of ids [N]; None where no context stands often enough."""
    parts = list(_kept(ids, least_times))
    if not any(len(part.keys) for part in parts):
        return None
    keys, tokens, times, of = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("keys", "ids", "times", "of")
    )
    share = times / (of + 1)
    order = np.argsort(-times * (share - LEAST_SHARE), kind="stable")[:most_contexts]
    _, first = np.unique(keys[order], return_index=True)  # of two contexts of one key the more useful
    chosen = order[first]
    known, likely = np.array(ACCEPTED).T
    accepted = np.interp(share[chosen], known, likely)
    shares = np.rint(SHARES * accepted).astype(np.uint8)
    return DraftTable(keys[chosen], tokens[chosen].astype(np.int32), shares)

"""Which rows of the LM head a shortlist has: those of the ids that code is made of, and that the model says.

Counted over the packages that are trained on, each language alike, and over the model's own likeliest ids; judged by
packages of which nothing was counted. Letters: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.errors import CorpusError
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from training.data.corpus import texts_of
from training.data.licences import without_notice
from training.data.packages import Package

Counts = NDArray[np.int64]
BATCH_FILES = 64
MAX_PACKAGE_CHARACTERS = 4_000_000
"""Of one package, so that none fills the list alone."""
PROGRESS_TOKENS = 5_000_000


def texts(packages: Sequence[Package]) -> Iterator[str]:
    """Yield the texts of each package, without licence notices, up to MAX_PACKAGE_CHARACTERS."""
    for package in packages:
        left = MAX_PACKAGE_CHARACTERS
        for text in map(without_notice, texts_of(package)):
            left -= len(text)
            if left < 0:
                break
            yield text


def count(packages: Sequence[Package], tokenizer: CodeTokenizer, vocabulary: int, max_tokens: int) -> Counts:
    """Return how often each id [V] stands in the packages' files, until `max_tokens` have been counted."""
    counts, printed = np.zeros(vocabulary, np.int64), 0
    source = texts(packages)
    while (total := int(counts.sum())) < max_tokens:
        batch = list(islice(source, BATCH_FILES))
        if not batch:
            break
        for ids in tokenizer.encode_many(batch):
            counts += np.bincount(ids, minlength=vocabulary)
        if total // PROGRESS_TOKENS > printed:
            printed = total // PROGRESS_TOKENS
            print(f"{total:,} tokens counted", flush=True)
    return counts


def count_languages(
    packages: Sequence[Package], tokenizer: CodeTokenizer, vocabulary: int, max_tokens: int
) -> dict[str, Counts]:
    """Return the counts by language, which share `max_tokens`. Raises CorpusError where a language has none."""
    languages = sorted({package.language for package in packages})
    counts = {}
    for language in languages:
        spoken = [package for package in packages if package.language == language]
        counts[language] = count(spoken, tokenizer, vocabulary, max_tokens // len(languages))
        if not counts[language].sum():
            raise CorpusError(f"The packages hold no {language} to count; name more sources.")
    return counts


def forced_ids(tokenizer: CodeTokenizer) -> set[int]:
    """Return the ids that every shortlist has: single bytes, which spell what it lacks, and those that end a text."""
    single = {token_id for token_id in range(tokenizer.vocab_size) if len(tokenizer.token_bytes(token_id)) == 1}
    return (single - set(tokenizer.special_ids)) | set(tokenizer.fim({}).stop_ids)


def choose(counts: Mapping[str, Counts], forced: set[int], size: int) -> NDArray[np.int64]:
    """Return `size` ids, ascending: those forced, then the most frequent, each of the counts weighing alike.

    An id that nothing ever counted is left out, so that fewer may come.
    """
    shares = np.sum([counted / max(1, counted.sum()) for counted in counts.values()], axis=0)
    order = np.argsort(-shares, kind="stable")
    ranked = [int(i) for i in order[: int((shares > 0).sum())] if int(i) not in forced]
    return np.array(sorted([*forced, *ranked[: max(0, size - len(forced))]]), np.int64)


def coverage(ids: NDArray[np.int64], counts: Counts) -> float:
    """Return the share of what was counted that is on the list."""
    return float(counts[ids].sum() / max(1, counts.sum()))

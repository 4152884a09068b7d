"""Quality of a completion against a reference, 0 to 1, by the field's libraries (extra `train`).

Exact match and edit similarity are CodeXGLUE's (stripped text; Levenshtein ratio, rapidfuzz's `fuzz.ratio`). ROUGE-L is
the F-measure of rouge-score, chrF and BLEU sacrebleu's sentence scores, CodeBLEU the mean of its four parts in equal
weights (Ren et al., arXiv 2009.10297; a text without data flow counts 1 there, as codebleu has it). Sentence scores are
averaged, so they compare policies on the same lines, not with corpus scores of other papers.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

NAMES = ("exact_match", "edit_similarity", "rouge_l", "chrf", "bleu", "codebleu")


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"])


@lru_cache(maxsize=1)
def _codebleu() -> Any:
    from codebleu import calc_codebleu

    logging.getLogger().addFilter(lambda record: "data-flow" not in record.getMessage())
    return calc_codebleu


def exact_match(text: str, reference: str) -> float:
    """Return 1.0 where the stripped texts are equal."""
    return float(text.strip() == reference.strip())


def edit_similarity(text: str, reference: str) -> float:
    """Return the Levenshtein ratio (CodeXGLUE's edit similarity / 100)."""
    from rapidfuzz import fuzz

    return float(fuzz.ratio(text.strip(), reference.strip())) / 100


def rouge_l(text: str, reference: str) -> float:
    """Return the F-measure of the longest common subsequence of words; 1.0 where neither text has a word."""
    score = _rouge().score(reference, text)["rougeL"]
    if not any(letter.isalnum() and letter.isascii() for letter in text + reference):
        return exact_match(text, reference)
    return float(score.fmeasure)


def chrf(text: str, reference: str) -> float:
    """Return sacrebleu's sentence chrF."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(text, [reference]).score) / 100 if text.strip() else float(not reference.strip())


def bleu(text: str, reference: str) -> float:
    """Return sacrebleu's sentence BLEU (smoothed, effective order)."""
    from sacrebleu import sentence_bleu

    return float(sentence_bleu(text, [reference], use_effective_order=True).score) / 100


def codebleu(text: str, reference: str, language: str) -> float:
    """Return CodeBLEU in `python` or `java`; equal texts are 1.0, and an empty one against any other is 0.0."""
    if exact_match(text, reference):
        return 1.0
    if not text.strip() or not reference.strip():
        return 0.0
    return float(_codebleu()([reference], [text], language)["codebleu"])


@lru_cache(maxsize=4096)
def line_scores(text: str, reference: str, language: str) -> tuple[float, float, float, float]:
    """Return what the calibration table holds: exact match, edit similarity, ROUGE-L, CodeBLEU."""
    return (
        exact_match(text, reference),
        edit_similarity(text, reference),
        rouge_l(text, reference),
        codebleu(text, reference, language),
    )


@lru_cache(maxsize=4096)
def all_scores(text: str, reference: str, language: str) -> dict[str, float]:
    """Return every metric by its name."""
    exact, edit, rouge, code = line_scores(text, reference, language)
    values = (exact, edit, rouge, chrf(text, reference), bleu(text, reference), code)
    return dict(zip(NAMES, values, strict=True))

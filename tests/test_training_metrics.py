"""Metrics on values worked by hand."""

from __future__ import annotations

import pytest

from training.evaluation import metrics


def test_an_exact_match_ignores_blanks_at_the_ends_only() -> None:
    assert metrics.exact_match("  x = 1 ", "x = 1") == 1.0
    assert metrics.exact_match("x =  1", "x = 1") == 0.0


def test_edit_similarity_is_two_matches_over_all_characters() -> None:
    # "abcd" and "abxd": three characters in common of 4 + 4
    assert metrics.edit_similarity("abcd", "abxd") == pytest.approx(2 * 3 / 8)
    assert metrics.edit_similarity("abcd", "") == 0.0


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    # words x foo a c against x foo a b: three in order, precision and recall 3/4
    assert metrics.rouge_l("x = foo(a, c)", "x = foo(a, b)") == pytest.approx(3 / 4)
    # one word of one, of two in the reference: p = 1, r = 1/2
    assert metrics.rouge_l("foo", "foo bar") == pytest.approx(2 / 3)


def test_rouge_l_of_texts_without_words_is_their_equality() -> None:
    assert metrics.rouge_l("):", "):") == 1.0
    assert metrics.rouge_l("):", ")") == 0.0


def test_bleu_of_four_tokens_with_one_wrong_at_the_end() -> None:
    # 1-grams 3/4, 2-grams 2/3, 3-grams 1/2, 4-grams 0/1 smoothed to 1/2
    assert metrics.bleu("a b c x", "a b c d") == pytest.approx((3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25, rel=1e-3)


def test_chrf_of_texts_of_one_character_each_is_all_or_nothing() -> None:
    assert metrics.chrf("a", "a") == 1.0
    assert metrics.chrf("a", "b") == 0.0


def test_codebleu_of_equal_code_is_one_and_of_none_is_zero() -> None:
    assert metrics.codebleu("x = 1", "x = 1", "python") == 1.0
    assert metrics.codebleu("", "x = 1", "python") == 0.0


@pytest.mark.parametrize(
    ("language", "text", "reference"),
    [("python", "x = foo(a, c)", "x = foo(a, b)"), ("java", "int x = foo(a, c);", "int x = foo(a, b);")],
)
def test_codebleu_is_the_mean_of_four_parts(language: str, text: str, reference: str) -> None:
    from codebleu import calc_codebleu

    parts = calc_codebleu([reference], [text], language)
    names = ("ngram_match_score", "weighted_ngram_match_score", "syntax_match_score", "dataflow_match_score")
    assert metrics.codebleu(text, reference, language) == pytest.approx(sum(parts[name] for name in names) / 4)
    assert parts["syntax_match_score"] == 1.0  # a renamed variable leaves the tree as it is


def test_every_metric_of_equal_texts_is_one() -> None:
    scores = metrics.all_scores("return first + second", "return first + second", "python")
    assert set(scores) == set(metrics.NAMES)
    assert all(score == pytest.approx(1.0) for score in scores.values())

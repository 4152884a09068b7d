"""Token classes, by their characters."""

from __future__ import annotations

import pytest

from training.evaluation.token_classes import exit_histogram, token_class


@pytest.mark.parametrize(
    ("text", "language", "before", "expected"),
    [
        pytest.param("\n    ", "python", "x", "whitespace", id="newline and indentation"),
        pytest.param("):", "python", "x", "punctuation", id="brackets"),
        pytest.param(" return", "python", ":", "keyword", id="keyword after a blank"),
        pytest.param("public", "java", "\n", "keyword", id="keyword of Java"),
        pytest.param("public", "python", "\n", "identifier start", id="no keyword of Python"),
        pytest.param("if", "python", "not", "identifier rest", id="a keyword's letters inside a word"),
        pytest.param(" total", "python", "x", "identifier start", id="a blank starts a word"),
        pytest.param("_count", "python", "x", "identifier rest", id="subword"),
        pytest.param("count", "python", "_", "identifier rest", id="after an underscore"),
        pytest.param("total", "python", ".", "identifier start", id="after a dot"),
        pytest.param(" 42", "python", "=", "literal", id="number"),
        pytest.param("2", "python", "log", "identifier rest", id="a digit inside a word"),
        pytest.param(' "', "java", "=", "literal", id="quote"),
        pytest.param("null", "java", "=", "literal", id="constant"),
        pytest.param("<|endoftext|>", "python", "x", "end", id="special token"),
        pytest.param("end", "ruby", "", "identifier start", id="a language without keywords"),
    ],
)
def test_a_tokens_class_is_read_off_its_characters(text: str, language: str, before: str, expected: str) -> None:
    assert token_class(text, language, before) == expected


def test_the_histogram_counts_exits_per_class() -> None:
    classes = ["keyword", "whitespace", "keyword", "keyword"]
    assert exit_histogram(classes, [8, 4, 4, 8]) == {"whitespace": {4: 1}, "keyword": {4: 1, 8: 2}}

"""Suggestions remembered: typed along with, taken back, indented by the editor; and not where the text is another."""

from __future__ import annotations

import pytest

from greencode_lsp.completion.request import Request
from greencode_lsp.completion.status import Suggested
from greencode_lsp.completion.suggestions import DOCUMENTS, Suggestion, Suggestions
from tests.fakes import at_cursor

FAR = "import os\n" * 200
"""More than the model sees."""
SEEN = 512


def request(marked: str) -> Request:
    return Request(*at_cursor(marked), "python")


def rest(made_at: str, text: str, asked_at: str) -> str | None:
    """Return what a suggestion made at one cursor says at another."""
    suggestions = Suggestions()
    suggestions.add("a", Suggestion.of(7, request(made_at), text, SEEN))
    suggested = suggestions.find("a", request(asked_at))
    return None if suggested is None else suggested.text


FITS = {
    "the same place": ("for it|\n", "em in items:", "for it|\n", "em in items:"),
    "typed along": ("for it|\n", "em in items:", "for item in|\n", " items:"),
    "typed along for 120 characters": ("x = |\n", "y" * 200, f"x = {'y' * 120}|\n", "y" * 80),
    "typed into the next line": ("for x in y:|\n", "\n    print(x)", "for x in y:\n    pr|\n", "int(x)"),
    "indented by the editor, less": ("if x:|\n", "\n        return x", "if x:\n    |\n", "    return x"),
    "indented by the editor, as much": ("if x:|\n", "\n    return x", "if x:\n    |\n", "return x"),
    "windows line ends": ("if x:|\r\n", "\n    return x", "if x:\r\n    |\r\n", "return x"),
    "a bracket closed by the editor": ("print|\n", "(value)", "print(|)\n", "value"),
    "an error corrected": ("for it|\n", "em in items:", "for ite|\n", "m in items:"),
    "a part of the word taken back": ("for ite|\n", "m in items:", "for i|\n", "tem in items:"),
    "lines added far above": (FAR + "x|\n", " = 1", "import sys\n" + FAR + "x|\n", " = 1"),
    "typed along below much text": (FAR + "x|\n", " = 10", FAR + "x =|\n", " 10"),
    "typed below windows line ends": ("if x:|\r\n", "\n    return x", "if x:\r\n    re|\r\n", "turn x"),
    "what the editor closes is not closed again": ("if foo|\n", "(x):", "if foo(|)\n", "x"),
    "nor a string": ("print(|)\n", '"hello", x)', 'print("|")\n', "hello"),
    "nothing to suggest, still": ("x|\n", "", "x|\n", ""),
}


@pytest.mark.parametrize(("made_at", "text", "asked_at", "expected"), FITS.values(), ids=FITS.keys())
def test_a_suggestion_goes_on_where_it_still_fits(made_at: str, text: str, asked_at: str, expected: str) -> None:
    assert rest(made_at, text, asked_at) == expected


MISSES = {
    "a name changed where the model has seen it": (
        "TOTAL = 1\n" + "x\n" * 99 + "y = |\n",
        "TOTAL",
        "SUM = 1\n" + "x\n" * 99 + "y = |\n",
    ),
    "a name changed below": ("y = |\n" + "x\n" * 99 + "TOTAL = 1\n", "TOTAL", "y = |\n" + "x\n" * 99 + "SUM = 1\n"),
    "another word": ("for it|\n", "em in items:", "for ik|\n"),
    "another line": ("x = |\n", "1", "x = 2\ny = |\n"),
    "all of it typed": ("x = |\n", "12", "x = 12|\n"),
    "more than it typed": ("x = |\n", "12", "x = 123|\n"),
    "the text after the cursor has changed": ("x = |\ny = 2\n", "1", "x = |\ny = 3\n"),
    "another line's end taken back": ("a = 1\nb|\n", " = 2", "a = |\n"),
    "blanks taken back": ("x = |\n", "1", "x =|\n"),
    "more indented than suggested": ("if x:|\n", "\n    y", "if x:\n        |\n"),
    "the same line elsewhere": ("a = |\n", "1", "b = 1\na = |\n"),
    "nothing to suggest, but typed on": ("x|\n", "", "x.|\n"),
}


@pytest.mark.parametrize(("made_at", "text", "asked_at"), MISSES.values(), ids=MISSES.keys())
def test_a_suggestion_is_silent_where_the_text_went_another_way(made_at: str, text: str, asked_at: str) -> None:
    assert rest(made_at, text, asked_at) is None


def test_the_newest_suggestion_that_fits_answers() -> None:
    suggestions = Suggestions()
    for number, text in enumerate(("1", "2")):
        suggestions.add("a", Suggestion.of(number, request("x = |\n"), text, SEEN))
    assert suggestions.find("a", request("x = |\n")) == Suggested("2", 1)


def test_documents_do_not_answer_for_each_other_and_are_forgotten() -> None:
    suggestions = Suggestions()
    suggestions.add("a", Suggestion.of(1, request("x = |\n"), "1", SEEN))
    assert suggestions.find("b", request("x = |\n")) is None
    suggestions.forget("a")
    assert suggestions.find("a", request("x = |\n")) is None


def test_the_document_unused_for_longest_goes_first() -> None:
    suggestions = Suggestions()
    for index in range(DOCUMENTS + 1):
        suggestions.add(str(index), Suggestion.of(index, request("x = |\n"), "1", SEEN))
    assert suggestions.find("0", request("x = |\n")) is None
    assert suggestions.find("1", request("x = |\n")) == Suggested("1", 1)


def test_no_more_text_is_kept_than_is_looked_at() -> None:
    made = Suggestion.of(1, request(FAR + "x|" + FAR), "y", SEEN)
    assert len(made.before) == SEEN
    assert len(made.after) == SEEN


@pytest.mark.parametrize(
    ("said", "asked_at", "expected"),
    [("em", "for item|\n", True), ("em", "for item in|\n", True), ("em", "for ik|\n", False), ("", "for ik|\n", True)],
)
def test_a_suggestion_only_begun_may_yet_fit_what_it_does_not_contradict(
    said: str, asked_at: str, expected: bool
) -> None:
    begun = Suggestion.of(1, request("for it|\n" if said else "for i|\n"), said, SEEN)
    assert begun.is_on_the_way_to(request(asked_at)) is expected

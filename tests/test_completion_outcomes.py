"""What became of a suggestion, read off the document's changes or reported by the client."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from greencode_lsp.completion.outcomes import Outcomes, Settled
from greencode_lsp.completion.request import Request
from tests.fakes import at_cursor

LINE = 1


def shown(marked: str, text: str) -> Outcomes:
    outcomes = Outcomes()
    assert outcomes.show("a", 7, text, Request(*at_cursor(marked), "python")) is None
    return outcomes


MARKED, TEXT = "x\nfor it|\ny\n", "em in items:"

CHANGES = {
    "taken at once": (["x\nfor item in items:\ny\n"], Settled(7, "accepted", 12, LINE)),
    "taken at once, and an indented line after it": (
        ["x\nfor item in items:\n    \ny\n"],
        Settled(7, "accepted", 12, LINE),
    ),
    "typed letter by letter to its end": ([f"x\nfor it{TEXT[:n]}\ny\n" for n in range(1, 13)], None),
    "a word taken, then another word typed": (
        ["x\nfor item\ny\n", "x\nfor item \ny\n", "x\nfor item o\ny\n"],
        Settled(7, "partial", 2, LINE),
    ),
    "a word taken, then the rest": (
        ["x\nfor item\ny\n", "x\nfor item in items:\ny\n"],
        Settled(7, "accepted", 12, LINE),
    ),
    "another letter typed": (["x\nfor itk\ny\n"], Settled(7, "rejected", 0, LINE)),
    "taken back": (["x\nfor i\ny\n"], Settled(7, "rejected", 0, LINE)),
    "a line added above, then taken": (
        ["z\nx\nfor it\ny\n", "z\nx\nfor item in items:\ny\n"],
        Settled(7, "accepted", 12, LINE),
    ),
    "a letter typed": (["x\nfor ite\ny\n"], None),
    "something changed below": (["x\nfor it\ny\nimport os\nz = 1\n"], None),
    "something deleted below": (["x\nfor it\n"], None),
    "a letter typed, then something changed below": (["x\nfor ite\ny\n", "x\nfor ite\ny\nimport os\n"], None),
}


@pytest.mark.parametrize(("texts", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_the_changes_tell_what_became_of_it(texts: list[str], expected: Settled | None) -> None:
    outcomes = shown(MARKED, TEXT)
    settled = [outcomes.changed("a", text) for text in texts]
    assert settled == [None] * (len(texts) - 1) + [expected]


def test_brackets_that_the_editor_closes_are_no_rejection() -> None:
    outcomes = shown("print|\n", "(value)")
    assert outcomes.changed("a", "print()\n") is None


def test_an_item_only_previewed_in_the_popup_is_not_rejected_by_typing_on() -> None:
    outcomes = Outcomes()
    text, offset = at_cursor("append|\n")
    outcomes.show("a", 7, "(item)", Request(text, offset, "python", previewed=True))
    assert outcomes.changed("a", "app\n") is None
    assert outcomes.changed("a", "append(item)\n") is None


def test_the_client_tells_of_a_full_acceptance_once() -> None:
    outcomes = shown(MARKED, TEXT)
    assert outcomes.accept(7) == Settled(7, "accepted", 12, LINE)
    assert outcomes.accept(7) is None


def test_an_acceptance_seen_in_the_text_and_then_reported_counts_once() -> None:
    outcomes = shown(MARKED, TEXT)
    assert outcomes.changed("a", "x\nfor item in items:\ny\n") == Settled(7, "accepted", 12, LINE)
    assert outcomes.accept(7) is None


def test_the_client_tells_of_parts() -> None:
    outcomes = shown(MARKED, TEXT)
    assert outcomes.accept_part(7, 2) == Settled(7, "partial", 2, LINE)
    assert outcomes.accept_part(7, 12) == Settled(7, "accepted", 12, LINE)


@pytest.mark.parametrize("characters", [0, -3])
def test_a_part_of_no_character_is_none(characters: int) -> None:
    assert shown(MARKED, TEXT).accept_part(7, characters) is None


def test_a_part_that_is_shorter_than_what_stands_in_the_text_takes_nothing_back() -> None:
    outcomes = shown(MARKED, TEXT)
    for count in range(1, 6):
        outcomes.changed("a", f"x\nfor it{TEXT[:count]}\ny\n")
    assert outcomes.accept_part(7, 2) == Settled(7, "partial", 0, LINE)


def test_the_rest_of_a_suggestion_goes_on_with_what_was_taken_of_it() -> None:
    outcomes = shown(MARKED, TEXT)
    outcomes.changed("a", "x\nfor item\ny\n")
    outcomes.show("a", 7, TEXT[2:], Request(*at_cursor("x\nfor item|\ny\n"), "python"))
    assert outcomes.changed("a", "x\nfor item in items:\ny\n") == Settled(7, "accepted", 12, LINE)


def test_a_closed_document_settles_nothing() -> None:
    outcomes = shown(MARKED, TEXT)
    outcomes.close("a")
    assert outcomes.changed("a", "x\nfor itk\ny\n") is None


def test_windows_line_ends_are_no_difference() -> None:
    outcomes = Outcomes()
    outcomes.show("a", 7, "\n    return x", Request(*at_cursor("if x:|\r\n"), "python"))
    assert outcomes.changed("a", "if x:\r\n    return x\r\n") == Settled(7, "accepted", 13, 0)


def test_what_was_taken_of_a_suggestion_counts_when_another_is_shown_or_the_document_closes() -> None:
    for end in ("another", "close"):
        outcomes = shown(MARKED, TEXT)
        outcomes.changed("a", "x\nfor item\ny\n")
        request = Request(*at_cursor("x\nfor item\ny|\n"), "python")
        settled = outcomes.show("a", 8, "z", request) if end == "another" else outcomes.close("a")
        assert settled == Settled(7, "partial", 2, LINE)


UNDONE = {
    "seen in the text": lambda outcomes: None,
    "reported by the client first": lambda outcomes: outcomes.accept(7),
}


@pytest.mark.parametrize("report", UNDONE.values(), ids=UNDONE.keys())
def test_what_was_accepted_and_undone_is_known_at_that_place_alone(report: Callable[[Outcomes], object]) -> None:
    outcomes = shown(MARKED, TEXT)
    place = Request(*at_cursor(MARKED), "python")
    assert not outcomes.is_undone("a", place)
    report(outcomes)
    outcomes.changed("a", "x\nfor item in items:\ny\n")
    assert not outcomes.is_undone("a", place)
    outcomes.changed("a", place.text)
    assert outcomes.is_undone("a", place)
    assert not outcomes.is_undone("b", place)
    assert not outcomes.is_undone("a", Request(*at_cursor("x\nfor ite|\ny\n"), "python"))
    outcomes.forget("a")
    assert not outcomes.is_undone("a", place)


def test_of_a_suggestion_taken_in_part_the_undo_is_known_too() -> None:
    outcomes = shown(MARKED, TEXT)
    for text in ("x\nfor item\ny\n", "x\nfor it\ny\n"):
        outcomes.changed("a", text)
    assert outcomes.is_undone("a", Request(*at_cursor(MARKED), "python"))


def test_what_was_never_taken_is_not_undone() -> None:
    outcomes = shown(MARKED, TEXT)
    for text in ("x\nfor ite\ny\n", "x\nfor it\ny\n"):
        outcomes.changed("a", text)
    assert not outcomes.is_undone("a", Request(*at_cursor(MARKED), "python"))

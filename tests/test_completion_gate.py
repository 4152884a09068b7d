"""The gate: where nothing is begun, when a line is doubtful, when to be quiet, how long to wait."""

from __future__ import annotations

import pytest

from greencode_lsp.completion.gate import (
    LONGEST_WAIT_S,
    USUAL_GAP_S,
    Rejections,
    Rhythm,
    good_prefix,
    refuse_language,
    refuse_place,
)
from greencode_lsp.preference import completion_budget
from greencode_lsp.settings import Settings
from tests.fakes import at_cursor

ACCURACY, BALANCED, ENERGY = completion_budget(1.0), completion_budget(0.5), completion_budget(0.0)

PLACES = {
    "at the end of a line": ("x = |\n", False, False, False),
    "before closers": ("print(|)\n", False, False, False),
    "before closers and blanks": ("f(g(|)) \n", False, False, False),
    "inside a word": ("na|me = 1\n", True, True, True),
    "before a little text": ("f(|, b)\n", False, False, True),
    "before much text": ("x = | + the_rest_of_the_line\n", False, True, True),
    "before very much text": ("x = |" + " + y" * 60 + "\n", True, True, True),
    "at the end of the document": ("x|", False, False, False),
    "in an empty document": ("|", False, False, False),
}


@pytest.mark.parametrize(("marked", "accuracy", "balanced", "energy"), PLACES.values(), ids=PLACES.keys())
def test_the_less_is_to_be_spent_the_fewer_places_are_tried(
    marked: str, accuracy: bool, balanced: bool, energy: bool
) -> None:
    text, offset = at_cursor(marked)
    assert [refuse_place(text, offset, budget) for budget in (ACCURACY, BALANCED, ENERGY)] == [
        accuracy,
        balanced,
        energy,
    ]


@pytest.mark.parametrize(
    ("text", "doubtful", "expected"),
    [
        ("self.na", "me", "self."),
        ("self.", "name", "self."),
        ("x = 1", " +", "x = 1"),
        ("na", "me", ""),
        ("", "x", ""),
        ('(path, "', "w", "(path,"),
        ('(path, "w"', ")", '(path, "w"'),
        ("f('a', '", "b", "f('a',"),
    ],
)
def test_a_doubtful_token_takes_the_half_of_its_word_or_string_along(text: str, doubtful: str, expected: str) -> None:
    assert good_prefix(text, doubtful) == expected


def test_after_some_rejections_on_a_line_it_is_quiet_until_another_line() -> None:
    rejections = Rejections()
    for count in range(int(BALANCED.rejections)):
        assert not rejections.is_quiet("a", 3, BALANCED), count
        rejections.rejected("a", 3)
    assert rejections.is_quiet("a", 3, BALANCED)
    assert not rejections.is_quiet("a", 4, BALANCED)
    assert not rejections.is_quiet("a", 3, BALANCED)


def test_an_acceptance_ends_the_row_of_rejections() -> None:
    rejections = Rejections()
    for _ in range(10):
        rejections.rejected("a", 3)
    rejections.accepted()
    assert not rejections.is_quiet("a", 3, ENERGY)


def test_the_less_is_to_be_spent_the_longer_a_keystroke_is_waited_for() -> None:
    rhythm = Rhythm()
    rhythm.changed(10.0)
    waits = [rhythm.wait_s(10.0, "auto", budget) for budget in (ACCURACY, BALANCED, ENERGY)]
    assert waits == [0.0, pytest.approx(USUAL_GAP_S / 2), pytest.approx(USUAL_GAP_S)]


def test_the_wait_follows_the_rhythm_of_typing_and_pauses_are_no_rhythm() -> None:
    rhythm = Rhythm()
    for at_s in (0.0, 0.3, 0.6, 5.0, 5.3):
        rhythm.changed(at_s)
    assert rhythm.wait_s(5.3, "auto", ENERGY) == pytest.approx(0.3)


def test_what_the_client_has_waited_itself_is_not_waited_again() -> None:
    rhythm = Rhythm()
    rhythm.changed(10.0)
    assert rhythm.wait_s(10.0 + USUAL_GAP_S - 0.05, "auto", ENERGY) == pytest.approx(0.05)
    assert rhythm.wait_s(12.0, "auto", ENERGY) == 0.0


def test_a_wait_in_the_settings_is_taken_as_it_is() -> None:
    rhythm = Rhythm()
    rhythm.changed(10.0)
    assert rhythm.wait_s(10.0, 1500, ACCURACY) == pytest.approx(1.5)
    assert rhythm.wait_s(10.0, 0, ENERGY) == 0.0


def test_a_slow_typist_is_not_waited_for_forever() -> None:
    rhythm = Rhythm()
    for at_s in (0.0, 0.5, 1.0):
        rhythm.changed(at_s)
    assert rhythm.wait_s(1.0, "auto", ENERGY) <= LONGEST_WAIT_S


@pytest.mark.parametrize(
    ("language", "known", "named", "is_completed"),
    [
        ("rust", (), "auto", True),
        ("klingon", (), "auto", True),
        ("plaintext", (), "auto", False),
        ("dotenv", (), "auto", False),
        ("plaintext", (), ("plaintext",), True),
        ("rust", ("python",), "auto", False),
        ("python", ("python",), "auto", True),
        ("python", (), ("rust",), False),
    ],
)
def test_a_model_that_states_no_languages_completes_all_but_what_is_no_code(
    language: str, known: tuple[str, ...], named: tuple[str, ...] | str, is_completed: bool
) -> None:
    why = refuse_language(language, Settings(languages=named), known)
    assert (why is None) is is_completed

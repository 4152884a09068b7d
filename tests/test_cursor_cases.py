"""What is shown at cursors in real situations, and laws that hold wherever a suggestion is accepted."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pygments import lexers, token

from greencode_lsp.completion import gate
from greencode_lsp.completion.filters import clean
from greencode_lsp.completion.languages import LANGUAGES, language_of
from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.request import Request, cursor_of
from greencode_lsp.completion.scan import Scan, scan
from greencode_lsp.preference import completion_budget
from greencode_lsp.settings import Settings
from tests.cursor_cases import ROWS, Row
from tests.fakes import MANIFEST, FakeEngine, at_cursor, backend, meter

SETTINGS = Settings(1.0, max_new_tokens=400, max_prompt_tokens=4000)
IDS = [f"{language} {index}: {text[:40]!r}" for index, (language, text, _, _) in enumerate(ROWS)]
each_row = pytest.mark.parametrize("row", ROWS, ids=IDS)
LEXERS = {"shellscript": "bash", "markdown": "text"}
BRACKETS = {")": "(", "]": "[", "}": "{"}


def shown(row: Row, *, invoked: bool, line_end: str = "\n") -> tuple[str, str, str]:
    """Return the text before the cursor, what is shown, and the text after it."""
    language, marked, says, _ = row
    text, offset = at_cursor(marked.replace("\n", line_end))
    before, after = text[:offset], text[offset:]
    request = Request(text, offset, language, invoked=invoked)
    if not invoked and gate.refuse_place(text, offset, completion_budget(1.0)):
        return before, "", after
    engine = FakeEngine((before.replace("\r\n", "\n") + says,), max_positions=8192)
    control = LiveControl.of(SETTINGS, MANIFEST, language)
    return before, complete(backend(engine), request, control, meter()).text, after


def unbalanced(text: str, language: str) -> int:
    """Count the brackets outside of strings and comments that have no other, as an independent lexer sees them."""
    opened: list[str] = []
    lonely = 0
    for kind, value in lexers.get_lexer_by_name(LEXERS.get(language, language)).get_tokens(text):
        if kind in token.Comment or (kind in token.String and kind is not token.String.Interpol):
            continue
        for bracket in value:
            if bracket in "([{":
                opened.append(bracket)
            elif bracket in BRACKETS and opened and opened[-1] == BRACKETS[bracket]:
                opened.pop()
            elif bracket in BRACKETS:
                lonely += 1
    return lonely


@each_row
def test_what_must_be_shown_is_shown_where_the_user_asks(row: Row) -> None:
    assert shown(row, invoked=True)[1] == row[3]


@each_row
def test_by_itself_comes_the_same_or_nothing(row: Row) -> None:
    before, text, after = shown(row, invoked=False)
    assert text in ("", row[3])
    if before[-1:].isalnum() and after[:1].isalnum():
        assert text == ""


@each_row
def test_after_accepting_no_more_brackets_are_lonely_than_before(row: Row) -> None:
    before, text, after = shown(row, invoked=True)
    assert unbalanced(before + text + after, row[0]) <= unbalanced(before + after, row[0])


@each_row
def test_windows_line_ends_make_no_difference(row: Row) -> None:
    assert shown(row, invoked=True, line_end="\r\n")[1] == row[3]


def test_the_table_has_two_hundred_rows_in_at_least_ten_languages_and_no_row_twice() -> None:
    assert len(ROWS) >= 200
    assert len({row[:3] for row in ROWS}) == len(ROWS)
    assert len(Counter(row[0] for row in ROWS)) >= 17


PIECES = st.sampled_from(
    [
        *"()[]{}<>\"'`,;:=/#$\\|\n.",
        "x",
        "foo",
        " ",
        "    ",
        "\t",
        "1",
        '"""',
        "//",
        "/*",
        "*/",
        "${",
        "f'",
        "</p>",
        "->",
    ]
)
SAYS = st.lists(PIECES, max_size=12).map("".join)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(row=st.sampled_from(ROWS), says=SAYS)
def test_whatever_the_model_says_nothing_is_closed_twice(row: Row, says: str) -> None:
    text, offset = at_cursor(row[1])
    kept = clean(says, cursor_of(Request(text, offset, row[0])))
    language = language_of(row[0])
    rest = text[offset:].partition("\n")[0]
    without = scan(text[:offset] + rest, language, is_thorough=True)
    found = scan(text[:offset] + kept + rest, language, is_thorough=True)
    if rest.strip() and kept:
        assert extras(found) <= extras(without), kept
        assert found.kinds == without.kinds[: len(found.kinds)], kept


def extras(found: Scan) -> int:
    return sum(event.what == "extra" and event.is_strict for event in found.events)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(LANGUAGES)), text=SAYS, cut=st.integers(0, 40))
def test_a_text_may_be_scanned_in_two_parts_that_meet_at_a_line(name: str, text: str, cut: int) -> None:
    language = language_of(name)
    text = text + "\n" + text
    start = text.find("\n", min(cut, len(text))) + 1
    first = scan(text[:start], language).state
    whole, second = scan(text, language, is_thorough=True), scan(text, language, first, start, is_thorough=True)
    assert [frame.closes for frame in second.state] == [frame.closes for frame in whole.state]

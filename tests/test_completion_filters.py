"""Where a completion ends, and what of it is worth showing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from greencode_lsp.completion import filters
from greencode_lsp.completion.filters import rules
from greencode_lsp.completion.filters.balance import cut_overlap, cut_unbalanced
from greencode_lsp.completion.filters.indent import Style, reindent
from greencode_lsp.settings import Multiline
from tests.fakes import FIM, at_cursor


def place(marked: str, language: str = "python") -> filters.Cursor:
    """Return the place of `|` in a text."""
    text, offset = at_cursor(marked)
    return filters.Cursor.at(text[:offset], text[offset:], language)


SHAPES = {
    "blank line": ("def f():\n    |\n", "block"),
    "empty document": ("|", "block"),
    "after an opener": ("def f():|\n", "block"),
    "after a brace": ("x = {|\n}", "block"),
    "after code": ("x = |\n", "line"),
    "text to the right": ("f(|)", "line"),
    "blank to the left, text to the right": ("    |x = 1", "line"),
    "a comment is no opener": ("# see:|\n", "line"),
}


@pytest.mark.parametrize(("marked", "expected"), SHAPES.values(), ids=SHAPES.keys())
def test_one_line_unless_the_line_is_blank_or_opens_a_block(marked: str, expected: str) -> None:
    assert filters.shape(place(marked)) == expected


@pytest.mark.parametrize(
    ("marked", "multiline", "expected"),
    [
        ("x = |\n", "always", "block"),
        ("def f():|\n", "never", "line"),
        ("def f():\n    |\n", "never", "line"),
        ("f(|)", "always", "line"),
    ],
)
def test_the_setting_overrules_but_never_text_to_the_right(marked: str, multiline: Multiline, expected: str) -> None:
    assert filters.shape(place(marked), multiline) == expected


STOPS = {  # before, generated with | where it ends (none: it may go on)
    "a line goes on": ("x = ", "1 + 2"),
    "a line ends at its newline": ("x = ", "1 + 2|\ny = 3"),
    "nothing left of the line": ("x = 1", "|\ny"),
    "a block goes on": ("def f():\n    ", "x = 1\n    y = 2\n"),
    "a block ends at a blank line": ("def f():\n    ", "x = 1\n    y = 2|\n\n    z"),
    "a blank line is known by its end": ("def f():\n    ", "x = 1\n    "),
    "a block ends at a dedent": ("def f():\n    ", "return 1|\ndef g"),
    "a deeper line is in the block": ("    ", "if x:\n        y = 1\n    z"),
    "after an opener the block is deeper": ("def f():", "\n    x = 1|\ny"),
    "after an opener nothing deeper is nothing": ("def f():", "|\nx"),
    "tabs count as indentation": ("\t", "x\n\ty|\nz"),
    "the model indents by itself": ("", "    x = 1\n    y|\nz"),
    "leading blank lines are waited through": ("", "\n\nimport os\n"),
}


@pytest.mark.parametrize(("before", "marked"), STOPS.values(), ids=STOPS.keys())
def test_a_completion_ends_where_its_shape_does(before: str, marked: str) -> None:
    text, end = at_cursor(marked) if "|" in marked else (marked, None)
    cursor = filters.Cursor.at(before, "", "python")
    assert filters.stop_index(text, cursor, filters.shape(cursor)) == end


OVERLAPS = {  # generated, after the cursor, kept
    "closing bracket": ("a, b)", ")", "a, b"),
    "closing bracket and colon": ("self):", "):", "self"),
    "its own bracket": ("g(x)", ")", "g(x)"),
    "its own bracket and the document's": ("g(x))", ")", "g(x)"),
    "a quote": ("name'", "'", "name"),
    "the rest of a line": ("foo + bar", "bar", "foo + "),
    "one letter is chance": ("data", "a + b", "data"),
    "the end of a word is chance": ("data", "a", "data"),
    "the line below": ("x = 1\n    return x", "\n    return x\n", "x = 1"),
    "a line in between": ("x = 1\n    y = 2", "\n    return x\n", "x = 1\n    y = 2"),
    "no text after": ("x", "", "x"),
}


@pytest.mark.parametrize(("text", "after", "expected"), OVERLAPS.values(), ids=OVERLAPS.keys())
def test_what_the_document_already_has_is_cut(text: str, after: str, expected: str) -> None:
    assert cut_overlap(text, filters.Cursor.at("f(" if ")" in after else "", after, "python")) == expected


REPETITIONS = {
    "lines": ("a = 1\na = 1\na = 1\n", "a = 1"),
    "two alike are code": ("    }\n    }\n", "    }\n    }\n"),
    "lines after others": ("b\nx()\n  x()\nx()", "b\nx()"),
    "pieces": ("a_b_" * 5, "a_b_"),
    "no piece of punctuation": ("# " + "-" * 40, "# " + "-" * 40),
    "a rule before a word": ("# ---------- x", "# ---------- x"),
    "a round number": ("100000", "100000"),
    "blank lines": ("\n\n\n\n", "\n\n\n\n"),
}


@pytest.mark.parametrize(("text", "expected"), REPETITIONS.values(), ids=REPETITIONS.keys())
def test_a_loop_of_the_model_is_cut_after_its_first_round(text: str, expected: str) -> None:
    assert rules.cut_repetition(text, place("|")) == expected


def test_brackets_that_close_one_another_are_no_loop() -> None:
    text = "\n    }\n}"
    assert rules.cut_repetition(text, place("        }|")) == text


def test_the_line_that_was_begun_is_the_first_of_a_loop() -> None:
    assert rules.cut_repetition("a\nself.a = a\nself.a = a", place("    self.a = |")) == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x<|fim_end|>y", "x"), ("x\ufffdy", "x"), ("x <| y", "x <| y")],
    ids=["spelled", "no text", "code"],
)
def test_special_tokens_do_not_leak(text: str, expected: str) -> None:
    cursor = replace(place("|"), special_tokens=tuple(FIM.values()))
    assert rules.cut_special_tokens(text, cursor) == expected


def test_blanks_alone_are_nothing() -> None:
    assert filters.clean("   \n  ", place("|")) == ""


NEIGHBOURS = {  # document with the cursor, generated, kept
    "the line above again": ("x.append(1)\n|\n", "x.append(1)", ""),
    "the line above again, begun by hand": ("x.append(1)\nx.app|\n", "end(1)", ""),
    "the next line": ("|\nreturn x\n", "return x", ""),
    "up to the next line": ("|\n\nreturn x\n", "y = 1\nreturn x\nz = 2", "y = 1"),
    "a line like the one above, further down": ("x = 1\n|\n", "y = 2\nx = 1", "y = 2\nx = 1"),
    "a bracket like the one above": ("f(\n)\n|\n", ")", ")"),
    "a short word like the one above": ("try:\n|\n", "try", "try"),
    "nothing around": ("|", "x = 12", "x = 12"),
}


@pytest.mark.parametrize(("marked", "text", "expected"), NEIGHBOURS.values(), ids=NEIGHBOURS.keys())
def test_the_lines_around_the_cursor_are_not_suggested_again(marked: str, text: str, expected: str) -> None:
    assert rules.cut_neighbour(text, place(marked)) == expected


BRACKETS = {  # before the cursor, generated, kept
    "opened before": ("print(", "x)", "x)"),
    "opened nowhere": ("x = ", "y)", "y"),
    "more closed than opened": ("f(", "x))", "x)"),
    "of another kind": ("f(", "x]", "x"),
    "opened lines before": ("f(\n    a,\n", "    b)", "    b)"),
    "its own": ("", "f(x[0])", "f(x[0])"),
    "in a string": ("", "'a)' + b)", "'a)' + b"),
    "left open": ("x = ", "f(a,", "f(a,"),
}


@pytest.mark.parametrize(("before", "text", "expected"), BRACKETS.values(), ids=BRACKETS.keys())
def test_a_bracket_that_closes_nothing_ends_the_suggestion(before: str, text: str, expected: str) -> None:
    assert cut_unbalanced(text, filters.Cursor.at(before, "", "python")) == expected


def test_a_brace_may_be_open_above_what_is_looked_at() -> None:
    assert cut_unbalanced("}", filters.Cursor.at("", "", "java", is_whole=False)) == "}"
    assert cut_unbalanced("}", filters.Cursor.at("", "", "java")) == ""


INDENTS = {  # document with the cursor, generated, shown
    "spaces in a file of tabs": ("def f():\n\tif x:|", "\n\t    y", "\n\t\ty"),
    "spaces alone in a file of tabs": ("def f():\n\tif x:|", "\n        y", "\n\t\ty"),
    "four in a file of two": ("def f():\n  if x:|", "\n      y\n      z", "\n    y\n    z"),
    "two in a file of four": ("def f():\n    if x:|", "\n      y", "\n        y"),
    "as the file": ("def f():\n    if x:|", "\n        y", "\n        y"),
    "two levels": ("def f():\n  if x:|", "\n      for a in y:\n          z", "\n    for a in y:\n      z"),
    "and back": ("if a:\n  if x:|", "\n      y\n  z", "\n    y\n  z"),
    "aligned with a bracket": ("def f():\n    x = g(a,|", "\n          b)", "\n          b)"),
    "nothing to follow": ("if x:|", "\n    y", "\n    y"),
}


@pytest.mark.parametrize(("marked", "text", "expected"), INDENTS.values(), ids=INDENTS.keys())
def test_lines_are_indented_as_the_file_is(marked: str, text: str, expected: str) -> None:
    cursor = place(marked)
    assert reindent(text, cursor.before, cursor.style) == expected


def test_the_client_says_how_a_file_is_indented_that_shows_nothing() -> None:
    client_style = Style.of_client(4, insert_spaces=False)
    cursor = filters.Cursor.at("if x:", "", "python", style=client_style)
    assert reindent("\n    y", cursor.before, cursor.style) == "\n\ty"
    shown = filters.Cursor.at("if a:\n  b\nif x:", "", "python", style=client_style)
    assert reindent("\n    y", shown.before, shown.style) == "\n  y"


@pytest.mark.parametrize(("text", "expected"), [(")", False), (" )\n", False), ("()", True), ("x\n  y", True)])
def test_a_single_character_is_not_worth_reading(text: str, expected: bool) -> None:
    assert filters.is_readable(text) is expected


CLOSED = {  # document with the cursor, generated, kept
    "a bracket and what follows it": ("if exists(|)\n", "path):", "path"),
    "two brackets": ("f(g(|))\n", "x))", "x"),
    "its own bracket": ("f(|)\n", "g(x)", "g(x)"),
    "another bracket opened for the document's": ("f(|)\n", "a).strip(", "a).strip("),
    "an index": ("d[|]\n", "'k'] = 'v'", "'k'"),
    "a string": ('print("|")\n', 'hello", x)', "hello"),
    "a string and another": ('print("|")\n', 'a" + "b', 'a" + "b'),
    "a bracket in a string": ("f(|)\n", "')'", "')'"),
    "nothing closed by the document": ("if exists(|\n", "path):", "path):"),
    "closers in the middle of a line": ("f(|, b)\n", "a)", "a"),
}


@pytest.mark.parametrize(("marked", "text", "expected"), CLOSED.values(), ids=CLOSED.keys())
def test_what_the_document_closes_is_not_closed_again(marked: str, text: str, expected: str) -> None:
    assert cut_unbalanced(text, place(marked)) == expected

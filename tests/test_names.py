"""Names and sizes: one class a name, the field's words, functions that fit a screen; read off the sources."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "greencode_lsp").rglob("*.py"), *(ROOT / "training").rglob("*.py")])
LONGEST_FUNCTION = 50
LONGEST_FILE = 350
OTHER_WORDS = {
    "leave": "exit",
    "mend": "fix",
    "told": "notified",
    "telling": "notifier",
    "teller": "output",
    "books": "record",
    "booked": "recorded",
    "thrift": "budget",
    "bold": "aggressive",
    "numeric": "precision",
}
"""Word -> what to say for it in a name; words are the parts of an identifier."""
PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in FILES:
        yield path, ast.parse(path.read_text(encoding="utf8"))


def names(tree: ast.Module) -> Iterator[str]:
    """Yield every identifier that a module gives."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def test_no_public_class_name_is_used_twice() -> None:
    homes = defaultdict(list)
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_a_name_is_made_of_the_fields_words() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {name}": OTHER_WORDS[word]
        for path, tree in trees()
        for name in {*names(tree), path.stem}
        for word in (part.lower() for part in PARTS.findall(name))
        if word in OTHER_WORDS
    }
    assert wrong == {}


def test_a_name_says_what_it_is_not_that_it_was_found() -> None:
    assert [str(path) for path, tree in trees() if {"found", "_found"} & set(names(tree))] == []


def test_a_function_fits_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def test_a_file_is_at_most_350_lines_long() -> None:
    lines = {str(path.relative_to(ROOT)): path.read_text(encoding="utf8").count("\n") for path in FILES}
    assert {path: count for path, count in lines.items() if count > LONGEST_FILE} == {}

"""CONTRIBUTING.md names what there is: its paths, names, commands and layers are compared with the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests import test_layers

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
PACKAGES = ("greencode_lsp", "training", "tests")
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
TOPS = {*PACKAGES, "editors", ".ci"}
PATHS = sorted(s for s in set(SPANS) if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", s) and s.split("/")[0] in TOPS)
NAMES = sorted(s for s in set(SPANS) if re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", s))
FIRST = PAGE.split("## Three places")[1].split("\n## ")[0]
"""What is to be read first: `file`: `function`, and more of the same file."""
FUNCTIONS = [
    f"{path[:-3].replace('/', '.')}.{name}"
    for path, text in re.findall(r"`([\w/]+\.py)`:\s(.*?)(?=`[\w/]+\.py`|\Z)", FIRST, re.DOTALL)
    for name in re.findall(r"`((?:\w+\.)?\w+)`", text)
]
RECIPES = re.findall(r"^## (A new [\w -]+)$", PAGE, re.MULTILINE)
LONGEST = 50
"""Lines of a function that is one screen."""


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


@cache
def definitions(path: Path) -> dict[str, ast.AST]:
    """Return every class, function, method and module-level name of a file, dotted."""
    found: dict[str, ast.AST] = {}
    for node in ast.parse(path.read_text(encoding="utf8")).body:
        for name in _names(node):
            found[name] = node
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}": inner for inner in node.body for name in _names(inner)}
    return found


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def find(dotted: str) -> ast.AST | None:
    """Return what a dotted name stands for: a module, or what one defines."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if file.is_file():
            return definitions(file).get(".".join(parts[end:])) if parts[end:] else ast.parse("")
    return None


def test_every_path_is_there() -> None:
    assert PATHS
    assert [path for path in PATHS if not (ROOT / path).exists()] == []


def test_every_name_is_defined_where_it_is_said_to_be() -> None:
    assert NAMES
    assert [name for name in NAMES if find(name) is None] == []


def test_a_name_that_is_not_defined_is_missed() -> None:
    assert find("greencode_lsp.settings.Settings")
    assert find("greencode_lsp.settings.Nothing") is None
    assert find("greencode_lsp.settings.Settings.nothing") is None


def test_there_is_a_recipe_for_each_usual_change() -> None:
    wanted = ("model family", "fill-in-the-middle format", "stop rule", "exit policy", "editor", "setting")
    assert [f"A new {change}" for change in wanted] == RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_names_the_test_to_extend(recipe: str) -> None:
    assert re.search(r"`tests/[\w/]+\.py`", section(recipe))


def test_the_three_places_are_named_by_file_and_function() -> None:
    assert {"service", "decode", "lite_loss"} <= {part for name in FUNCTIONS for part in name.split(".")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_read_first_is_there_and_one_screen(name: str) -> None:
    node = find(name)
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)), name
    assert (node.end_lineno or 0) - node.lineno < LONGEST


def test_every_invariant_is_there_and_names_its_test() -> None:
    items = re.findall(r"^- \*\*(I\d), .*?(?=^- |\Z)", section("Invariants"), re.MULTILINE | re.DOTALL)
    assert items == [f"I{number}" for number in range(1, 9)]
    bodies = re.split(r"^- \*\*I\d, ", section("Invariants"), flags=re.MULTILINE)[1:]
    assert all("`tests/" in body for body in bodies)


def test_the_layers_are_those_that_are_enforced() -> None:
    rows = re.findall(r"^\| (\d) \| (.*?) \|", section("Layers"), re.MULTILINE)
    for level, parts in rows:
        assert {test_layers.LEVELS[part] for part in re.findall(r"`(\w+)`", parts)} == {int(level)}
    named = set(re.findall(r"`(\w+)`", " ".join(parts for level, parts in rows if level != "5")))
    assert named == {part for part, level in test_layers.LEVELS.items() if level < 5} - {"__init__"}


def test_links_inside_the_page_lead_somewhere() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings


def test_the_code_cites_no_other_document_for_what_stands_here() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path != Path(__file__)]
    assert [path for path in files if re.search(r"\bdesign(, | \()", path.read_text(encoding="utf8"))] == []

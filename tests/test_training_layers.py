"""The rooms of `training`: who imports whom, and where its libraries belong; read off the sources."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import greencode_lsp
import training

PACKAGE = Path(training.__file__).parent
LEVELS = {
    "__init__": 0,
    "preset": 0,
    "whole_files": 0,
    "markdown": 0,
    "checkpoint": 1,
    "data": 2,
    "lm": 3,
    "exits": 4,
    "evaluation": 5,
    "bench": 6,
    "steps": 7,
    "__main__": 8,
}
"""A room imports from lower ones; each name is a folder, or a file beside them."""
ARROWS_BACK = {("preset", "exits")}
"""A preset reads the reward it names."""
ONLY_IN_EXITS = {"gymnasium", "stable_baselines3"}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return `training.exits.agent` for its file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in FILES}


def imports(path: Path) -> set[str]:
    """Return every module a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES
            found |= inner or {str(node.module)}
    return found


def room(module: str) -> str:
    """Return the first name below the package: `training.exits.agent` -> `exits`."""
    return [*module.split("."), "__init__"][1]


def test_a_room_imports_only_from_lower_ones() -> None:
    arrows = {(room(name_of(path)), room(m)) for path in FILES for m in imports(path) if m.startswith("training")}
    assert {(here, there) for here, there in arrows if LEVELS[there] > LEVELS[here]} == ARROWS_BACK


def test_every_folder_of_code_is_a_room() -> None:
    assert {room(name_of(path)) for path in FILES} <= LEVELS.keys()


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = defaultdict(set, {name_of(path): imports(path) & MODULES for path in FILES})
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in done:
            for target in graph[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_reinforcement_learning_is_only_in_exits(path: Path) -> None:
    tops = {module.split(".")[0] for module in imports(path)}
    assert not tops & ONLY_IN_EXITS or room(name_of(path)) == "exits"


def test_a_file_name_of_training_is_used_once_in_the_project() -> None:
    product = {path.name for path in Path(greencode_lsp.__file__).parent.rglob("*.py")}
    ours = [path.name for path in FILES if not path.name.startswith("__")]
    assert len(ours) == len(set(ours))
    assert not product & set(ours)

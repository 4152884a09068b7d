"""Modules import only from lower levels, and each library only where it belongs; read off the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import greencode_lsp

PACKAGE = Path(greencode_lsp.__file__).parent
LEVELS = {
    "__init__": 0,
    "errors": 0,
    "files": 0,
    "cache_folder": 0,
    "imports": 0,
    "limits": 0,
    "records": 0,
    "settings": 1,
    "setting_kinds": 1,
    "preference": 1,
    "power": 1,
    "priority": 1,
    "guarantee": 1,
    "prompt": 1,
    "energy": 1,
    "models": 1,
    "engine": 2,
    "completion": 3,
    "lsp": 4,
    "demo": 5,
    "profile": 5,
    "doctor": 5,
    "cli": 5,
    "host": 5,
    "team": 5,
    "__main__": 5,
}
HOME_OF = {
    "torch": {"engine/torch"},
    "onnxruntime": {"engine/onnx"},
    "onnx": {"engine/onnx"},
    "msgspec": {"host", "team"},
    "ray": {"team"},
    "aiohttp": {"team"},
    "starlette": {"team"},
    "pygls": {"lsp"},
    "lsprotocol": {"lsp"},
    "attrs": {"lsp"},
    "cattrs": {"lsp"},
}
BANNED = {"training", "transformers", "stable_baselines3", "gymnasium", "tests"}


def part_of(module: str) -> str:
    """Return the first name below the package: `greencode_lsp.engine.load` -> `engine`."""
    return [*module.split("."), "__init__"][1]


def imports(path: Path) -> Iterator[str]:
    """Yield every module a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            package = node.module == "greencode_lsp"
            yield from (f"greencode_lsp.{a.name}" if package else str(node.module) for a in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_a_module_imports_only_from_its_own_and_lower_levels(path: Path) -> None:
    *folders, name = path.relative_to(PACKAGE).with_suffix("").parts
    part = folders[0] if folders else name
    for module in imports(path):
        top = module.split(".")[0]
        assert top not in BANNED, f"{path} imports {module}"
        assert {part, "/".join(folders)} & HOME_OF.get(top, {part}), f"{path} imports {module}"
        if top == "greencode_lsp":
            target = part_of(module)
            assert LEVELS.get(target, 0) <= LEVELS[part], f"{path} imports {module}"


def targets(path: Path, known: Collection[str]) -> set[str]:
    """Return the modules of the package that a file imports; `from a import b` is `a.b` where that is a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inner & set(known)) or {node.module}
    return names & set(known)


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {
        ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in FILES
    }
    TopologicalSorter({name: targets(path, modules) - {name} for name, path in modules.items()}).prepare()


HEAVY = ("torch", "transformers", "numpy", "huggingface_hub", "onnx", "onnxruntime")


@pytest.mark.parametrize("module", ["greencode_lsp.lsp.server", "greencode_lsp.cli"])
def test_starting_the_server_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_models_are_offered_without_anything_heavy_where_there_is_none_to_choose() -> None:
    """VS Code asks for them at every start."""
    code = (
        "import sys\n"
        "from greencode_lsp.completion.selection import offers\n"
        "from greencode_lsp.settings import Settings\n"
        "assert offers(Settings())['models']\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_completing_imports_no_training_library() -> None:
    """I8, torch on a CPU among them: read off `sys.modules` after the bundled model has loaded and completed."""
    program = (
        "import sys\n"
        "from greencode_lsp.cli import main\n"
        "main(['demo', '--json'])\n"
        f"found = sorted({BANNED | {'torch'}!r} & set(sys.modules))\n"
        "print(found, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"

"""Files near a document: imports, tests and neighbours; nothing outside the workspace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from greencode_lsp.limits import OTHER_FILE_BYTES, OTHER_FILES
from greencode_lsp.prompt.nearby import near


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")


def found(root: Path, name: str, text: str = "") -> list[str]:
    return [path.relative_to(root).as_posix() for path in near(str(root / name), text, [str(root)])]


IMPORTS = {
    "python, absolute": ("app/main.py", "from app.models import user\n", "app/models/user.py"),
    "python, a module": ("app/main.py", "import os, app.tools as t\n", "app/tools.py"),
    "python, relative": ("app/views/page.py", "from ..tools import (x,\n", "app/tools.py"),
    "python, below src": ("src/pkg/a.py", "from pkg.deep.b import c\n", "src/pkg/deep/b.py"),
    "python, a package": ("app/main.py", "    from app.models import *\n", "app/models/__init__.py"),
    "typescript": ("web/a.ts", "import { b } from './lib/b'\n", "web/lib/b.ts"),
    "typescript, a folder": ("web/a.ts", 'export * from "../core"\n', "core/index.ts"),
    "javascript": ("web/a.js", "const b = require('./lib/b.js')\n", "web/lib/b.js"),
    "java": ("src/main/java/x/y/A.java", "package x.y;\nimport x.z.B;\n", "src/main/java/x/z/B.java"),
    "java, from a test": ("src/test/java/x/ATest.java", "package x;\nimport x.z.B;", "src/main/java/x/z/B.java"),
    "c": ("lib/a.c", '#include "deep/b.h"\n', "lib/deep/b.h"),
    "rust": ("src/lib.rs", "pub mod parts;\n", "src/parts/mod.rs"),
}


@pytest.mark.parametrize(("name", "text", "expected"), IMPORTS.values(), ids=IMPORTS.keys())
def test_an_import_is_resolved_and_stands_first(tmp_path: Path, name: str, text: str, expected: str) -> None:
    make(tmp_path, name, expected, str(Path(name).with_name("beside" + Path(name).suffix)))
    assert found(tmp_path, name, text)[0] == expected


COUNTERPARTS = {
    "beside": ("lib/parse.go", "lib/parse_test.go"),
    "in a folder of tests": ("pkg/parse.py", "tests/test_parse.py"),
    "from the test": ("pkg/tests/test_parse.py", "pkg/parse.py"),
    "a header": ("lib/parse.cpp", "lib/parse.h"),
    "in maven's folders": ("src/main/java/x/Parse.java", "src/test/java/x/ParseTest.java"),
    "a spec": ("web/parse.ts", "web/parse.spec.ts"),
}


@pytest.mark.parametrize(("name", "expected"), COUNTERPARTS.values(), ids=COUNTERPARTS.keys())
def test_the_test_of_a_file_or_what_it_tests_is_found(tmp_path: Path, name: str, expected: str) -> None:
    make(tmp_path, name, expected, str(Path(name).with_name("beside" + Path(name).suffix)))
    assert found(tmp_path, name)[0] == expected


def test_of_a_folder_the_files_changed_last_come_first_and_other_kinds_not(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.py", "c.pyi", "d.java", "README.md")
    os.utime(tmp_path / "b.py", (1, 1))
    assert found(tmp_path, "a.py") == ["c.pyi", "b.py"]


def test_nothing_outside_the_workspace_is_found_by_whatever_way(tmp_path: Path) -> None:
    make(tmp_path, "outside/secret.py", "root/a.py", "root/b.py")
    (tmp_path / "root" / "link.py").symlink_to(tmp_path / "outside" / "secret.py")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "outside")
    text = "from ..outside import secret\nfrom folder import secret\nimport link\nfrom ...... import x\n"
    assert found(tmp_path / "root", "a.py", text) == ["b.py"]
    assert near(str(tmp_path / "outside" / "x.py"), text, [str(tmp_path / "root")]) == []
    assert near(str(tmp_path / "root" / "a.py"), text, []) == []


def test_large_files_folders_and_pipes_are_no_neighbours(tmp_path: Path) -> None:
    make(tmp_path, "a.py")
    (tmp_path / "large.py").write_bytes(b"#" * (OTHER_FILE_BYTES + 1))
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    assert found(tmp_path, "a.py") == []


def test_there_are_no_more_than_the_limit(tmp_path: Path) -> None:
    make(tmp_path, *(f"{number}.py" for number in range(OTHER_FILES + 10)))
    assert len(found(tmp_path, "0.py")) == OTHER_FILES


@pytest.mark.parametrize(
    "text",
    ["import ..\n", "from . import\n", "import a\0b\n", "from " + "." * 300 + " import x", "import " + "a." * 999],
)
def test_imports_that_are_none_do_no_harm(tmp_path: Path, text: str) -> None:
    make(tmp_path, "a.py", "b.py")
    assert found(tmp_path, "a.py", text) == ["b.py"]
    assert found(tmp_path, "a.py", f'"use strict"; require("./{text}")') == ["b.py"]

"""A repository chooses neither what is executed nor what is loaded: planted files beside the server's start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLANTED = "import pathlib, sys\npathlib.Path(__file__).with_name('ran').touch()\nsys.exit('planted')\n"
NAMES = ("numpy", "tokenizers", "pygls", "lsprotocol", "torch", "onnxruntime", "psutil", "pathspec", "json", "ziglang")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(PLANTED.replace("__file__)", "__file__).parent"))
        (folder / f"{name}.py").write_text(PLANTED)
    return folder


def run(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parent.parent)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": root},
        input="",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", [("--version",), ("models", "list"), ("doctor", "--model", "no-such")])
def test_started_as_a_module_in_a_repository_nothing_of_it_is_imported(
    repository: Path, arguments: tuple[str, ...]
) -> None:
    done = run(repository, "-m", "greencode_lsp", *arguments)
    assert "planted" not in done.stderr + done.stdout
    assert not (repository / "ran").exists()


def test_a_server_started_as_a_module_in_a_repository_imports_nothing_of_it(repository: Path) -> None:
    done = run(repository, "-m", "greencode_lsp", "--stdio")
    assert "planted" not in done.stderr
    assert not (repository / "ran").exists()


def test_nothing_is_written_into_the_repository(repository: Path) -> None:
    before = set(repository.rglob("*"))
    run(repository, "-m", "greencode_lsp", "--stdio")
    assert set(repository.rglob("*")) == before

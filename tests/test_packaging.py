"""The wheel: what is in it, what is not, and one version for all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import greencode_lsp

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel from the checkout, without network, and return it opened."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    environment = os.environ | {"PIP_NO_INDEX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("name", ["py.typed", "cli.py", "lsp/server.py", "engine/load.py", "demo/demo.py"])
def test_the_wheel_holds_the_package(name: str, wheel: zipfile.ZipFile) -> None:
    assert f"greencode_lsp/{name}" in wheel.namelist()


@pytest.mark.parametrize("name", ["greencode.json", "config.json", "tokenizer.json", "agent.safetensors"])
def test_the_wheel_holds_the_bundled_model(name: str, wheel: zipfile.ZipFile) -> None:
    assert f"greencode_lsp/models/bundled/{name}" in wheel.namelist()


def test_the_wheel_holds_the_weights(wheel: zipfile.ZipFile) -> None:
    assert any(re.fullmatch(r"greencode_lsp/models/bundled/model.*\.safetensors", name) for name in wheel.namelist())


def test_the_wheel_holds_the_demo_samples(wheel: zipfile.ZipFile) -> None:
    assert sum(re.fullmatch(r"greencode_lsp/demo/samples/\w+\.py\.txt", n) is not None for n in wheel.namelist()) == 5


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"greencode_lsp", f"greencode_lsp-{greencode_lsp.__version__}.dist-info"}


def test_the_wheel_holds_the_licence(wheel: zipfile.ZipFile) -> None:
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


def test_the_command_is_the_command_lines_main(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "greencode-lsp = greencode_lsp.cli:main" in wheel.read(entry_points).decode()


def test_the_version_is_written_in_one_place(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    assert f"\nVersion: {greencode_lsp.__version__}\n" in wheel.read(metadata).decode()
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf8")


def test_the_changelog_speaks_of_this_version() -> None:
    assert f"## [{greencode_lsp.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf8")


def test_the_readme_gives_two_commands_each_on_its_own_line() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf8").splitlines()
    commands = [line for line in lines if line.startswith("pip install")]
    assert commands == ["pip install . && greencode-lsp demo", "pip install '.[test]' && pytest"]


def test_the_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf8")
    assert "README.md" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)

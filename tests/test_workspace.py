"""A repository chooses neither what is executed nor what is loaded: planted files beside the server's start."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

from greencode_lsp import imports
from greencode_lsp.isolated import isolated_module
from greencode_lsp.lsp import pulling
from greencode_lsp.models import registry
from tests.soak.wire import launch

ROOT = Path(__file__).parent.parent
PLANTED = "open({ran!r}, 'a').write({name!r} + '\\n')\n"
LIBRARIES = ("numpy", "tokenizers", "torch", "onnxruntime", "onnx", "psutil", "pathspec", "ziglang", "huggingface_hub")
SERVER = ("pygls", "lsprotocol", "attrs", "cattrs", "filelock", "platformdirs")
STANDARD = ("json", "re", "typing", "functools", "argparse", "__future__", "sitecustomize", "usercustomize")


def plant(folder: Path, *names: str) -> Path:
    """Write packages and modules of these names that note in `ran` that they were imported."""
    for name in names:
        source = PLANTED.format(ran=str(folder / "ran"), name=name)
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(source)
        (folder / name / "__main__.py").write_text(source)
        (folder / f"{name}.py").write_text(source)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return plant(tmp_path / "repository", *LIBRARIES, *SERVER, *STANDARD, "greencode_lsp")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """What an installation's `greencode-lsp` is: a file in a folder of its own."""
    file = tmp_path / "bin" / "greencode-lsp"
    file.parent.mkdir()
    file.write_text(
        f"import sys\nsys.path.append({str(ROOT)!r})\nfrom greencode_lsp.cli import main\nsys.exit(main())\n"
    )
    return file


def run(repository: Path, *command: str | Path, **environment: str) -> str:
    """Run Python in the repository; return what of it was imported."""
    own = {"GREENCODE_HOME": str(repository.parent / "home"), "GREENCODE_CACHE": str(repository.parent / "cache")}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, *command],
        cwd=repository,
        env=kept | own | environment,
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    ran = repository / "ran"
    return ran.read_text() if ran.exists() else ""


COMMANDS = [("--version",), ("models", "list"), ("doctor", "--model", "no-such"), ("--stdio",)]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_the_command_started_in_a_repository_imports_nothing_of_it(
    repository: Path, script: Path, arguments: tuple[str, ...]
) -> None:
    assert run(repository, script, *arguments) == ""


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_the_isolated_module_started_in_a_repository_imports_nothing_of_it(
    repository: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    program = f"import sys; sys.path.append({str(ROOT)!r}); import runpy; runpy.run_module('greencode_lsp')"
    assert run(repository, "-I", "-c", program, *arguments) == ""


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_the_module_started_in_a_repository_imports_no_library_from_it(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    repository = plant(tmp_path / "repository", *LIBRARIES, *SERVER, "json")
    assert run(repository, "-m", "greencode_lsp", *arguments, PYTHONPATH=str(ROOT)) == ""


@pytest.mark.parametrize("named", [".", "", "./.", "..", "../repository"])
def test_what_pythonpath_names_relatively_is_not_imported_from(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "repository"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", f"{named}{os.pathsep}/elsewhere")
    meant = os.path.realpath(named)
    monkeypatch.setattr(sys, "path", [meant, "", "/elsewhere", *sys.path])
    imports.distrust_current_folder()
    assert meant not in sys.path
    assert "" not in sys.path
    assert "/elsewhere" in sys.path


def test_what_pythonpath_names_in_an_opened_folder_is_not_imported_from_through_a_link_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    (repository / "src").mkdir(parents=True)
    (tmp_path / "link").symlink_to(repository)
    entries = [str(tmp_path / "link" / "src"), str(repository), str(tmp_path / "mine")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entries))
    monkeypatch.setattr(sys, "path", [*entries, str(ROOT)])
    imports.distrust([str(repository), ""])
    assert sys.path == [str(tmp_path / "mine"), str(ROOT)]


def test_a_developers_own_checkout_stays_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "path", [str(ROOT)])
    imports.distrust([str(ROOT)])
    assert sys.path == [str(ROOT)]


async def test_the_engine_is_not_imported_from_an_opened_folder_that_pythonpath_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = plant(tmp_path / "repository", "numpy", "onnxruntime", "torch")
    start = f"import sys; sys.path.insert(0, {str(repository)!r}); from greencode_lsp.cli import main; sys.exit(main())"
    monkeypatch.setenv("GREENCODE_CACHE", str(tmp_path / "cache"))
    async with launch(tmp_path, ("-c", start, "--stdio"), python_path=f"{repository}{os.pathsep}{ROOT}") as wire:
        await wire.initialize(workspaceFolders=[{"uri": repository.as_uri(), "name": "repository"}])
        assert await wire.end() == 0
    assert not (repository / "ran").exists()


def test_nothing_is_written_into_the_repository(repository: Path, script: Path) -> None:
    before = set(repository.rglob("*"))
    run(repository, script, "--stdio")
    assert set(repository.rglob("*")) == before


def test_a_package_among_the_users_own_is_run_from_there_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, workspace = tmp_path / "users", plant(tmp_path / "folder", "json", "sitecustomize")
    (users / "mine").mkdir(parents=True)
    (users / "mine" / "__init__.py").touch()
    (users / "mine" / "__main__.py").write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(users))
    monkeypatch.syspath_prepend(str(users))
    command = [*isolated_module("mine"), "a", "b"]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["a", "b"]
    assert not (workspace / "ran").exists()


def test_what_the_server_starts_itself_is_isolated(tmp_path: Path) -> None:
    assert pulling.PROGRAM[:3] == (sys.executable, "-I", "-m")
    folder = plant(tmp_path / "folder", "pip", "json", "sitecustomize")
    done = registry.run_pip(["--version"], folder)
    assert done.returncode == 0
    assert not (folder / "ran").exists()

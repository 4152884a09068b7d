"""Laws of single windows: servers that are missing, broken or still loading, trust, environments, several folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.editors.cache import Ready
from tests.editors.vscode import LOGGER
from tests.editors.vscode.build import Script
from tests.editors.vscode.conftest import Desk
from tests.editors.vscode.workbench import eventually

SUGGESTION = "first_value + second_value"
PATH = "greencode.server.path"


@pytest.fixture(scope="module")
def desk(make_desk: Any) -> Desk:
    made: Desk = make_desk({})
    return made


def test_the_bundled_model_suggests_and_the_suggestion_is_saved(desk: Desk) -> None:
    desk.use(desk.script("bundled-server", "-m greencode_lsp").path)
    workspace = desk.workspace("bundled", {})
    window = desk.window(workspace)
    window.status("ready")
    window.type("class Reader:\n    def __init__(self, name):\n        self.")
    shown = window.ghost_text()
    window.press("Tab", "Control+s")
    file = workspace / "start.py"
    eventually(lambda: f"self.{shown.splitlines()[0]}" in file.read_text(encoding="utf8"), "it was not saved")


def test_a_missing_server_is_reported_once_with_how_to_install_it(desk: Desk) -> None:
    desk.use("")
    window = desk.window(desk.workspace("missing", {}))
    window.status("not installed")
    message = window.message("greencode-lsp is not installed")
    message.get_by_role("button", name="Install").click()
    window.page.locator(".getting-started-step", has_text="Install the server").first.wait_for()
    assert not window.messages()


def test_a_server_that_cannot_start_is_reported_once_with_its_last_words(desk: Desk) -> None:
    broken = desk.script("broken-server", "-m no_such_module")
    desk.use(broken.path)
    window = desk.window(desk.workspace("broken", {}))
    window.status("stopped")
    window.message("No module named no_such_module").get_by_role("button", name="Show Log").click()
    window.page.locator(".part.panel .output-view, .part.panel", has_text="GreenCode").first.wait_for()
    assert not window.messages()
    assert len(broken.starts) == 1


def test_the_log_of_a_server_that_cannot_start_is_a_click_away(desk: Desk, tools: Ready) -> None:
    if not any((tools.tools["workbench"].parent / LOGGER).glob("build/Release/*.node")):
        pytest.skip("output channels stay empty: @vscode/spdlog was not compiled")
    silent = desk.script(
        "silent-server", "-c 'import sys; print(\"worn out\", file=sys.stderr); print(file=sys.stderr)'"
    )
    desk.use(silent.path)
    window = desk.window(desk.workspace("silent", {}))
    window.message("worn out").get_by_role("button", name="Show Log").click()
    window.page.locator(".part.panel .view-line", has_text="worn out").first.wait_for()


def test_a_wrong_path_is_reported_by_its_setting(desk: Desk) -> None:
    desk.use("/no/such/greencode-lsp")
    window = desk.window(desk.workspace("wrong", {}))
    window.message("There is no executable /no/such/greencode-lsp; fix the setting greencode.server.path").wait_for()


def test_a_model_that_is_loading_shows_in_the_status_alone_and_then_suggests(desk: Desk) -> None:
    gate = desk.home / "gate"
    gate.mkdir()
    slow = desk.script("slow-server", f"-m tests.editors.fixed_server '{gate}'")
    desk.use(slow.path)
    window = desk.window(desk.workspace("slow", {}))
    window.status("loading")
    window.type("total = ")
    assert not window.messages()
    (gate / "go").touch()
    window.status("ready")
    window.command("Trigger Inline Suggestion")
    assert window.ghost_text() == SUGGESTION


def test_the_selected_python_environments_server_is_taken(desk: Desk) -> None:
    script = desk.script("environment/bin")
    settings = {"python.defaultInterpreterPath": str(script.path.parent / "python")}
    desk.use("")
    desk.window(desk.workspace("with-environment", settings)).status("ready")
    assert len(script.starts) == 1


def test_the_server_has_the_users_environment_in_which_python_imports_nothing_of_a_project(make_desk: Any) -> None:
    """By it the editors of one user find each other's engine, and a model on their GPU."""
    desk: Desk = make_desk({}, XDG_RUNTIME_DIR="/run/user/1000")
    desk.window(desk.workspace("environment", {})).status("ready")
    (pid,) = Script(desk.home / "fixed" / "greencode-lsp").served
    environment = psutil.Process(pid).environ()
    assert environment["XDG_RUNTIME_DIR"] == "/run/user/1000"
    assert environment["HOME"] == str(desk.home)
    assert environment["PYTHONSAFEPATH"] == "1"


def test_two_folders_share_one_server(desk: Desk) -> None:
    folders = [desk.workspace(name, {}) for name in ("first", "second")]
    script = desk.script("two-server")
    workspace = desk.home / "two.code-workspace"
    desk.use(script.path)
    entries = ", ".join(f'{{"path": "{folder}"}}' for folder in folders)
    workspace.write_text(f'{{"folders": [{entries}]}}', encoding="utf8")
    window = desk.window(folders[0], workspace)
    window.status("ready")
    for folder in folders:
        file = folder / f"{folder.name}.py"
        file.write_text("# sums\n", encoding="utf8")
        window.edit(file)
        window.type("total = ")
        assert window.ghost_text() == SUGGESTION
    assert len(script.starts) == 1


def prepared(desk: Desk, name: str) -> tuple[Path, list[Script]]:
    """Make a workspace that brings servers of its own by every setting and folder it has; it is trusted."""
    named, venv = desk.script(f"{name}/named"), desk.script(f"{name}/.venv/bin")
    settings = {
        PATH: str(named.path),
        "python.defaultInterpreterPath": str(venv.path.parent / "python"),
        "greencode.model": str(desk.home / name),
        "greencode.device": "cuda",
    }
    return desk.workspace(name, settings), [named, venv]


def test_a_repository_names_no_server_and_brings_none(desk: Desk) -> None:
    folder, planted = prepared(desk, "hostile")
    script = desk.script("users-own")
    desk.use(script.path)
    window = desk.window(folder)
    window.status("ready")
    window.type("total = ")
    assert window.ghost_text() == SUGGESTION
    assert len(script.starts) == 1
    assert not any(one.starts for one in planted)


def test_a_repository_brings_no_server_in_its_own_environment(desk: Desk) -> None:
    folder, planted = prepared(desk, "hostile-environment")
    desk.use("")
    desk.window(folder).status("not installed")
    assert not any(one.starts for one in planted)


def test_an_untrusted_workspace_names_no_executable(make_desk: Any) -> None:
    trust = "security.workspace.trust"
    desk: Desk = make_desk({f"{trust}.enabled": True, f"{trust}.startupPrompt": "never", f"{trust}.banner": "never"})
    named, selected = desk.script("untrusted/named"), desk.script("untrusted/environment")
    settings = {PATH: str(named.path), "python.defaultInterpreterPath": str(selected.path.parent / "python")}
    window = desk.window(desk.workspace("untrusted", settings))
    window.page.wait_for_selector('[id="status.workspaceTrust"]')
    window.status("ready")
    window.type("total = ")
    assert window.ghost_text() == SUGGESTION
    assert not named.starts
    assert not selected.starts
    assert len(Script(desk.home / "fixed" / "greencode-lsp").starts) == 1


def test_an_untrusted_workspace_brings_no_server_in_its_environment(make_desk: Any) -> None:
    desk: Desk = make_desk({"security.workspace.trust.enabled": True, PATH: ""})
    script = desk.script("untrusted/environment")
    settings = {"python.defaultInterpreterPath": str(script.path.parent / "python")}
    desk.window(desk.workspace("untrusted", settings)).status("not installed")
    assert not script.starts

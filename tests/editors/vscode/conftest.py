"""Windows of the real workbench, with the extension built from this checkout."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.editors import vscode
from tests.editors.cache import PROCESS, Missing, Ready, folder, use_python_packages
from tests.editors.vscode.build import Script, build, package_helper, server_script
from tests.editors.vscode.workbench import CodeServer, Window


@pytest.fixture(scope="session")
def tools() -> Ready:
    """Return the tools in the cache; skip where they are not.

    Playwright keeps an event loop running, beside which no other asynchronous test can: a process of its own it is.
    """
    if os.environ.get(PROCESS) != "vscode":
        pytest.skip("VS Code's tests need a process of their own: python -m tests.editors vscode")
    found = vscode.find(folder())
    if isinstance(found, Missing):
        pytest.skip(found.reason)
    use_python_packages(folder())
    return found


@pytest.fixture(scope="session")
def vsix(tools: Ready, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the extension once."""
    return build(tools, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def extensions(tools: Ready, vsix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which our extension and those beside it are installed."""
    home = tmp_path_factory.mktemp("install")
    installer = CodeServer(tools, home, home / "extensions")
    helpers = [package_helper(tools, name, home) for name in ("neighbour", "python")]
    installer.install(vsix, *helpers)
    return home / "extensions"


@pytest.fixture(scope="session")
def browser(tools: Ready) -> Iterator[Any]:
    """Start one headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(tools.tools["browser"]), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(frozen=True, slots=True)
class Desk:
    """One user: a code-server with his settings, a home of the language servers, and windows."""

    home: Path
    browser: Any
    server: CodeServer
    user: dict[str, Any]
    """The user's settings."""

    def use(self, server: Path | str) -> None:
        """Let the user name a server, or none, in the settings; the windows before are closed."""
        for context in list(self.browser.contexts):
            context.close()
        self.server.settings({**self.user, "greencode.server.path": str(server)})

    def script(self, name: str, arguments: str = "-m tests.editors.fixed_server") -> Script:
        """Write an executable that starts a language server; all of a desk share one ledger."""
        return server_script(self.home / name / "greencode-lsp", self.home / "greencode", arguments)

    def workspace(self, name: str, settings: dict[str, Any]) -> Path:
        """Make a folder with settings and a file `start.py`."""
        folder = self.home / name
        (folder / ".vscode").mkdir(parents=True, exist_ok=True)
        (folder / ".vscode" / "settings.json").write_text(json.dumps(settings), encoding="utf8")
        (folder / "start.py").write_text("# start\n", encoding="utf8")
        return folder

    def window(self, folder: Path, workspace: Path | None = None) -> Window:
        """Open a window on a folder or a workspace file, the cursor at the end of the folder's `start.py`."""
        page = self.browser.new_context(viewport={"width": 1000, "height": 600}).new_page()
        window = Window(page)
        window.open(self.server.url(workspace or folder, folder / "start.py"))
        window.at_end_of("start.py")
        return window


@pytest.fixture(scope="module")
def make_desk(tools: Ready, extensions: Path, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a function that makes a desk from user settings; all are cleared at the end."""
    desks: list[Desk] = []

    def make(settings: dict[str, Any]) -> Desk:
        home = tmp_path_factory.mktemp("desk")
        user: dict[str, Any] = {"greencode.server.path": str(home / "fixed" / "greencode-lsp"), **settings}
        desks.append(Desk(home, browser, CodeServer(tools, home, extensions), user))
        desks[-1].script("fixed")
        desks[-1].server.settings(user)
        desks[-1].server.start()
        return desks[-1]

    yield make
    for number, context in enumerate(browser.contexts):
        context.pages[0].screenshot(path=str(desks[-1].home / f"window-{number}.png"))
        context.close()
    for desk in desks:
        desk.server.stop()

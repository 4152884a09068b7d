"""VS Code's workbench in a browser, in words of a user: windows, keys, ghost text, the status bar, messages."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

from tests.editors.cache import Ready

TIMEOUT_MS = 30_000
GHOST = r"""[...document.querySelectorAll('.editor-instance [class*="ghost-text"]')]
    .filter(element => !element.querySelector('[class*="ghost-text"]'))
    .map(element => element.textContent.replaceAll('\u00a0', ' ')).join('')"""
STATUS = """document.querySelector('[id*="greencode.status"] a')?.getAttribute('aria-label') ?? ''"""
QUIET = {
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
    "workbench.colorTheme": "Dark Modern",
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "chat.disableAIFeatures": True,
    "extensions.ignoreRecommendations": True,
    "update.mode": "none",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "git.enabled": False,
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.wordBasedSuggestions": "off",
    "editor.minimap.enabled": False,
    "files.autoSave": "off",
}
"""What keeps everything but ghost text from popping up."""


class CodeServer:
    """One code-server with its own user settings; windows are opened on its folders."""

    def __init__(self, tools: Ready, home: Path, extensions: Path) -> None:
        self._command = [str(tools.tools["node"]), str(tools.tools["code-server"])]
        self._folders = ["--user-data-dir", str(home / "data"), "--extensions-dir", str(extensions)]
        self._home, self._port = home, 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Return an environment in which no other code-server, language server or proxy is known."""
        kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        own = {"HOME": str(self._home), "XDG_CONFIG_HOME": str(self._home / "config"), "PATH": "/usr/bin:/bin"}
        return kept | own

    def install(self, *packages: Path) -> None:
        """Install extensions; raises CalledProcessError with what was printed."""
        options = [word for package in packages for word in ("--install-extension", str(package))]
        command = [*self._command, *self._folders, *options]
        subprocess.run(command, check=True, capture_output=True, text=True, env=self.environment)

    def settings(self, values: Mapping[str, Any]) -> None:
        """Write the user settings."""
        for owner in ("User", "Machine"):  # a setting of scope machine is read from the latter alone
            file = self._home / "data" / owner / "settings.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({**QUIET, **values}), encoding="utf8")

    def start(self) -> None:
        """Serve until stopped."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        options = ["--auth", "none", "--bind-addr", f"127.0.0.1:{self._port}", "--disable-telemetry"]
        log = (self._home / "code-server.log").open("wb")
        with log:
            self._process = subprocess.Popen(
                [*self._command, *self._folders, *options, "--disable-update-check"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )
        eventually(self._answers, "code-server does not answer")

    def stop(self) -> None:
        """End the process and what it started."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def url(self, folder: Path, file: Path | None = None) -> str:
        """Return the address of a window on a folder or workspace file, with a file open."""
        kind = "workspace" if folder.suffix == ".code-workspace" else "folder"
        address = f"http://127.0.0.1:{self._port}/?{kind}={quote(str(folder))}"
        if file is not None:
            payload = json.dumps([["openFile", f"vscode-remote://127.0.0.1:{self._port}{file}"]])
            address += f"&payload={quote(payload)}"
        return address

    def _answers(self) -> bool:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.url(self._home), timeout=5).close()
            return True
        return False


class Window:
    """One VS Code window."""

    def __init__(self, page: Any) -> None:
        self.page = page
        page.set_default_timeout(TIMEOUT_MS)

    def open(self, url: str) -> None:
        """Open the window and wait for its editor."""
        self.page.goto(url)
        self.page.wait_for_selector(".monaco-workbench .part.editor")

    def edit(self, file: Path) -> None:
        """Open a file by its path and put the cursor at its end."""
        self.press("Control+p")
        self.page.wait_for_selector(".quick-input-widget .quick-input-box input:focus")
        self.type(str(file))
        self.page.wait_for_selector(f'.quick-input-list .monaco-list-row[aria-label^="{file.name}"]')
        self.press("Enter")
        self.at_end_of(file.name)

    def at_end_of(self, name: str) -> None:
        """Wait for the file's tab and put the cursor at the end."""
        self.page.wait_for_selector(f'.tab.active[data-resource-name="{name}"]')
        self.page.click(".editor-instance .view-lines")
        self.press("Control+End")

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        """Type as a user does, a key at a time."""
        self.page.keyboard.type(text)

    def ghost_text(self, pattern: str = ".") -> str:
        """Wait until what is shown in grey matches; return it."""
        return self._wait(GHOST, pattern)

    def no_ghost_text(self) -> None:
        """Wait until nothing is shown in grey."""
        self._wait(GHOST, "^$")

    def command(self, title: str) -> None:
        """Run a command by its title from the palette."""
        self.press("F1")
        self.page.wait_for_selector(".quick-input-widget .quick-input-list")
        self.type(title)
        self.page.wait_for_selector(f'.quick-input-list .monaco-list-row.focused[aria-label^="{title}"]')
        self.press("Enter")

    def choose(self, label: str) -> str:
        """Choose from the list that is open; return the chosen row as read out."""
        row = self.page.wait_for_selector(f'.quick-input-list .monaco-list-row[aria-label^="{label}"]')
        text = str(row.get_attribute("aria-label"))
        row.click()
        return text

    def press_button(self, label: str, title: str) -> None:
        """Press the button of a row in the list that is open."""
        row = self.page.locator(f'.quick-input-list .monaco-list-row[aria-label^="{label}"]')
        row.hover()
        row.get_by_role("button", name=title).click()

    def status(self, pattern: str) -> str:
        """Wait until the status bar's item, as read out, matches; return it."""
        return self._wait(STATUS, pattern)

    def message(self, pattern: str) -> Any:
        """Return the notification that matches; clicks on it wait for it."""
        return self.page.locator(".notification-list-item", has_text=re.compile(pattern)).first

    def messages(self) -> Sequence[str]:
        """Return the notifications that are shown now."""
        return [str(text) for text in self.page.locator(".notification-list-item-message").all_inner_texts()]

    def _wait(self, expression: str, pattern: str) -> str:
        script = f"pattern => {{ const text = {expression}; return new RegExp(pattern).test(text) ? [text] : null }}"
        (text,) = self.page.wait_for_function(script, arg=pattern).json_value()
        return str(text)


def eventually(check: Any, failure: str, seconds: float = 60) -> Any:
    """Return the first truthy value of `check`, asked again until then; for what tells no event of its own."""
    pause = Event()
    for _ in range(int(seconds / 0.05)):
        value = check()
        if value:
            return value
        pause.wait(0.05)
    raise AssertionError(failure)

"""Take the pictures of `editors/vscode` with the bundled model: `python -m tests.editors.vscode.screenshot`.

Of another model, into a folder of one's own: `--model NAME --out FOLDER`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.editors import vscode
from tests.editors.cache import Missing, folder, use_python_packages
from tests.editors.vscode.build import build, server_script
from tests.editors.vscode.workbench import CodeServer, Window

BEGUN = '''"""Read settings from a JSON file."""

import json
import os


class Reader:
    def __init__(self, path, encoding="utf-8"):
        self.path = path
        self.encoding = encoding

'''
LOOKS = {
    "editor.fontSize": 15,
    "editor.inlineSuggest.syntaxHighlightingEnabled": False,
    "editor.renderLineHighlight": "none",
    "window.commandCenter": False,
    "workbench.activityBar.location": "hidden",
    "workbench.layoutControl.enabled": False,
    "editor.autoClosingBrackets": "never",
    "editor.autoIndent": "none",
    "breadcrumbs.enabled": False,
}


def take(window: Window, target: Path) -> None:
    """Type and accept as a user does, then take a suggestion's picture and the preference list's."""
    window.status("ready")
    window.page.add_style_tag(content=".notifications-toasts { display: none !important }")  # an offer may stand there
    window.type("    def read(self):\n        if not os.path.exists(")
    window.ghost_text()
    window.press("Tab")
    window.type("\n            return None\n        with open(self.path, ")
    window.ghost_text()
    window.page.hover('[id*="greencode.status"]')
    window.page.locator(".monaco-hover", has_text="GreenCode is ready").wait_for()
    window.page.screenshot(path=str(target / "screenshot.png"))
    window.page.mouse.move(300, 300)
    window.command("GreenCode: Choose Accuracy or Energy")
    window.page.locator(".quick-input-list .monaco-list-row", has_text="of full depth").first.wait_for()
    window.page.wait_for_function("getComputedStyle(document.querySelector('.quick-input-widget')).opacity === '1'")
    window.page.screenshot(path=str(target / "preference.png"))


def main() -> int:
    """Return 0, or 1 where VS Code is not in the cache."""
    parser = argparse.ArgumentParser(description="Take the pictures of VS Code.")
    parser.add_argument("--model", default="bundled", help="as greencode.model")
    parser.add_argument("--out", type=Path, default=vscode.EXTENSION)
    options = parser.parse_args()
    tools = vscode.find(folder())
    if isinstance(tools, Missing):
        print(tools.reason, file=sys.stderr)  # noqa: T201 - a command line prints
        return 1
    use_python_packages(folder())
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        home = Path(name)
        script = server_script(home / "bin" / "greencode-lsp", home / "greencode", "-m greencode_lsp")
        workspace = home / "settings"
        workspace.mkdir()
        (workspace / "reader.py").write_text(BEGUN, encoding="utf8")
        server = CodeServer(tools, home, home / "extensions")
        settings = {"greencode.server.path": str(script.path), "greencode.model": options.model}
        server.settings({**settings, **LOOKS})
        server.install(build(tools, home / "build"))
        server.start()
        browser = playwright.chromium.launch(executable_path=str(tools.tools["browser"]), args=["--no-sandbox"])
        try:
            window = Window(browser.new_page(viewport={"width": 960, "height": 540}))
            window.open(server.url(workspace, workspace / "reader.py"))
            window.press("Control+b")
            window.at_end_of("reader.py")
            take(window, options.out)
        finally:
            browser.close()
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

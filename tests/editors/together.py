"""Two VS Code windows, a Neovim and an Emacs at one engine; their figures: `python -m tests.editors.together`.

`find` and `prepare` are those of an editor's module; the laws are in `test_together.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from tests.editors import emacs, neovim, vscode
from tests.editors.cache import Missing, Ready, folder, use_python_packages
from tests.editors.neovim_session import Neovim, quote
from tests.editors.neovim_session import neovim as run_neovim
from tests.editors.vscode.build import Script, build, server_script
from tests.editors.vscode.conftest import Desk
from tests.editors.vscode.workbench import CodeServer, Window, eventually
from tests.soak.figures import Figure, percentile, table

BEGUN = "class Reader{0}:\n    def __init__(self, name):\n        self.name"
TYPED = " = "
"""Behind this a model is sure of itself; the number makes each text a new one."""
ENGINE, SERVER = "greencode_lsp.host", "--stdio"
"""Words of the processes' command lines."""
SUGGESTIONS = 40
KILLS = 5
NUMBERS = itertools.count(1)


def find(cache: Path) -> Ready | Missing:
    """Return VS Code's tools and a Neovim; Missing where one of the three editors is."""
    code, vim, lisp = vscode.find(cache), neovim.find(cache), emacs.find(cache)
    for found in (code, vim, lisp):
        if isinstance(found, Missing):
            return found
    assert isinstance(code, Ready) and isinstance(vim, Ready)
    return Ready({**code.tools, "neovim": next(iter(vim.tools.values()))})


def prepare(cache: Path) -> Ready | Missing:
    """Fetch VS Code and Emacs where they are missing; one Neovim comes with the environment."""
    for module in (vscode, emacs):
        module.prepare(cache)
    return find(cache)


class Editor(Protocol):
    """One editor that is typed into."""

    server: psutil.Process
    """With which it was opened."""

    def suggest(self) -> str:
        """Type something new, wait for a suggestion, take it and return it."""
        ...

    def said(self) -> list[str]:
        """Return what the user was told of the server."""
        ...


def begin(files: Path) -> Path:
    """Write a file to type behind, unlike all before."""
    number = next(NUMBERS)
    file = files / f"reader_{number}.py"
    file.write_text(BEGUN.format(number), encoding="utf8")
    return file


class TypedNeovim:
    """See `Editor`."""

    def __init__(self, editor: Neovim, script: Script) -> None:
        self._editor = editor
        self._begin()
        self.server = psutil.Process(script.served[-1])

    def _begin(self) -> None:
        number = next(NUMBERS)
        self._editor.open(BEGUN.format(number), f"reader_{number}.py")
        self._editor.wait_status(state="ready")

    def suggest(self) -> str:
        return self.timed()[0]

    def timed(self, before: Callable[[], Any] = lambda: None) -> tuple[str, float]:
        """Return a suggestion and the milliseconds from `before`, with the keys right behind it, to the ghost text."""
        self._begin()
        start_s = time.perf_counter()
        before()
        self._editor.type(f"GA{TYPED}")
        shown = self._editor.wait_ghost()
        elapsed_ms = 1000 * (time.perf_counter() - start_s)
        self._editor.type("<Tab>")
        return shown, elapsed_ms

    def said(self) -> list[str]:
        messages = str(self._editor.lua("return vim.api.nvim_exec2('messages', { output = true }).output"))
        return [*self._editor.notices, *(line for line in messages.splitlines() if "LSP[" in line)]


@contextmanager
def running_emacs(home: Path, script: Script) -> Iterator[Path]:
    """Run Emacs without a frame; yield the socket at which it is told what its user does."""
    found = emacs.find(folder())
    assert isinstance(found, Ready)
    socket, files = home / "socket", home / "files"
    files.mkdir(parents=True)
    command = [str(found.tools["emacs"]), "-Q", f"--fg-daemon={socket}", *emacs.load_path(found)]
    before, start = f'(setq test-folder "{files}/")', f'(setq greencode-command \'("{script.path}" "{SERVER}"))'
    with (home / "emacs.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--eval={before}", "--load=emacs_session", f"--eval={start}"],
            cwd=home,
            env={**os.environ, "HOME": str(home), "GREENCODE_TEST_PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(socket.exists, "Emacs does not listen")
        yield socket
        process.terminate()
        process.wait(30)
    finally:
        process.kill()


class TypedEmacs:
    """See `Editor`; what emacsclient evaluates is done in a running Emacs, with real keys."""

    def __init__(self, socket: Path, script: Script) -> None:
        self._socket, self._files = socket, socket.parent / "files"
        self._begin()
        self.server = psutil.Process(script.served[-1])

    def evaluate(self, form: str) -> Any:
        """Return what a form is, evaluated in the buffer that is shown."""
        form = f"(with-current-buffer (window-buffer) (json-encode {form}))"
        command = ["emacsclient", f"--socket-name={self._socket}", "--eval", form]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(json.loads(done.stdout))

    def _begin(self) -> None:
        self.evaluate(f"(progn (find-file {json.dumps(str(begin(self._files)))}) (goto-char (point-max)) t)")
        self.evaluate('(progn (greencode-mode) (test-wait "the model" #\'test-ready-p) t)')

    def suggest(self) -> str:
        self._begin()
        keys = TYPED.replace(" ", " SPC ")
        return str(self.evaluate(f'(progn (test-type "{keys}") (prog1 (test-ghost) (test-type "TAB")))'))

    def said(self) -> list[str]:
        ours = '(cl-remove-if-not (lambda (said) (string-match-p "^GreenCode" said)) test-messages)'
        return list(self.evaluate(f"(vconcat {ours})"))


class TypedWindow:
    """See `Editor`."""

    def __init__(self, desk: Desk, name: str, pages: ThreadPoolExecutor, script: Script) -> None:
        self._files, self._pages = desk.workspace(name, {}), pages
        self._window: Window = pages.submit(desk.window, self._files).result()
        pages.submit(self._window.status, "ready").result()
        self.server = psutil.Process(script.served[-1])

    def suggest(self) -> str:
        return self._pages.submit(self._suggest).result()

    def _suggest(self) -> str:
        self._window.status("ready")
        self._window.edit(begin(self._files))
        self._window.no_ghost_text()
        self._window.type(TYPED)
        shown = self._window.ghost_text()
        self._window.press("Tab")
        return shown

    def said(self) -> list[str]:
        return list(self._pages.submit(self._window.messages).result())


@dataclass(frozen=True, slots=True)
class Place:
    """A folder for all that one user's editors keep, and how each of them starts the real server."""

    folder: Path
    tools: Ready

    @property
    def home(self) -> Path:
        """The servers' GREENCODE_HOME."""
        return self.folder / "greencode"

    def script(self, name: str) -> Script:
        """Return an editor's way to start the server, as which it is known."""
        return server_script(self.folder / name / "greencode-lsp", self.home, "-m greencode_lsp")

    def processes(self, word: str) -> list[psutil.Process]:
        """Return the engines or the servers that run."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if word in process.cmdline() and process.environ().get("GREENCODE_HOME") == str(self.home):
                    found.append(process)
        return found

    def engine(self) -> psutil.Process:
        """Return the one engine."""
        (engine,) = self.processes(ENGINE)
        return engine

    @contextmanager
    def neovim(self) -> Iterator[TypedNeovim]:
        """Open Neovim."""
        script = self.script("neovim")
        setup = f"require('greencode').setup({{ cmd = {quote((script.path, SERVER))} }})"
        with run_neovim(self.tools.tools["neovim"], self.folder / "neovim" / "user", setup, self.home) as editor:
            yield TypedNeovim(editor, script)

    @contextmanager
    def emacs(self) -> Iterator[TypedEmacs]:
        """Open Emacs."""
        script = self.script("emacs")
        with running_emacs(self.folder / "emacs" / "user", script) as socket:
            yield TypedEmacs(socket, script)

    @contextmanager
    def windows(self) -> Iterator[tuple[TypedWindow, TypedWindow]]:
        """Open two windows of one VS Code.

        Playwright keeps an event loop running, beside which Neovim's client can have none: it has a thread of its own.
        """
        use_python_packages(folder())
        from playwright.sync_api import sync_playwright

        home, script = self.folder / "code", self.script("code")
        server = CodeServer(self.tools, home, home / "extensions")
        server.settings({"greencode.server.path": str(script.path)})
        server.install(build(self.tools, home / "build"))
        with ThreadPoolExecutor(max_workers=1) as pages, ExitStack() as stack:
            server.start()
            stack.callback(server.stop)
            playwright = pages.submit(sync_playwright().start).result()
            stack.callback(lambda: pages.submit(playwright.stop).result())
            options = {"executable_path": str(self.tools.tools["browser"]), "args": ["--no-sandbox"]}
            browser = pages.submit(lambda: playwright.chromium.launch(**options)).result()
            stack.callback(lambda: pages.submit(browser.close).result())
            desk = Desk(home, browser, server, {})
            yield TypedWindow(desk, "first", pages, script), TypedWindow(desk, "second", pages, script)


def measure(place: Place) -> list[Figure]:
    """Type in Neovim alone, then beside all the others; then kill the engine, several times."""
    with ExitStack() as stack:
        typist = stack.enter_context(place.neovim())
        alone_ms = _p95_ms(typist)
        others: list[Editor] = [stack.enter_context(place.emacs()), *stack.enter_context(place.windows())]
        for editor in others:
            editor.suggest()
        among_ms = _p95_ms(typist)
        servers = [process.memory_info().rss / 1e6 for process in place.processes(SERVER)]
        engine_mb = place.engine().memory_info().rss / 1e6
        killed_ms = [typist.timed(lambda: place.engine().kill())[1] for _ in range(KILLS)]
        for editor in others:
            editor.suggest()
        engines = len(place.processes(ENGINE))
    return [
        Figure("p95 from key to ghost text, Neovim alone (ms)", alone_ms),
        Figure("p95 from key to ghost text, all open, Neovim types (ms)", among_ms, 1.5 * alone_ms),
        Figure("ghost text after the engine was killed, longest (ms)", max(killed_ms), 2000),
        Figure("ghost text after the engine was killed, median (ms)", percentile(killed_ms, 0.5)),
        Figure("engines after that", engines, 1),
        Figure("memory of the engine, resident (MB)", engine_mb),
        *(Figure("memory of a server, resident (MB)", server_mb, 70) for server_mb in servers),
    ]


def _p95_ms(typist: TypedNeovim) -> float:
    for _ in range(3):
        typist.suggest()
    return percentile([typist.timed()[1] for _ in range(SUGGESTIONS)], 0.95) or 0.0


def main() -> int:
    """Print the figures; return 1 where an editor is not in the cache or a limit is not kept."""
    found = find(folder())
    if isinstance(found, Missing):
        print(found.reason, file=sys.stderr)  # noqa: T201 - a command line prints
        return 1
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Place(Path(name), found))
    table("four editors at one engine", figures, print)
    return int(not all(figure.is_kept for figure in figures))


if __name__ == "__main__":
    sys.exit(main())

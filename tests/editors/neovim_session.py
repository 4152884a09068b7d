"""One headless Neovim that is typed into, and what a test may see of it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvim

from tests.editors.cache import ROOT

PLUGIN = ROOT / "editors/neovim"
FAKE_SERVER = (sys.executable, "-m", "tests.fake_server")
BUNDLED_SERVER = (sys.executable, "-m", "greencode_lsp", "--stdio")
DEADLINE_S = 60.0
SCRIPTED = """
server = require('neovim_server')
require('greencode').setup({ cmd = server.start })
"""
"""A server that answers when the test says so."""
GHOST = """
local text = nil
for _, name in ipairs({ 'nvim.lsp.inline_completion', 'greencode.ghost' }) do
  local namespace = vim.api.nvim_get_namespaces()[name]
  local marks = namespace and vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true }) or {}
  for _, mark in ipairs(marks) do
    local lines = {}
    for _, line in ipairs({ mark[4].virt_text or {}, unpack(mark[4].virt_lines or {}) }) do
      table.insert(lines, line[1] and line[1][1] or '')
    end
    local row, col = unpack(vim.api.nvim_win_get_cursor(0))
    assert(text == nil, 'two ghost texts')
    assert(mark[2] == row - 1 and mark[3] == col or lines[1] == '', 'the ghost text is not at the cursor')
    text = table.concat(lines, '\\n')
  end
end
return text or ''
"""


class Neovim:
    """What a user does and sees."""

    def __init__(self, nvim: Any, files: Path) -> None:
        self.nvim = nvim
        self.files = files

    def lua(self, code: str, *arguments: Any) -> Any:
        """Run Lua inside the editor; `...` are the arguments."""
        return self.nvim.exec_lua(code, *arguments)

    def command(self, line: str) -> None:
        """Run an Ex command."""
        self.nvim.command(line)

    def type(self, keys: str) -> None:
        """Press keys, `<Tab>` and the like by their names."""
        self.nvim.input(keys)

    def wait(self, check: Callable[[], Any], what: str) -> Any:
        """Return what the check returns once it is true; fail after the deadline."""
        pause, end = threading.Event(), time.monotonic() + DEADLINE_S
        while True:
            seen = check()
            if seen:
                return seen
            assert time.monotonic() < end, f"waited in vain until {what}; {self.describe()}"
            pause.wait(0.01)

    def describe(self) -> str:
        """Return what there is to see when a wait was in vain."""
        log = Path(self.lua("return vim.lsp.log.get_filename and vim.lsp.log.get_filename() or vim.lsp.get_log_path()"))
        tail = log.read_text()[-2000:] if log.is_file() else ""
        return f"text {self.text!r}, ghost {self.ghost!r}, mode {self.mode}, notices {self.notices}, log {tail}"

    @property
    def mode(self) -> str:
        """The mode's letters."""
        return str(self.nvim.api.get_mode()["mode"])

    @property
    def text(self) -> str:
        """The current buffer."""
        return "\n".join(self.nvim.current.buffer[:])

    @property
    def ghost(self) -> str:
        """The ghost text; fails where there is more than one, or where it is not at the cursor."""
        return str(self.lua(GHOST))

    @property
    def notices(self) -> list[str]:
        """What was shown to the user as messages."""
        return list(self.lua("return _G.notices"))

    def wait_text(self, text: str) -> None:
        """Wait until the buffer is this text."""
        self.wait(lambda: self.text == text, f"the text is {text!r}")

    def wait_ghost(self, text: str | None = None) -> str:
        """Wait for a ghost text, any or this one; return it."""

        def seen() -> str:
            ghost = self.ghost
            return ghost if text in (None, ghost) else ""

        return str(self.wait(seen, f"the ghost text is {text or 'there'!r}"))

    def open(self, text: str = "", name: str = "sample.py", attached: bool = True) -> None:
        """Open a new file in place of everything that was open; wait for the server unless it is not to be attached."""
        self.type("<Esc>")
        self.wait(lambda: self.mode == "n", "insert mode is left")
        self.command("silent! only! | %bwipeout!")
        path = self.files / name
        path.write_text(text)
        self.command(f"edit {path}")
        if attached:
            self.wait_attached()

    def wait_attached(self) -> None:
        """Wait until the server is attached to the current buffer."""
        self.wait(lambda: self.clients("{ bufnr = 0, name = 'greencode' }") > 0, "the server is attached")

    def clients(self, wanted: str = "{ name = 'greencode' }") -> int:
        """Return how many clients there are."""
        return int(self.lua(f"return #vim.lsp.get_clients({wanted})"))

    def wait_status(self, **wanted: Any) -> dict[str, Any]:
        """Wait for a status with these values."""

        def seen() -> dict[str, Any] | None:
            status = self.lua("return require('greencode.status').last")
            return status if status and wanted.items() <= status.items() else None

        return dict(self.wait(seen, f"the status has {wanted}"))


def quote(words: Sequence[str | Path]) -> str:
    """Return a list of strings in Lua."""
    return "{ " + ", ".join(f"[==[{word}]==]" for word in words) + " }"


@contextmanager
def neovim(executable: Path, folder: Path, setup: str, home: Path | None = None) -> Iterator[Neovim]:
    """Start Neovim with a user's init.lua that ends with `setup`, everything it keeps in a folder of its own."""
    files = folder / "files"
    files.mkdir(parents=True)
    init = folder / "init.lua"
    init.write_text(
        f"vim.opt.runtimepath:prepend([==[{PLUGIN}]==])\n"
        f"package.path = [==[{ROOT / 'tests/editors'}/?.lua;]==] .. package.path\n"
        "vim.o.swapfile, vim.o.expandtab, vim.o.shiftwidth = false, true, 4\n"
        "_G.notices = {}\n"
        "vim.notify = function(text) table.insert(_G.notices, text) end\n"
        f"{setup}\n"
    )
    environment = {
        **{f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")},
        "GREENCODE_HOME": str(home or os.environ["GREENCODE_HOME"]),
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
    }
    command = [str(executable), "--embed", "--headless", "-n", "--clean", "-u", str(init)]
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # pynvim starts its child with this process's environment
    try:
        nvim = pynvim.attach("child", argv=command)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    try:
        yield Neovim(nvim, files)
    finally:
        nvim.command("qall!", async_=True)
        nvim.close()


def asked(editor: Neovim, count: int = 1) -> None:
    """Wait until the server was asked this often."""
    editor.wait(lambda: editor.lua("return #server.asked") >= count, f"the server was asked {count} times")


def asked_at(editor: Neovim, character: int) -> None:
    """Wait until the newest request is of this place in its line, in UTF-16 units."""
    newest = "local request = server.asked[#server.asked]; return request and request.params.position.character == ..."
    editor.wait(lambda: editor.lua(newest, character), f"the server was asked at character {character}")


def suggest(editor: Neovim, typed: str, text: str) -> None:
    """Type into an empty line, and let the server answer once it is asked behind the last key."""
    editor.type(typed)
    asked_at(editor, len(typed))
    editor.lua("server.answer(...)", text)
    editor.wait_ghost(text)

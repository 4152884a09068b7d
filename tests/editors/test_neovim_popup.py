"""Neovim's own completion popup with the real server: the whole suggestion, marked with its joules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.editors.neovim_session import FAKE_SERVER, Neovim, neovim, quote

SETUP = f"""
vim.o.completeopt = 'menuone,noinsert'
vim.api.nvim_create_autocmd('FileType', {{ pattern = 'python', callback = function(event)
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.textDocument.inlineCompletion = vim.NIL -- from 0.12 on nil leaves what Neovim itself knows
  vim.lsp.start({{
    name = 'popup',
    cmd = {quote(FAKE_SERVER)},
    capabilities = capabilities,
    init_options = {{ debounceMs = 0 }},
    root_dir = vim.fs.dirname(event.file),
  }})
end }})
"""


@pytest.fixture(scope="module")
def popup(neovim_executable: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neovim]:
    """Neovim with the server as a client that does not know inline completion, and nothing else of ours."""
    with neovim(neovim_executable, tmp_path_factory.mktemp("popup"), SETUP, tmp_path_factory.mktemp("home")) as editor:
        yield editor


def offered(editor: Neovim, typed: str) -> list[dict[str, Any]]:
    """Type into a new file and ask for the popup until there is something in it."""
    editor.open(attached=False)
    editor.wait(lambda: editor.clients("{ bufnr = 0, name = 'popup' }") > 0, "the server is attached")
    editor.type("i" + typed)

    shown = "return vim.fn.pumvisible() == 1 and vim.fn.complete_info({ 'items' }).items or {}"
    pause = threading.Event()
    for _ in range(30):  # a first answer may be too late for its popup, and is there for the next
        editor.type("<C-x><C-o>")
        for _ in range(20):
            items = list(editor.lua(shown))
            if items:
                return items
            pause.wait(0.05)
        editor.type("<C-e>")
    raise AssertionError(f"there is no popup; {editor.describe()}")


def test_the_popup_has_the_whole_suggestion_and_its_joules(popup: Neovim) -> None:
    (item,) = offered(popup, "for it")
    assert item["abbr"] == "item in items:"
    assert item["menu"] == "greencode 10 J modelled"
    popup.type("<C-y>")
    takes_a_word = popup.lua("return vim.version().minor") == 11  # of an edit that is no snippet
    popup.wait_text("for item" if takes_a_word else "for item in items:")

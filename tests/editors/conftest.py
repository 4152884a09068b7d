"""What the Neovim tests share: an editor of each version, its server scripted or real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.editors import neovim as versions
from tests.editors.cache import Missing, folder
from tests.editors.neovim_session import FAKE_SERVER, SCRIPTED, Neovim, neovim, quote


@pytest.fixture(scope="module", params=versions.VERSIONS)
def neovim_executable(request: pytest.FixtureRequest) -> Path:
    """Neovim of one version."""
    found = versions.find(folder())
    if isinstance(found, Missing) or request.param not in found.tools:
        pytest.skip(versions.why_missing(folder(), request.param))
    return found.tools[request.param]


@pytest.fixture(scope="module")
def scripted(neovim_executable: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neovim]:
    """One editor for all tests that need no setup of their own, with the scripted server."""
    with neovim(neovim_executable, tmp_path_factory.mktemp("scripted"), SCRIPTED) as editor:
        yield editor


@pytest.fixture
def editor(scripted: Neovim) -> Neovim:
    """That editor with a new, empty Python file, in insert mode."""
    scripted.lua("server.reset(); _G.notices = {}")
    scripted.open()
    scripted.type("i")
    return scripted


@pytest.fixture(scope="module")
def real(neovim_executable: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neovim]:
    """One editor for all tests that need the real server, with memorised answers."""
    setup = f"require('greencode').setup({{ cmd = {quote(FAKE_SERVER)}, settings = {{ preference = 'accuracy' }} }})"
    with neovim(neovim_executable, tmp_path_factory.mktemp("real"), setup, tmp_path_factory.mktemp("home")) as editor:
        yield editor


@pytest.fixture
def own_tab(editor: Neovim) -> Iterator[Callable[[str], None]]:
    """A way to map Tab in Lua or Vimscript as a user does, undone at the end."""
    find = "vim.iter(vim.api.nvim_get_keymap('i')):find(function(m) return m.lhs == '<Tab>' end)"
    editor.lua(f"_G.before = {find}")
    yield lambda code: editor.lua(code)
    editor.lua("vim.keymap.del('i', '<Tab>'); if before then vim.fn.mapset('i', false, before) end")

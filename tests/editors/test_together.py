"""Two VS Code windows, a Neovim and an Emacs of one user, opened once: one engine, and what a killed process costs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.editors import together
from tests.editors.cache import PROCESS, Missing, folder
from tests.editors.together import SERVER, Editor, Place
from tests.editors.vscode.workbench import eventually

FOUND = together.find(folder())
LARGEST_MB = 70
CONNECTED = "03"
"""A socket's state in /proc/net/unix."""
pytestmark = [
    pytest.mark.skipif(isinstance(FOUND, Missing), reason=getattr(FOUND, "reason", "")),
    pytest.mark.skipif(
        os.environ.get(PROCESS) != "together", reason="four editors at once: python -m tests.editors together"
    ),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    assert not isinstance(FOUND, Missing)
    return Place(tmp_path_factory.mktemp("together"), FOUND)


@pytest.fixture(scope="module")
def editors(place: Place) -> Iterator[dict[str, Editor]]:
    """All four, none of which has been typed into."""
    with ExitStack() as stack:
        neovim, emacs = stack.enter_context(place.neovim()), stack.enter_context(place.emacs())
        first, second = stack.enter_context(place.windows())
        yield {"neovim": neovim, "emacs": emacs, "first window": first, "second window": second}


def clients(engine: psutil.Process) -> int:
    """Return how many connections an engine has: they bear its socket's name, as Linux lists them."""
    lines = Path("/proc/net/unix").read_text(encoding="utf8").splitlines()
    return sum(line.endswith(f".sock.{engine.pid}") and line.split()[5] == CONNECTED for line in lines)


@pytest.mark.parametrize("name", ["neovim", "emacs", "first window", "second window"])
def test_each_editor_shows_a_suggestion(editors: dict[str, Editor], name: str) -> None:
    assert "name" in editors[name].suggest()


def test_one_engine_serves_the_four_servers(editors: dict[str, Editor], place: Place) -> None:
    assert {editor.server for editor in editors.values()} == set(place.processes(SERVER))
    assert clients(place.engine()) == len(editors) == 4


def test_a_server_stays_small(editors: dict[str, Editor], place: Place) -> None:
    for editor in editors.values():
        editor.suggest()
    resident_mb = {name: round(editor.server.memory_info().rss / 1e6, 1) for name, editor in editors.items()}
    print(resident_mb, "engine", round(place.engine().memory_info().rss / 1e6, 1))  # noqa: T201 - shown by -s
    assert max(resident_mb.values()) <= LARGEST_MB


def test_a_killed_engine_is_replaced_by_one_without_a_word(editors: dict[str, Editor], place: Place) -> None:
    said = {name: editor.said() for name, editor in editors.items()}
    killed = place.engine()
    killed.kill()
    killed.wait(30)
    for editor in editors.values():
        assert editor.suggest()
    assert place.engine() != killed
    assert {name: editor.said() for name, editor in editors.items()} == said
    assert {editor.server for editor in editors.values()} == set(place.processes(SERVER))


@pytest.mark.parametrize("name", ["neovim", "emacs", "first window"])
def test_a_killed_server_comes_back_and_the_others_keep_theirs(
    editors: dict[str, Editor], place: Place, name: str
) -> None:
    engine, killed = place.engine(), editors[name].server
    others = [editor for other, editor in editors.items() if other != name]
    served = set(place.processes(SERVER))
    killed.kill()
    for editor in others:
        assert editor.suggest()
    assert editors[name].suggest()
    assert place.engine() == engine
    assert served - {killed} < set(place.processes(SERVER))
    eventually(lambda: clients(engine) == len(editors), "the killed server's connection is kept")

"""A repository prepared against VS Code: what it brings neither runs nor chooses anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.conftest import HOME
from tests.editors import hostile
from tests.editors.cache import ROOT
from tests.editors.vscode.workbench import eventually


def installed(file: Path, home: Path) -> Path:
    """Write the program that pip would install, of this checkout; Python itself starts it and obeys PYTHONPATH."""
    file.parent.mkdir(parents=True)
    file.write_text(
        f"#!{sys.executable}\n"
        "import os\n"
        "import sys\n"
        f"sys.path.append({str(ROOT)!r})\n"
        f"os.environ |= {{'GREENCODE_HOME': {str(home)!r}, 'GREENCODE_CACHE': {str(HOME / 'cache')!r}}}\n"
        "from greencode_lsp.cli import main\n"
        "sys.exit(main())\n",
        encoding="utf8",
    )
    file.chmod(0o755)
    return file


def test_in_a_repository_prepared_with_everything_ordinary_files_are_completed_and_nothing_of_it_runs(
    make_desk: Any, tmp_path: Path
) -> None:
    repository = hostile.prepare(tmp_path / "repository")
    before = set(repository.rglob("*"))
    desk = make_desk({}, PYTHONPATH=str(repository))
    desk.use(installed(desk.home / "installed" / "greencode-lsp", desk.home / "greencode"))
    window = desk.window(repository, file=repository / "ordinary.py")
    window.status("ready")
    window.press("Backspace")
    window.type("te")
    shown = window.ghost_text()
    window.press("Tab", "Control+s")
    file = repository / "ordinary.py"
    eventually(lambda: f"writer = csv.write{shown.splitlines()[0]}" in file.read_text(encoding="utf8"), "not saved")
    window.command("GreenCode: Run Doctor")
    window.page.locator(".terminal-wrapper").first.wait_for()
    assert not (repository / "ran").exists()
    assert set(repository.rglob("*")) == before

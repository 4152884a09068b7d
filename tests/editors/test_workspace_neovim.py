"""A repository prepared against Neovim: what it brings neither runs nor chooses anything."""

from __future__ import annotations

from pathlib import Path

from tests.editors import hostile
from tests.editors.neovim_session import BUNDLED_SERVER, FAKE_SERVER, Neovim, neovim, quote

OURS = f"require('greencode').setup({{ cmd = {quote(FAKE_SERVER)}, settings = {{ model = 'bundled' }} }})"
PROJECTS = """
require('greencode').setup({ cmd = { '/bin/sh', '-c', 'touch ran' },
  settings = { model = '/attacker', device = 'cuda', preference = 'energy' } })
"""
SEEN = "return { require('greencode.server').config().cmd, require('greencode.server').config().settings.greencode }"


def obey(editor: Neovim, project: Path, name: str, text: str) -> None:
    """Run a project's file as the option 'exrc' does, once the user has trusted it."""
    (project / name).write_text(text)
    editor.command(f"source {project / name}")


def test_a_projects_file_chooses_no_program_and_no_model(neovim_executable: Path, tmp_path: Path) -> None:
    with neovim(neovim_executable, tmp_path, OURS) as editor:
        obey(editor, editor.files, ".nvim.lua", PROJECTS)
        cmd, settings = editor.lua(SEEN)
        assert cmd == list(FAKE_SERVER)
        assert settings == {"model": "bundled", "preference": "energy"}
        assert any("a project does not choose cmd, model, device" in text for text in editor.notices)


def test_a_projects_vim_script_chooses_no_program_either(neovim_executable: Path, tmp_path: Path) -> None:
    with neovim(neovim_executable, tmp_path, OURS) as editor:
        obey(editor, editor.files, ".exrc", "lua require('greencode').setup({ cmd = { '/bin/false' } })\n")
        assert editor.lua(SEEN)[0] == list(FAKE_SERVER)


def test_the_server_starts_in_a_folder_of_its_own(neovim_executable: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    server = ("/bin/sh", "-c", f'pwd > "{here}"; exec "$@"', "sh", *FAKE_SERVER)
    with neovim(neovim_executable, tmp_path, f"require('greencode').setup({{ cmd = {quote(server)} }})") as editor:
        editor.command(f"cd {editor.files}")
        (editor.files / ".git").mkdir()
        editor.open("x = 1\n")
        editor.wait_status(state="ready")
        assert here.read_text().strip() == str(tmp_path / "state/nvim/greencode")


def test_a_program_named_from_the_current_folder_is_not_run(neovim_executable: Path, tmp_path: Path) -> None:
    with neovim(neovim_executable, tmp_path, "require('greencode').setup({ cmd = { './server' } })") as editor:
        planted = editor.files / "server"
        planted.write_text("#!/bin/sh\ntouch ran\n")
        planted.chmod(0o755)
        editor.command(f"cd {editor.files}")
        editor.open("x = 1\n", attached=False)
        assert any("write its whole path" in text for text in editor.notices)
        assert editor.clients() == 0


def test_in_a_repository_prepared_with_everything_ordinary_files_are_completed_and_nothing_of_it_runs(
    neovim_executable: Path, tmp_path: Path
) -> None:
    repository = hostile.prepare(tmp_path / "repository")
    before = set(repository.rglob("*"))
    setup = f"require('greencode').setup({{ cmd = {quote(BUNDLED_SERVER)} }})"
    with neovim(neovim_executable, tmp_path / "user", setup) as editor:
        editor.command(f"cd {repository}")
        for name in (".nvim.lua", ".exrc"):
            editor.command(f"source {name}")
        editor.command("edit ordinary.py")
        editor.wait_attached()
        editor.wait_status(state="ready", device="cpu")
        editor.type("GA")
        editor.type("te")
        assert editor.wait_ghost()
    assert not (repository / "ran").exists()
    assert set(repository.rglob("*")) == before


def test_a_name_that_a_repository_bears_loads_nothing_of_it(neovim_executable: Path, tmp_path: Path) -> None:
    repository = hostile.prepare(tmp_path / "repository")
    setup = (
        f"require('greencode').setup({{ cmd = {quote(BUNDLED_SERVER)}, settings = {{ model = '{hostile.MODEL}' }} }})"
    )
    with neovim(neovim_executable, tmp_path / "user", setup) as editor:
        editor.command(f"cd {repository}")
        editor.command("edit ordinary.py")
        assert "was pulled" in editor.wait_status(state="failed")["reason"]

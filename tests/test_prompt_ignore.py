"""Files that are never completed: secrets, what the project ignores, what the user excludes."""

from __future__ import annotations

from pathlib import Path

import pytest

from greencode_lsp.prompt.ignore import Rules

denied = Rules().denied


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project whose folders ignore some of their files."""
    (tmp_path / "src" / "gen").mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("*.log\n/build/\n!keep.log\n[\n")
    (tmp_path / ".greencodeignore").write_text("private/\n")
    (tmp_path / "src" / ".gitignore").write_text("gen/\n!trace.log\n")
    return tmp_path


CASES = {
    "ordinary": ("src/app.py", None),
    "ignored by name": ("src/debug.log", ".gitignore names it"),
    "ignored by folder": ("build/app.py", ".gitignore names it"),
    "that folder elsewhere": ("src/build/app.py", None),
    "taken back in the same file": ("keep.log", None),
    "taken back in an inner folder": ("src/trace.log", None),
    "ignored by an inner folder": ("src/gen/app.py", ".gitignore names it"),
    "ignored for us alone": ("src/private/app.py", ".greencodeignore names it"),
    "a secret": ("src/.env", "its name says that it holds secrets"),
    "excluded": ("src/big.sql", "greencode.exclude names it"),
    "excluded by folder": ("third_party/a/b.py", "greencode.exclude names it"),
}


@pytest.mark.parametrize(("path", "expected"), CASES.values(), ids=CASES.keys())
def test_a_file_is_denied_by_what_names_it(project: Path, path: str, expected: str | None) -> None:
    assert denied(str(project / path), [str(project)], ("*.sql", "/third_party/")) == expected


def test_outside_of_a_workspace_the_repository_or_the_files_own_folder_is_asked(project: Path) -> None:
    assert denied(str(project / "src" / "debug.log"), [], ()) is None
    assert denied(str(project / "debug.log"), [], ()) == ".gitignore names it"
    (project / ".git").mkdir()
    assert denied(str(project / "src" / "debug.log"), [], ()) == ".gitignore names it"
    assert denied(str(project / "id_rsa"), [], ()) is not None
    assert denied("Untitled-1", [str(project)], ()) is None


def test_a_changed_ignore_file_is_read_again(project: Path) -> None:
    path = str(project / "src" / "app.py")
    assert denied(path, [str(project)], ()) is None
    (project / ".greencodeignore").write_text("app.py\nprivate/\n")
    assert denied(path, [str(project)], ()) == ".greencodeignore names it"


def test_a_folder_opened_inside_a_repository_is_ignored_as_the_repository_says(project: Path) -> None:
    inner = project / "src"
    assert denied(str(inner / "debug.log"), [str(inner)], ()) is None
    (project / ".git").mkdir()
    assert denied(str(inner / "debug.log"), [str(inner)], ()) == ".gitignore names it"


@pytest.mark.parametrize("nested", ["src", "src/gen"])
def test_above_a_repository_in_the_workspace_our_own_ignore_files_alone_have_a_say(project: Path, nested: str) -> None:
    (project / nested / ".git").mkdir()
    (project / "src" / ".greencodeignore").write_text("private.py\n")
    for name in ("private/app.py", "private.py"):
        assert denied(str(project / nested / name), [str(project)], ()) == ".greencodeignore names it"
    assert denied(str(project / nested / "build.log"), [str(project)], ()) is None
    assert denied(str(project / "src" / "private" / "app.py"), [str(project)], ()) == ".greencodeignore names it"


def test_a_changed_ignore_file_above_a_repository_is_read_again(project: Path) -> None:
    path = str(project / "src" / "app.py")
    (project / "src" / ".git").mkdir()
    assert denied(path, [str(project)], ()) is None
    (project / ".greencodeignore").write_text("app.py\n")
    assert denied(path, [str(project)], ()) == ".greencodeignore names it"


@pytest.mark.parametrize("is_real", [True, False], ids=["by its real name", "by the link's"])
def test_in_a_workspace_opened_through_a_link_its_rules_hold(
    project: Path, tmp_path_factory: pytest.TempPathFactory, is_real: bool
) -> None:
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(project)
    below = project if is_real else link
    assert denied(str(below / "src" / "debug.log"), [str(link)], ()) == ".gitignore names it"
    assert denied(str(below / "src" / "private" / "app.py"), [str(link)], ()) == ".greencodeignore names it"
    assert denied(str(below / "src" / "app.py"), [str(link)], ("/src/app.py",)) == "greencode.exclude names it"
    assert denied(str(below / "src" / "app.py"), [str(link)], ()) is None


def test_of_equal_lines_the_last_decides_however_many_there_are(project: Path) -> None:
    (project / ".gitignore").write_text("app.py\n" + "harmless\n" * 100_000 + "!app.py\n" + "app.py\n!app.py\n" * 3)
    assert denied(str(project / "src" / "app.py"), [str(project)], ()) is None
    assert denied(str(project / "harmless"), [str(project)], ()) == ".gitignore names it"

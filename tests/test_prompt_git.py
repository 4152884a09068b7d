"""Two hundred paths of one repository: ignored exactly where git says so, with git and without; and hostile rules."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from greencode_lsp.limits import GIT_S, IGNORE_LINES
from greencode_lsp.prompt import git
from greencode_lsp.prompt.globs import Globs
from greencode_lsp.prompt.ignore import Rules

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git decides here")

FILES = {
    ".gitignore": "private/\n!private/public.py\n/build\n*.log\n!keep.log\ndoc/*.txt\n**/gen/**\na/**/z\n\\#x\n#c\n"
    "sp\\ \n*a*a*b\n[ab]?.py\n!ab.py\nfoo**bar\n/x/*/y\n",
    "private/.gitignore": "!a.py\n",
    "src/.gitignore": "*.py\n!main.py\n/only\n!deep/\n",
    "src/deep/.gitignore": "!kept.py\nsub\n",
    ".git/info/exclude": "excluded.py\nsecretive/\n",
}
FOLDERS = ("", "private", "build", "src", "src/deep", "src/deep/sub", "doc", "x/gen", "a/b", "a", "secretive", "x/q")
NAMES = (
    *("public.py", "a.py", "main.py", "kept.py", "z", "keep.log", "t.log", "n.txt", "ab.py", "aaab", "excluded.py"),
    *("only", "#x", "sp ", "foo1bar", "y", "globally.py"),
)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with rules of every kind, one of them the user's own."""
    user = tmp_path / "user"
    user.mkdir()
    (user / ".gitconfig").write_text("[core]\n\texcludesFile = ~/my-excludes\n")
    (user / "my-excludes").write_text("globally.py\n")
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user / "config"))
    folder = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def said_by_git(repository: Path, paths: list[str]) -> set[str]:
    done = subprocess.run(
        ["git", "-C", str(repository), "check-ignore", "-z", "--stdin"],
        input="\0".join(paths),
        capture_output=True,
        text=True,
        check=False,
    )
    return set(done.stdout.split("\0")) - {""}


@pytest.mark.parametrize("with_git", [True, False], ids=["asking git", "without git"])
def test_two_hundred_paths_are_ignored_where_git_ignores_them(
    repository: Path, monkeypatch: pytest.MonkeyPatch, with_git: bool
) -> None:
    paths = ["/".join((folder, name)).lstrip("/") for folder, name in itertools.product(FOLDERS, NAMES)]
    assert len(paths) >= 200
    expected = said_by_git(repository, paths)
    if not with_git:
        monkeypatch.setattr(git, "find", lambda roots: None)
        (repository.parent / "user" / "config" / "git").mkdir(parents=True)
        (repository.parent / "user" / "my-excludes").rename(repository.parent / "user" / "config" / "git" / "ignore")
    rules = Rules()
    found = {path for path in paths if rules.denied(str(repository / path), [str(repository)], ())}
    assert found == expected
    assert 50 < len(expected) < len(paths)


def test_a_tracked_file_is_completed_as_git_has_it_and_a_changed_index_is_seen(repository: Path) -> None:
    rules, file = Rules(), repository / "t.log"
    file.write_text("")
    assert rules.denied(str(file), [], ()) == ".gitignore names it"
    subprocess.run(["git", "-C", str(repository), "add", "-f", "t.log"], check=True)
    assert rules.denied(str(file), [], ()) is None


def test_nothing_that_a_repositorys_configuration_names_is_executed(repository: Path, tmp_path: Path) -> None:
    trap, sprung = tmp_path / "trap.sh", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\n")
    trap.chmod(0o755)
    keys = ("core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "diff.external", "core.askPass")
    with (repository / ".git" / "config").open("a") as file:
        file.writelines(f"[{key.partition('.')[0]}]\n\t{key.partition('.')[2]} = {trap}\n" for key in keys)
    for hook in ("post-index-change", "fsmonitor-watchman", "pre-auto-gc"):
        (repository / ".git" / "hooks").mkdir(exist_ok=True)
        shutil.copy(trap, repository / ".git" / "hooks" / hook)
    assert Rules().denied(str(repository / "t.log"), [str(repository)], ()) == ".gitignore names it"
    assert not sprung.exists()


def test_git_inside_the_workspace_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "bin" / "git"
    planted.parent.mkdir()
    planted.write_text("#!/bin/sh\n")
    planted.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(planted.parent), "."]))
    assert git.find([str(tmp_path)]) is None


@pytest.mark.parametrize("with_git", [True, False], ids=["asking git", "without git"])
def test_a_bomb_of_a_pattern_is_decided_and_ordinary_files_are_completed(
    repository: Path, monkeypatch: pytest.MonkeyPatch, with_git: bool
) -> None:
    (repository / ".gitignore").write_text("*a*a*a*a*a*a*a*a*a*a*a*a*b\n" + "**/a/" * 40 + "b\n")
    if not with_git:
        monkeypatch.setattr(git, "find", lambda roots: None)
    begun_s = time.monotonic()
    for name in ("a" * 200, "a/" * 100 + "c", "app.py"):
        assert Rules().denied(str(repository / name), [str(repository)], ()) is None
    assert time.monotonic() - begun_s < 60 * GIT_S  # it would be for ever


def test_more_lines_than_are_read_are_a_reason_and_not_a_wait(
    tmp_path: Path,
) -> None:
    (tmp_path / ".gitignore").write_text("".join(f"line{i}\n" for i in range(IGNORE_LINES + 1)))
    assert "too long" in (Rules().denied(str(tmp_path / "a.py"), [str(tmp_path)], ()) or "")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*a*b*c", "xaybzc", True),
        ("*a*b*c", "xaybz", None),
        ("**/a/**/b/**/c*d", "q/a/b/b/cxd", True),
        ("**/a/**/b/**/c*d", "q/a/c/d/cxd", None),
        ("a*a*a/b", "aaa/b", True),
        ("!*x*y", "xxyy", False),
    ],
)
def test_a_pattern_that_does_not_backtrack_names_the_same_paths(pattern: str, path: str, expected: bool | None) -> None:
    assert Globs([pattern]).decide(path) is expected


def test_a_folder_name_too_long_and_a_parent_that_may_not_be_searched_give_an_answer(tmp_path: Path) -> None:
    assert Rules().denied(str(tmp_path / ("d" * 300) / "a.py"), [str(tmp_path)], ()) is None
    assert Rules().denied("/a\0b.py", [], ()) is None


def test_a_links_target_is_asked_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("")
    (tmp_path / "soft.py").symlink_to(tmp_path / ".env")
    (tmp_path / "hard.py").hardlink_to(tmp_path / ".env")
    (tmp_path / ".gitignore").write_text("private/\n")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.py").write_text("")
    (tmp_path / "link.py").symlink_to(tmp_path / "private" / "a.py")
    for name in ("soft.py", "hard.py"):
        assert "secrets" in (Rules().denied(str(tmp_path / name), [str(tmp_path)], ()) or "")
    assert Rules().denied(str(tmp_path / "link.py"), [str(tmp_path)], ()) == ".gitignore names it"

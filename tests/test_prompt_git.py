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


def trap_in(folder: Path) -> tuple[Path, Path]:
    """Return a program, and the file that is there once it has run."""
    trap, sprung = folder / "trap.sh", folder / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\n")
    trap.chmod(0o755)
    return trap, sprung


def run_git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_an_ignore_file_missing_from_a_partial_clone_is_not_fetched_by_the_repositorys_program(
    repository: Path, tmp_path: Path
) -> None:
    trap, sprung = trap_in(tmp_path)
    run_git(repository, "add", "-f", "src/.gitignore")
    run_git(repository, "update-index", "--skip-worktree", "src/.gitignore")
    blob = run_git(repository, "rev-parse", ":src/.gitignore")
    (repository / "src" / ".gitignore").unlink()
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with (repository / ".git" / "config").open("a") as file:
        file.write(
            f"[core]\n\trepositoryformatversion = 1\n\tsshCommand = {trap}\n[extensions]\n\tpartialClone = origin\n"
            f'[remote "origin"]\n\turl = ssh://x/y\n\tpromisor = true\n\tuploadpack = {trap}\n'
        )
    Rules().denied(str(repository / "src" / "main.py"), [str(repository)], ())
    assert not sprung.exists()


def test_a_git_file_that_leads_to_another_configuration_executes_nothing_of_it(
    repository: Path, tmp_path: Path
) -> None:
    trap, sprung = trap_in(tmp_path)
    elsewhere = tmp_path / "elsewhere.git"
    (repository / ".git").rename(elsewhere)
    (repository / ".git").write_text(f"gitdir: {elsewhere}\n")
    (elsewhere / "more").write_text(f"[core]\n\tfsmonitor = {trap}\n\thooksPath = {tmp_path}\n")
    with (elsewhere / "config").open("a") as file:
        file.write(f"[include]\n\tpath = more\n[core]\n\tworktree = {repository}\n")
    assert Rules().denied(str(repository / "t.log"), [str(repository)], ()) == ".gitignore names it"
    assert not sprung.exists()


@pytest.mark.parametrize("said", ["gitdir: \0", "gitdir: /no/such", "gitdir: ../../..", "nonsense", "", "x" * 5000])
def test_a_git_file_that_leads_nowhere_leaves_the_rules_to_be_read_here(
    repository: Path, tmp_path: Path, said: str
) -> None:
    shutil.rmtree(repository / ".git")
    (repository / ".git").write_text(said)
    rules = Rules()
    assert rules.denied(str(repository / "t.log"), [str(repository)], ()) == ".gitignore names it"
    assert rules.denied(str(repository / "ordinary.py"), [str(repository)], ()) is None


def test_rules_of_a_work_tree_elsewhere_do_not_lift_those_that_are_here(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with (repository / ".git" / "config").open("a") as file:
        file.write(f"[core]\n\tworktree = {tmp_path / 'empty'}\n")
    assert Rules().denied(str(repository / "t.log"), [str(repository)], ()) == ".gitignore names it"


@pytest.mark.parametrize("line", ["[core]\n\texcludesFile = {pipe}\n", "[include]\n\tpath = {pipe}\n"])
def test_a_git_that_hangs_is_given_up_and_the_rules_are_read_here(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(git, "GIT_S", 0.5)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (repository / ".git" / "config").open("a") as file:
        file.write(line.format(pipe=pipe))
    assert Rules().denied(str(repository / "t.log"), [str(repository)], ()) == ".gitignore names it"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give a file away")
def test_a_repository_of_another_user_that_git_refuses_is_ruled_by_its_files(repository: Path) -> None:
    for path in (repository, repository / ".git"):
        os.chown(path, 12345, 12345)
    assert Rules().denied(str(repository / "t.log"), [str(repository)], ()) == ".gitignore names it"
    assert Rules().denied(str(repository / "ordinary.py"), [str(repository)], ()) is None


def test_a_linked_worktree_shares_the_excludes_of_its_repository(repository: Path, tmp_path: Path) -> None:
    run_git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "first")
    linked = tmp_path / "linked"
    run_git(repository, "worktree", "add", "-q", str(linked))
    for find_git in (git.find, lambda roots: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(git, "find", find_git)
            assert Rules().denied(str(linked / "excluded.py"), [str(linked)], ()) == "exclude names it"
            assert Rules().denied(str(linked / "ordinary.py"), [str(linked)], ()) is None


def test_a_submodule_is_ruled_by_its_own_files(repository: Path) -> None:
    inner = repository / "vendored"
    (repository / ".git" / "modules").mkdir()
    subprocess.run(["git", "init", "-q", f"--separate-git-dir={repository}/.git/modules/vendored", inner], check=True)
    (inner / ".gitignore").write_text("made.py\n")
    rules = Rules()
    assert rules.denied(str(inner / "made.py"), [str(repository)], ()) == ".gitignore names it"
    assert rules.denied(str(inner / "t.log"), [str(repository)], ()) is None


def test_case_is_ignored_where_the_repository_says_so(repository: Path) -> None:
    with (repository / ".git" / "config").open("a") as file:
        file.write("[core]\n\tignorecase = true\n")
    assert Rules().denied(str(repository / "T.LOG"), [str(repository)], ()) == ".gitignore names it"


def test_a_loop_of_links_gives_an_answer(repository: Path) -> None:
    (repository / "loop").symlink_to("loop")
    (repository / "round").symlink_to(".")
    rules = Rules()
    rules.denied(str(repository / "loop" / "a.py"), [str(repository)], ())
    assert rules.denied(str(repository / "round" / "round" / "t.log"), [str(repository)], ()) == ".gitignore names it"


def test_git_inside_the_workspace_is_not_run_by_the_name_of_a_link_either(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap, _ = trap_in(tmp_path)
    (repository / "git").symlink_to(trap)
    (tmp_path / "link").symlink_to(repository)
    monkeypatch.setenv("PATH", str(tmp_path / "link"))
    assert git.find([str(repository)]) is None
    monkeypatch.setenv("PATH", str(repository))
    assert git.find([str(tmp_path / "link")]) is None

"""Real Emacs in batch with the real server: the laws are the `ert-deftest`s of `emacs_*.el`, one process per suite."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from greencode_lsp.settings import Settings, parse
from tests.editors import emacs, hostile
from tests.editors.cache import ROOT, Missing, Ready, folder
from tests.editors.together import Place

HERE = Path(__file__).parent
LIMIT_S = 600
ENDS_S = 15.0
SUITES = {
    "own": ("emacs_own", "emacs_ghost"),
    "hostile": ("emacs_hostile",),
    "eglot": ("emacs_eglot", "emacs_ghost"),
    "popup": ("emacs_popup",),
    "lsp-mode": ("emacs_lsp_mode",),
}
"""Who keeps the connection -> the files of laws that hold then."""
FOUND = emacs.find(folder())
pytestmark = pytest.mark.skipif(isinstance(FOUND, Missing), reason=getattr(FOUND, "reason", ""))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one law ended."""

    word: str
    """`passed`, `FAILED` or `skipped`, as ERT says it."""
    output: str
    """What ERT printed about it."""


def laws() -> list[tuple[str, str]]:
    """Return each suite's laws by their names."""
    texts = {suite: "".join((HERE / f"{name}.el").read_text() for name in names) for suite, names in SUITES.items()}
    return [(suite, law) for suite, text in texts.items() for law in re.findall(r"^\(ert-deftest (\S+)", text, re.M)]


def run_emacs(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Emacs in batch, our package and the fetched ones on its path."""
    assert not isinstance(FOUND, Missing)
    command = [str(FOUND.tools["emacs"]), "-Q", "--batch", *emacs.load_path(FOUND), *arguments]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GREENCODE_HOME": str(home),
        "GREENCODE_TEST_PYTHON": sys.executable,
        "GREENCODE_TEST_REPOSITORY": str(home / "repository"),
        "HOME": str(home),
        "TMPDIR": str(home),  # of the files the laws open, too
    }
    return subprocess.run(
        command,
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@cache
def outcomes(suite: str) -> dict[str, Outcome]:
    """Run a suite once and return what became of each law."""
    home = Path(tempfile.mkdtemp(prefix="greencode-emacs-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    if suite == "hostile":
        hostile.prepare(home / "repository")
    loads = [f"--load={name}" for name in SUITES[suite]]
    printed = run_emacs(home, *loads, "--funcall=ert-run-tests-batch-and-exit").stdout
    parts = re.split(r"^ +(passed|FAILED|skipped) +\d+/\d+ +(\S+).*$", printed, flags=re.M)
    known = {
        law: Outcome(word, output) for output, word, law in zip(parts[0:-1:3], parts[1::3], parts[2::3], strict=True)
    }
    return {**known, "": Outcome("never ran", printed)}


def needs(name: str) -> None:
    """Skip where a package is not there."""
    if isinstance(FOUND, Missing) or name not in FOUND.tools:
        pytest.skip(emacs.why_missing(folder(), name))


@pytest.mark.parametrize(("suite", "law"), laws())
def test_in_emacs(suite: str, law: str) -> None:
    if suite not in ("own", "hostile"):
        needs("eglot" if suite == "popup" else suite)
    known = outcomes(suite)
    outcome = known.get(law, known[""])
    if outcome.word == "skipped":
        pytest.skip(f"Emacs skipped it: {skip_reason(outcome.output)}")
    assert outcome.word == "passed", outcome.output


def skip_reason(output: str) -> str:
    """Return what `test-skip` was given."""
    found = re.search(r"^skipped because (.*)", output, re.M)
    return found[1] if found else "it says no reason"


NEEDS = {"greencode-eglot.el": "eglot", "greencode-lsp.el": "lsp-mode"}
"""A file of the package -> the package it is about."""
COMPILE = """(setq byte-compile-error-on-warn t
                   byte-compile-dest-file-function (lambda (_file) (make-temp-file "greencode-" nil ".elc")))"""
CHECK = "(progn (require 'checkdoc) (setq checkdoc-spellcheck-documentation-flag nil) (checkdoc-file (pop argv)))"


@pytest.mark.parametrize("source", sorted(path.name for path in emacs.PACKAGE.glob("*.el")))
def test_a_file_compiles_without_a_warning_and_its_documentation_is_complete(source: str, tmp_path: Path) -> None:
    if source in NEEDS:
        needs(NEEDS[source])
    path = str(emacs.PACKAGE / source)
    compiled = run_emacs(tmp_path, f"--eval={COMPILE}", "--funcall=batch-byte-compile", path)
    assert compiled.returncode == 0, compiled.stdout
    checked = run_emacs(tmp_path, f"--eval=(setq argv '({json.dumps(path)}))", f"--eval={CHECK}")
    assert (checked.returncode, checked.stdout) == (0, "")


def test_emacs_knows_the_server_s_settings_with_its_defaults(tmp_path: Path) -> None:
    show = """(progn (require 'greencode)
                     (setq greencode--changed (mapcar #'car greencode--settings))
                     (princ (json-serialize (greencode-section) :null-object nil :false-object :json-false)))"""
    section = json.loads(run_emacs(tmp_path, f"--eval={show}").stdout)
    assert parse({"greencode": section}, Settings()) == (Settings(), [])


def test_a_signal_ends_emacs_which_waits_for_no_server(tmp_path: Path) -> None:
    with Place(tmp_path, Ready({})).emacs() as editor:
        editor.suggest()
        editor.evaluate("(setq greencode-patience 600)")
        running = editor.server.parent()
        running.terminate()
        running.wait(ENDS_S)
        editor.server.wait(ENDS_S)

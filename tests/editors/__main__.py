"""Fetch editors and run their tests: `python -m tests.editors [vscode|neovim|emacs|together|all]`.

An editor is a module of this package with two functions: `find(cache)` says whether the editor is in the cache and
touches no network, which is all that plain `pytest` calls; `prepare(cache)` fetches what is missing first. Both return
Ready or Missing. Its tests are ordinary ones, `test_<editor>.py` or `<editor>/test_*.py`, skipped with the reason of
`find` where the editor is Missing. `together` is such a module too: of all of them at once, at one engine.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.editors.cache import PROCESS, ROOT, FetchError, Missing, Ready, folder

EDITORS = ("vscode", "neovim", "emacs", "together")


def prepare(editor: str, cache: Path, *, fetch: bool) -> Ready | Missing:
    """Find one editor, fetching what is missing if wished; whatever cannot be had becomes the reason."""
    try:
        module = importlib.import_module(f"tests.editors.{editor}")
        found: Ready | Missing = module.prepare(cache) if fetch else module.find(cache)
    except FetchError as error:
        return Missing(str(error))
    return found


def run_tests(editor: str, options: Sequence[str]) -> int:
    """Run one editor's tests in a process of their own; return pytest's exit code."""
    here = Path(__file__).parent
    files = [str(file) for glob in (f"test_{editor}*.py", f"{editor}/test_*.py") for file in sorted(here.glob(glob))]
    command = [sys.executable, "-m", "pytest", *files, "-rs", "--durations=5", *options]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {PROCESS: editor}, check=False).returncode


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare and test the editors named; return 0 unless a test failed; what is missing here is reported."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.editors", description="Test in real editors, headless; other options go to pytest."
    )
    parser.add_argument("editor", nargs="?", default="all", choices=(*EDITORS, "all"))
    parser.add_argument("--cached", action="store_true", help="fetch nothing: test what is in the cache")
    parser.add_argument("--fetch-only", action="store_true", help="fill the cache and run no test")
    arguments, pytest_options = parser.parse_known_args(argv)
    cache = folder()
    failed = False
    for editor in EDITORS if arguments.editor == "all" else (arguments.editor,):
        begin = time.perf_counter()
        found = prepare(editor, cache, fetch=not arguments.cached)
        _notify(f"{editor}: {'ready' if isinstance(found, Ready) else found.reason} ({_seconds(begin)}, {cache})")
        if arguments.fetch_only or isinstance(found, Missing):
            continue
        begin = time.perf_counter()
        failed |= run_tests(editor, pytest_options) != 0
        _notify(f"{editor}: tests took {_seconds(begin)}")
    return int(failed)


def _seconds(begin: float) -> str:
    return f"{time.perf_counter() - begin:.1f} s"


def _notify(sentence: str) -> None:
    print(sentence, flush=True)  # noqa: T201 - a command line prints


if __name__ == "__main__":
    sys.exit(main())

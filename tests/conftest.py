"""What every test shares: a home of its own, one thread, no network."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Read when threads are first made, by this process or by a server started from it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = os.devnull  # no model of the user's own is chosen


# What is done while tests are collected has a home too; the graphs of models are built once for all tests.
HOME = Path(tempfile.mkdtemp(prefix="greencode-tests-"))
os.environ["GREENCODE_HOME"] = str(HOME)
os.environ["GREENCODE_CACHE"] = str(HOME / "cache")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a home folder of its own, so that none reads or writes the user's."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("GREENCODE_HOME", str(folder))
    return folder

"""What every test shares: a home of its own, one thread, no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read when torch is first imported, by this process or by a server started from it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the native kernels are compiled into, once for all tests and their servers."""
    return tmp_path_factory.mktemp("native")


@pytest.fixture(autouse=True)
def home(kernels: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a home folder of its own, so that none reads or writes the user's."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "native").symlink_to(kernels, target_is_directory=True)
    monkeypatch.setenv("GREENCODE_HOME", str(folder))
    return folder

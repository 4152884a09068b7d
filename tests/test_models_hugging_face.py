"""The real client of the hub against a server on the loopback, in a process of its own as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from greencode_lsp.completion.backend import load_backend
from greencode_lsp.models.store import bundled_folder, pulled_folder
from greencode_lsp.settings import Settings
from tests.fake_hub import HttpHub, plain

NAME = "someone/small"
SHARD = "model-00001-of-00006.safetensors"
WEIGHTS = f"/resolve/0123456789abcdef0123456789abcdef01234567/{SHARD}"
CHUNK = 10 << 20
"""The client writes to the disk in chunks of this size: a resumed download begins at a multiple of it."""


def run(endpoint: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `greencode-lsp models`, online, against the endpoint."""
    variables = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", **environment}
    command = [sys.executable, "-m", "greencode_lsp", "models", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=120)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Expect exit code 1 and one sentence on stderr alone; return it."""
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_an_interrupted_download_resumes_in_the_next_process_and_the_model_serves() -> None:
    files = {path.name: path.read_bytes() for path in bundled_folder().iterdir()}
    hub = HttpHub(files, cut_at={SHARD: CHUNK + 1000})
    with hub.serve() as endpoint:
        first = run(endpoint, "pull", NAME)
        assert first.returncode == 1
        assert "resumes where it ended" in first.stderr.splitlines()[-1]
        assert not pulled_folder(NAME).exists()
        hub.is_down = False
        hub.asked.clear()
        second = run(endpoint, "pull", NAME, TQDM_POSITION="-1")
    assert second.returncode == 0, second.stderr
    ranges = {path.removeprefix(f"/{NAME}"): span for path, span in hub.asked}
    assert ranges[WEIGHTS] == f"bytes={CHUNK}-"
    assert f"{SHARD}: " in second.stderr  # the bar that a terminal shows
    assert NAME in second.stdout
    backend = load_backend(Settings(model=NAME))
    assert backend.manifest.name == "small-1"


def test_only_what_a_pull_needs_is_asked_of_the_hub() -> None:
    hub = HttpHub(plain())
    with hub.serve() as endpoint:
        assert run(endpoint, "pull", NAME).returncode == 0
    names = [path.rpartition("/")[2] for path, _ in hub.asked]
    assert names == ["small", "config.json", "tokenizer.json", "model.safetensors"]


def test_a_model_that_the_hub_does_not_know_is_one_sentence() -> None:
    with HttpHub(plain()).serve() as endpoint:
        assert "The hub has no model other/model" in refused(run(endpoint, "pull", "other/model"))


def test_a_gated_model_names_how_to_get_access() -> None:
    with HttpHub(plain(), gated=True).serve() as endpoint:
        assert f"{NAME} is gated: ask for access" in refused(run(endpoint, "pull", NAME))


def test_a_hub_that_is_down_is_one_sentence() -> None:
    with HttpHub(plain(), is_down=True).serve() as endpoint:
        assert "The hub answered 503" in refused(run(endpoint, "pull", NAME))


def test_no_network_is_one_sentence() -> None:
    with HttpHub(plain()).serve() as endpoint:
        pass  # the port is free again: nobody answers
    assert "The hub cannot be reached" in refused(run(endpoint, "pull", NAME))


def test_offline_by_wish_is_one_sentence() -> None:
    assert "HF_HUB_OFFLINE" in refused(run("http://127.0.0.1:9", "pull", NAME, HF_HUB_OFFLINE="1"))


@pytest.mark.parametrize("command", [["demo", "--json"], ["models", "list"]])
def test_the_hubs_client_is_imported_by_a_pull_alone(command: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom greencode_lsp.cli import main\n"
        f"assert main({command!r}) == 0\nprint('huggingface_hub' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"

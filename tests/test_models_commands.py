"""`greencode-lsp models`: what is shown of the bundled, the pulled and the half pulled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from greencode_lsp import cli
from greencode_lsp.errors import HubError
from greencode_lsp.models import hugging_face
from greencode_lsp.models.hub import pull
from greencode_lsp.models.manifest import CalibrationRow, Manifest, read_manifest, write_manifest
from greencode_lsp.models.store import bundled_folder, pulled_folder
from tests.fake_hub import COMMIT, MemoryHub, plain
from tests.fakes import ROWS

NAME = "someone/small"
PLAIN = ("config.json", "tokenizer.json")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> MemoryHub:
    """Return the hub that the command line asks."""
    hub = MemoryHub(plain())
    monkeypatch.setattr(hugging_face, "HuggingFaceHub", lambda: hub)
    return hub


def with_exits(folder: Path) -> dict[str, bytes]:
    """Return the files of a model with exits, calibrated for Python, without an agent."""
    folder.mkdir()
    files = plain(README__md=None, modeling__py=None)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    calibration: dict[str, dict[str, tuple[CalibrationRow, ...]]] = {"python": {"confidence": ROWS}}
    write_manifest(folder, Manifest("small", "llama", (1, 2), languages=("python", "java"), calibration=calibration))
    return files | {"greencode.json": (folder / "greencode.json").read_bytes()}


def test_the_list_shows_size_family_exits_and_calibrated_languages(
    hub: MemoryHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pull(NAME, None, hub)
    pull("someone/early", None, MemoryHub(with_exits(tmp_path / "early")))
    with pytest.raises(HubError):
        pull("someone/half", None, MemoryHub(plain(), cut_at={"model.safetensors": 100}))
    assert cli.main(["models", "list"]) == 0
    head, bundled, early, small, half = capsys.readouterr().out.splitlines()[:5]
    assert head.split() == ["model", "size", "family", "exits", "after", "calibrated", "for"]
    assert bundled.split()[0] == "bundled"
    manifest = read_manifest(bundled_folder(), verify=False)
    assert manifest is not None
    assert bundled.split()[3:] == ["llama", *map(str, manifest.exits), *manifest.calibration]
    assert early.split()[0] == "someone/early"
    assert early.split()[3:] == ["llama", "1", "2", "python"]
    assert small.split() == [NAME, "0.0", "MB", "llama", "none:", "full", "depth", "none"]
    assert half.startswith("someone/half is not whole yet; `greencode-lsp models pull someone/half` resumes")


def test_a_damaged_model_is_listed_as_such(hub: MemoryHub, capsys: pytest.CaptureFixture[str]) -> None:
    (pull(NAME, None, hub) / "config.json").write_text("{")
    assert cli.main(["models", "list"]) == 0
    assert "damaged" in capsys.readouterr().out


def test_a_pull_says_how_to_use_the_model_and_that_it_runs_at_full_depth(
    hub: MemoryHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["models", "pull", NAME]) == 0
    out = capsys.readouterr().out
    assert str(pulled_folder(NAME)) in out
    assert "It has no exits: every token runs at full depth" in out
    assert f'"greencode.model": "{NAME}"' in out


def test_a_pulled_model_without_exits_completes_at_full_depth(
    hub: MemoryHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = [path for path in bundled_folder().iterdir() if path.name in PLAIN or path.name.startswith("model")]
    hub.files = {path.name: path.read_bytes() for path in loaded}
    assert cli.main(["models", "pull", NAME]) == 0
    (tmp_path / "app.py").write_text("import os\n\n\ndef names(folder):\n    return os.\n")
    capsys.readouterr()
    assert cli.main(["complete", f"{tmp_path / 'app.py'}:5:15", "--json", "--model", NAME]) == 0
    [completion] = json.loads(capsys.readouterr().out)["completions"]
    assert completion["exit_layers"]
    assert set(completion["exit_layers"]) == {completion["layers"]}


def test_a_pull_of_a_model_without_an_agent_names_the_policies_left(
    hub: MemoryHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files = with_exits(tmp_path / "early")
    assert cli.main(["models", "pull", NAME]) == 0
    assert "no agent: greencode.exitPolicy can be confidence, fixed or never" in capsys.readouterr().out


def test_a_stopped_pull_says_how_to_go_on(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "fetch", stop)
    assert cli.main(["models", "pull", NAME]) == 130
    assert f"`greencode-lsp models pull {NAME}` resumes where it ended" in capsys.readouterr().err


def test_a_refusal_is_one_sentence(hub: MemoryHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.files = plain(config__json=b'{"model_type": "mamba"}')
    assert cli.main(["models", "pull", NAME]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_info_of_a_plain_model_says_that_it_runs_at_full_depth(
    hub: MemoryHub, capsys: pytest.CaptureFixture[str]
) -> None:
    pull(NAME, None, hub)
    assert cli.main(["models", "info", NAME]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert (rows["name"], rows["family"], rows["layers"], rows["commit"]) == (NAME, "llama", "2", COMMIT)
    assert rows["exits"] == "after  none: full depth"


def test_verify_compares_with_what_was_recorded_where_there_is_no_manifest(
    hub: MemoryHub, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pull(NAME, None, hub)
    assert cli.main(["models", "verify", NAME]) == 0
    assert capsys.readouterr().out == f"{NAME}: 3 files are as they were pulled.\n"
    (folder / "model.safetensors").write_bytes(b"other")
    assert cli.main(["models", "verify", NAME]) == 1
    assert "model.safetensors is damaged" in capsys.readouterr().err


def test_remove_deletes_a_pulled_model_and_refuses_the_bundled_one(
    hub: MemoryHub, capsys: pytest.CaptureFixture[str]
) -> None:
    pull(NAME, None, hub)
    assert cli.main(["models", "remove", NAME]) == 0
    assert not pulled_folder(NAME).exists()
    assert cli.main(["models", "remove", "bundled"]) == 1
    assert "cannot be removed" in capsys.readouterr().err

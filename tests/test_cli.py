"""The command line: one sentence for what a user can fix, never a traceback, nothing but JSON where JSON is asked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import greencode_lsp
from greencode_lsp import cli
from greencode_lsp.completion import pipeline
from greencode_lsp.completion.request import Request
from greencode_lsp.demo.demo import Completer
from greencode_lsp.demo.positions import CursorPosition
from greencode_lsp.energy.meter import Meter
from greencode_lsp.models.manifest import Manifest, write_manifest
from greencode_lsp.records import Completion, EnergyReading, Step, Work
from greencode_lsp.settings import Settings

ENERGY = EnergyReading(1.25, "modelled", ("cpu",), saved_j=0.5)
DONE = Completion("né🌱\n    x", (Step(5, 4), Step(6, 20)), Work(), 20, ENERGY, 81.5, "mini-1", "cpu")


class FakeModel:
    """Answers every position alike and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[CursorPosition] = []
        self.settings: list[Settings] = []

    def load(self, settings: Settings) -> Completer:
        self.settings.append(settings)
        return Completer(self.complete, "mini-1", "cpu")

    def complete(self, position: CursorPosition) -> Completion:
        self.asked.append(position)
        return DONE


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModel]:
    fake = FakeModel()
    monkeypatch.setattr(cli, "load_completer", fake.load)
    yield fake


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_bytes("# 🌱 grün\r\ndef f():\n    return \n".encode())
    return path


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run, expect exit code 1 and one sentence on stderr alone, and return it."""
    assert cli.main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
    return captured.err


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"greencode-lsp {greencode_lsp.__version__}\n"


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "demo" in capsys.readouterr().err


def test_stdio_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "serve", lambda: 0)
    assert cli.main(["--stdio"]) == 0


def test_complete_asks_at_the_offset_in_code_points(model: FakeModel, file: Path) -> None:
    assert cli.main(["complete", f"{file}:3:12"]) == 0
    (position,) = model.asked
    assert position.text[: position.offset].endswith("\n    return ")
    assert position.language == "python"


def test_an_emoji_is_one_column(model: FakeModel, file: Path) -> None:
    cli.main(["complete", f"{file}:1:4"])
    assert model.asked[0].text[: model.asked[0].offset] == "# 🌱"


def test_complete_shows_suggestion_depths_time_and_energy(
    model: FakeModel, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["complete", f"{file}:3:12"])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  |     return ",
        "  > né🌱",
        "  >     x",
        "  exit layers 4 20 of 20",
        "  82 ms, 1.25 J, energy_tier: modelled",
    ]


def test_complete_as_json_is_one_object_alone(model: FakeModel, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["complete", f"{file}:3:12", "--json"])
    completion = {
        "text": "né🌱\n    x",
        "exit_layers": [4, 20],
        "layers": 20,
        "elapsed_ms": 81.5,
        "energy_j": 1.25,
        "energy_tier": "modelled",
    }
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"completions": [completion], "model": "mini-1", "device": "cpu"}
    assert captured.err == ""


def test_the_end_of_a_line_and_of_the_file_are_positions(model: FakeModel, file: Path) -> None:
    assert cli.main(["complete", f"{file}:1:9"]) == 0
    assert cli.main(["complete", f"{file}:4:1"]) == 0
    first, last = model.asked
    assert first.text[first.offset :].startswith("\r\n")
    assert last.offset == len(last.text)


def test_an_empty_file_has_one_position(model: FakeModel, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    assert cli.main(["complete", f"{tmp_path / 'empty.py'}:1:1"]) == 0


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("9:1", "has no line 9; it has lines 1 to 4"),
        ("0:1", "has no line 0"),
        ("-1:1", "has no line -1"),
        ("3:13", "Line 3 of .* has no column 13; it has 1 to 12"),
        ("3:0", "has no column 0"),
        ("x:1", "write FILE:LINE:COLUMN"),
    ],
)
def test_a_position_outside_the_file_is_one_sentence(
    place: str, sentence: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(sentence, refused(capsys, "complete", f"{file}:{place}"))


def test_a_file_without_a_place_is_one_sentence(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "write FILE:LINE:COLUMN" in refused(capsys, "complete", "app.py")


def test_a_file_that_is_not_utf8_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.py").write_bytes("x = 'grün'".encode("latin-1"))
    assert "is not UTF-8 (byte 8)" in refused(capsys, "complete", f"{tmp_path / 'old.py'}:1:1")


@pytest.mark.parametrize("name", ["missing.py", ".", "a\0b.py"])
def test_a_file_that_cannot_be_read_is_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot be read" in refused(capsys, "complete", f"{tmp_path / name}:1:1")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (".env", "its name says that it holds secrets"),
        ("link.py", "it is another name of a file that holds secrets"),
        ("private/x.py", ".greencodeignore names it"),
    ],
)
def test_a_file_that_an_editor_would_not_complete_is_one_sentence_and_not_read(
    name: str,
    sentence: str,
    model: FakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "private").mkdir()
    for file in (".env", "private/x.py"):
        (tmp_path / file).write_text("TOKEN=")
    (tmp_path / "link.py").symlink_to(".env")
    (tmp_path / ".greencodeignore").write_text("private/\n")
    monkeypatch.chdir(tmp_path)
    assert f"{name} is not completed: {sentence}." in refused(capsys, "complete", f"{name}:1:1")
    assert model.asked == []


def test_a_wrong_model_folder_names_the_setting(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "greencode.model" in refused(capsys, "complete", f"{file}:1:1", "--model", str(tmp_path / "none"))
    assert "greencode.model" in refused(capsys, "demo", "--model", str(tmp_path / "none"))
    assert "greencode.model" in refused(capsys, "models", "info", "--model", str(tmp_path / "none"))


@pytest.mark.parametrize(("given", "preference"), [("energy", 0.0), ("accuracy", 1.0), ("0.25", 0.25)])
def test_a_preference_is_a_name_or_a_number(given: str, preference: float, model: FakeModel, file: Path) -> None:
    cli.main(["complete", f"{file}:1:1", "--preference", given])
    assert model.settings[0].preference == preference


@pytest.mark.parametrize("given", ["green", "1.5", "nan"])
def test_a_preference_that_is_none_is_reported_and_the_default_used(
    given: str, model: FakeModel, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["complete", f"{file}:1:1", "--json", "--preference", given]) == 0
    captured = capsys.readouterr()
    assert "greencode.preference" in captured.err
    assert model.settings[0].preference == 0.5
    json.loads(captured.out)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    write_manifest(tmp_path, Manifest(name="mini-1", family="llama", exits=(4, 20), languages=("python",)))
    return tmp_path


def test_models_info_shows_name_family_and_exits(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "info", "--model", str(checkpoint)]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("mini-1", "llama", "4 20", str(checkpoint)))


def test_models_verify_says_that_all_is_well(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "verify", "--model", str(checkpoint)]) == 0
    assert capsys.readouterr().out == "mini-1: 1 files are as greencode.json states.\n"


def test_models_verify_names_a_damaged_file(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "config.json").write_text("{ }")
    assert "config.json is damaged" in refused(capsys, "models", "verify", "--model", str(checkpoint))


def test_models_of_a_plain_folder_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "has no greencode.json" in refused(capsys, "models", "verify", "--model", str(tmp_path))


def test_the_completer_asks_the_pipeline_with_the_settings_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Request, Settings, bool]] = []
    backend = SimpleNamespace(
        engine=SimpleNamespace(device="cpu"), manifest=SimpleNamespace(name="mini-1"), checkpoint=None, note=""
    )

    def complete(given: object, request: Request, control: pipeline.LiveControl, meter: Meter) -> Completion:
        asked.append((request, control.settings(), given is backend))
        return replace(DONE, energy=meter.open().close(DONE.work))

    monkeypatch.setattr("greencode_lsp.completion.backend.load_backend", lambda settings: backend)
    monkeypatch.setattr(pipeline, "complete", complete)
    completer = cli.load_completer(Settings(preference=0.25))
    completion = completer.complete(CursorPosition("app.py", "x = ", 4))
    assert asked == [(Request("x = ", 4, "python", invoked=True), Settings(preference=0.25), True)]
    assert (completer.model, completer.device, completion.energy.energy_tier) == ("mini-1", "cpu", "modelled")


def test_the_command_line_starts_without_torch_and_without_the_server() -> None:
    check = "import sys, greencode_lsp.cli; print({'torch', 'pygls', 'transformers'} & set(sys.modules) or 'none')"
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "none"

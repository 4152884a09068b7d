"""The doctor: each piece has a state and a fix; only a suggestion that cannot come makes it fail."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from greencode_lsp import cli
from greencode_lsp.demo.demo import Completer
from greencode_lsp.doctor import Check, Probes, examine, suggestions_work, table, to_json
from greencode_lsp.energy import rapl
from greencode_lsp.energy.sampler import Usage
from greencode_lsp.engine.diagnose import Hardware
from greencode_lsp.errors import DeviceError
from greencode_lsp.models.manifest import Manifest, write_manifest
from greencode_lsp.models.store import ledger_path
from greencode_lsp.records import Completion, EnergyReading, Step, Work
from greencode_lsp.settings import Settings
from tests import gguf_files
from tests.exit_packs import pack_for

DONE = Completion(
    "x", (Step(5, 4), Step(6, 20)), Work(), 20, EnergyReading(1.0, "modelled", ("cpu",)), 40.0, "mini-1", "cpu"
)
CPU = Hardware(has_gpu=False, gpu=None, cuda_build=None, has_torch=True, runtime="1.30")
H100 = Hardware(has_gpu=True, gpu="H100", cuda_build="12.8", has_torch=True, runtime="1.30")


def load(settings: Settings) -> Completer:
    return Completer(lambda position: DONE, "mini-1", "cpu")


def load_nothing(settings: Settings) -> Completer:
    return Completer(lambda position: replace(DONE, text=""), "mini-1", "cpu")  # it may end with its first token


def fail(settings: Settings) -> Completer:
    raise DeviceError("No CUDA device is usable here; set greencode.device to auto or cpu.")


def burst(settings: Settings) -> Completer:
    raise ZeroDivisionError("by zero")


def missing(name: str) -> str:
    raise PackageNotFoundError(name)


def no_pygls() -> None:
    raise ModuleNotFoundError("No module named 'pygls'")


def not_installed() -> list[str]:
    raise PackageNotFoundError("greencode-lsp")


WELL = Probes(
    load=load,
    requirements=lambda: ["torch>=2.6,<2.14", 'tomli>=2; python_version < "3"', 'ruff; extra == "test"'],
    version=lambda name: "2.13.0+cpu",
    hardware=lambda: CPU,
    driver=lambda: None,
    counter=lambda device: None,
    powercap=Path("/nowhere"),
    advice=lambda settings: "",
)


def checks(probes: Probes = WELL, settings: Settings | None = None) -> dict[str, Check]:
    return {check.piece: check for check in examine(settings or Settings(), probes)}


def test_every_piece_is_named_in_the_order_in_which_they_build_on_each_other() -> None:
    assert list(checks()) == [
        "python",
        "packages",
        "server",
        "data folder",
        "ledger",
        "device",
        "kernels",
        "model",
        "loading",
        "suggestion",
        "energy",
    ]


def test_a_machine_without_gpu_and_counter_has_notes_but_no_problem() -> None:
    found = checks()
    assert {piece for piece, check in found.items() if check.state == "note"} == {"device", "energy"}
    assert not [check for check in found.values() if check.state == "problem"]


@pytest.mark.parametrize(
    ("probes", "piece", "state", "finding", "fix"),
    [
        (replace(WELL, version=missing), "packages", "problem", "torch is missing", "pip install"),
        (replace(WELL, version=lambda name: "2.5"), "packages", "problem", "torch 2.5 is not <2.14,>=2.6", "pip"),
        (replace(WELL, requirements=not_installed), "packages", "note", "was not installed", "pip install ."),
        (
            replace(WELL, hardware=lambda: H100, driver=lambda: "570.1"),
            "device",
            "ok",
            "H100, CUDA 12.8, driver 570.1",
            "",
        ),
        (replace(WELL, driver=lambda: "570.1"), "device", "note", "torch has no CUDA", "torch build"),
        (
            replace(WELL, hardware=lambda: replace(H100, gpu=None), driver=lambda: "450"),
            "device",
            "note",
            "torch is built for CUDA 12.8",
            "torch build",
        ),
        (
            replace(WELL, hardware=lambda: replace(H100, gpu=None, has_torch=False), driver=lambda: "570.1"),
            "device",
            "note",
            "not torch",
            "pip install 'greencode-lsp[gpu]'",
        ),
        (WELL, "kernels", "ok", "ONNX Runtime 1.30", ""),
        (replace(WELL, counter=lambda device: "H100"), "energy", "ok", "of H100", ""),
        (replace(WELL, load=fail), "suggestion", "problem", "No CUDA device", ""),
        (replace(WELL, load=burst), "suggestion", "problem", "ZeroDivisionError: by zero", "report it"),
        (replace(WELL, load=load_nothing), "suggestion", "problem", "no text came", "greencode.model"),
        (replace(WELL, server=no_pygls), "server", "problem", "No module named 'pygls'", "pip install"),
    ],
    ids=[
        "package missing",
        "package too old",
        "not installed",
        "gpu",
        "torch without cuda",
        "driver too old",
        "no compiler",
        "no compiler, gpu",
        "counter",
        "device",
        "bug",
        "no text",
        "no pygls",
    ],
)
def test_each_state_has_its_words_and_its_fix(probes: Probes, piece: str, state: str, finding: str, fix: str) -> None:
    check = checks(probes)[piece]
    assert check.state == state
    assert finding in check.finding
    assert fix in check.fix if fix else check.fix == ""


def test_a_piece_that_cannot_be_looked_at_hides_no_other() -> None:
    def broken() -> Hardware:
        raise ImportError("libtorch.so is missing")

    found = checks(replace(WELL, hardware=broken))
    assert (found["device"].state, found["device"].finding) == ("problem", "ImportError: libtorch.so is missing")
    assert found["suggestion"].state == "ok"


@pytest.mark.parametrize(
    ("probes", "works"),
    [
        (WELL, True),
        (replace(WELL, load=fail), False),
        (replace(WELL, load=load_nothing), False),
        (replace(WELL, server=no_pygls), False),
    ],
)
def test_it_succeeds_where_suggestions_work(probes: Probes, works: bool) -> None:
    assert suggestions_work(examine(Settings(), probes)) is works


def test_a_ledger_that_cannot_be_written_does_not_keep_suggestions_from_working(home: Path) -> None:
    ledger_path().write_bytes(b"no database" * 100)
    found = examine(Settings(), WELL)
    assert {check.piece for check in found if check.state == "problem"} == {"ledger"}
    assert suggestions_work(found)


def test_a_ledger_is_looked_at_without_being_written(home: Path) -> None:
    with sqlite3.connect(ledger_path()) as database:
        database.execute("CREATE TABLE completions (tokens INTEGER)")
    before = ledger_path().read_bytes()
    assert checks()["ledger"].state == "ok"
    assert ledger_path().read_bytes() == before


def test_a_ledger_with_damage_inside_is_a_problem(home: Path) -> None:
    with sqlite3.connect(ledger_path()) as database:
        database.execute("CREATE TABLE completions (tokens INTEGER)")
        database.executemany("INSERT INTO completions VALUES (?)", [(number,) for number in range(5000)])
    database.close()
    whole = ledger_path().read_bytes()
    ledger_path().write_bytes(whole[:4096] + bytes(4096) + whole[8192:])
    check = checks()["ledger"]
    assert check.state == "problem"
    assert "is damaged: " in check.finding and "\n" not in check.finding
    assert "begins a new one" in check.fix


def test_a_ledger_in_use_is_a_note(home: Path) -> None:
    database = sqlite3.connect(ledger_path())
    database.execute("CREATE TABLE completions (tokens INTEGER)")
    database.execute("BEGIN EXCLUSIVE")
    assert checks()["ledger"].state == "note"
    database.close()


def test_a_newer_ledger_names_the_update(home: Path) -> None:
    with sqlite3.connect(ledger_path()) as database:
        database.execute("PRAGMA user_version = 1000")
    assert checks()["ledger"].fix == "pip install --upgrade greencode-lsp"


def test_a_data_folder_that_is_no_folder_is_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("GREENCODE_HOME", str(home / "file" / "data"))
    assert checks()["data folder"].state == "problem"
    assert "GREENCODE_HOME" in checks()["data folder"].fix


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_folder_that_cannot_be_written_is_a_problem(home: Path) -> None:
    home.chmod(0o500)
    assert checks()["data folder"].state == "problem"
    home.chmod(0o700)


def test_a_data_folder_that_is_not_there_yet_is_well(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENCODE_HOME", str(home / "a" / "b"))
    assert checks()["data folder"].state == "ok"
    assert not (home / "a").exists()


def test_a_counter_without_permission_has_the_fix_of_the_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "name").write_text("package-0")
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("1")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    check = checks(replace(WELL, powercap=tmp_path))["energy"]
    assert check.state == "note"
    assert check.fix and check.fix == rapl.how_to_read(tmp_path)


@pytest.mark.parametrize(("usage", "covered"), [(Usage(1.0, 1.0), "H100"), (None, None)], ids=["known", "unknown"])
def test_a_counter_is_named_only_where_it_tells_whose_work_it_counts(
    usage: Usage | None, covered: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = SimpleNamespace(devices=("H100",), usage=lambda: usage)
    monkeypatch.setattr("greencode_lsp.doctor.detect", lambda device: object())
    monkeypatch.setattr("greencode_lsp.doctor.find_counter", lambda device: counter)
    assert Probes(load=load).counter("cuda") == covered


def test_a_better_model_that_this_machine_could_run_is_a_note() -> None:
    better = checks(replace(WELL, advice=lambda settings: "Pull it."))["better model"]
    assert (better.state, better.finding) == ("note", "Pull it.")


def test_a_damaged_model_is_a_problem_and_one_without_exits_a_note(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert checks(settings=Settings(model=str(tmp_path)))["model"].state == "note"
    write_manifest(tmp_path, Manifest("mini-1", "llama", (4, 20)))
    assert "no calibrated threshold" in checks(settings=Settings(model=str(tmp_path)))["model"].finding
    (tmp_path / "config.json").write_text("{ }")
    check = checks(settings=Settings(model=str(tmp_path)))["model"]
    assert (check.state, "is damaged" in check.finding) == ("problem", True)


def test_a_file_says_whether_a_pack_lets_it_exit(tmp_path: Path, home: Path) -> None:
    file = gguf_files.write(tmp_path / "tiny.gguf", gguf_files.model("llama"))
    assert "every token runs at full depth" in checks(settings=Settings(model=str(file)))["model"].finding
    pack, java = home / "packs" / "tiny", {"java": "agent"}
    pack_for(file, pack, exits=(1, 2), kinds=("none",), exit_policy="confidence", exit_policies=java)
    found = checks(settings=Settings(model=str(file)))["model"].finding
    assert found.endswith("exits by confidence, agent in java, calibrated for no language")


def test_the_table_has_a_line_for_each_piece_and_its_fix_below_it() -> None:
    shown = table([Check("python", "ok", "3.12"), Check("suggestion", "problem", "none came", "Fix it.")])
    assert shown.splitlines() == [
        "ok       python      3.12",
        "problem  suggestion  none came",
        "                     -> Fix it.",
        "",
        "Suggestions do not work.",
    ]


def test_json_is_one_object_with_every_check() -> None:
    data = json.loads(to_json([Check("suggestion", "ok", "40 ms")]))
    assert data == {
        "suggestions_work": True,
        "checks": [{"piece": "suggestion", "state": "ok", "finding": "40 ms", "fix": ""}],
    }


def test_the_command_line_fails_where_suggestions_do_not_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json", "--model", "/nowhere"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["suggestions_work"] is False
    assert captured.err == ""


def test_the_bundled_model_passes() -> None:
    command = [sys.executable, "-m", "greencode_lsp", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    data = json.loads(done.stdout)
    assert (done.returncode, data["suggestions_work"]) == (0, True), done.stdout + done.stderr
    assert not [check for check in data["checks"] if check["state"] == "problem"]

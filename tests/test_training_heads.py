"""Heads that a trained checkpoint's own exits are given: fitted on what it learnt from, its last layer left alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.policy import AGENT_FILE
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import Manifest, read_manifest, write_manifest
from greencode_lsp.records import DecodeConfig, FixedControl
from tests import tiny_models
from training.checkpoint.export import dequantise
from training.data.packages import Package
from training.exits import heads, states
from training.preset import HeadOptions, Preset, load_preset

TEXT = "def function(argument):\n    return argument + 1\n\n\n" * 40
MODEL = tiny_models.LLAMA | {"num_hidden_layers": 4, "max_position_embeddings": 512}
NAMES = [f"package{index}" for index in range(6)]


@pytest.fixture
def packages(tmp_path: Path) -> list[Package]:
    made = []
    for index, name in enumerate(NAMES):
        root = tmp_path / name
        root.mkdir()
        (root / "a.py").write_text(f"# {index}\n" + TEXT)
        split = "train" if index == 0 else "validation"
        made.append(Package(name, "1", "MIT", root, ("a.py",), "python", split))  # type: ignore[arg-type]
    return made


@pytest.fixture
def work(tmp_path: Path, packages: list[Package], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(heads, "discover", lambda sources: packages)
    monkeypatch.setattr(states, "PROMPT_TOKENS", 40)
    monkeypatch.setattr(states, "CONTINUED_TOKENS", 16)
    monkeypatch.setattr(states, "SHARD_WINDOWS", 2)
    rows = [{"package": name, "path": "a.py", "text": TEXT} for name in NAMES[1:]]
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tiny_models.write_folder(tmp_path / "out", MODEL)
    write_manifest(out, Manifest("tiny", "llama", (1, 2, 4), exit_policy="agent", training={"agent": {}, "lite": {}}))
    return tmp_path


@pytest.fixture
def preset() -> Preset:
    options = HeadOptions(tokens=900, direction="least squares")
    return dataclasses.replace(load_preset("nano"), heads=options)


def manifest_of(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def test_every_early_exit_gets_a_head_and_its_cost_is_noted(work: Path, preset: Preset) -> None:
    heads.fit(preset, work, work / "out")
    manifest = manifest_of(work / "out")
    assert manifest.exit_heads == ("affine", "affine")
    assert manifest.exit_head_layers > 0


def test_what_was_measured_without_the_heads_goes(work: Path, preset: Preset) -> None:
    heads.fit(preset, work, work / "out")
    manifest = manifest_of(work / "out")
    assert manifest.exit_policy == "never"
    assert sorted(manifest.training) == ["heads", "lite"]


def test_the_last_layer_says_what_it_said(work: Path, preset: Preset) -> None:
    prompt = [65 + index % 50 for index in range(30)]

    def said(config: DecodeConfig) -> list[int]:
        engine = load_engine(work / "out", "cpu")
        return [step.token_id for step in engine.generate(prompt, FixedControl(config), max_new_tokens=12)]

    before = said(DecodeConfig())
    heads.fit(preset, work, work / "out")
    assert said(DecodeConfig()) == before


def test_the_calibrations_packages_say_nothing_about_a_head(work: Path, packages: list[Package]) -> None:
    seen = {package.name for package in heads.learnt_from(packages, heads.agents_packages(work))}
    assert len(seen) == 3  # one learnt from, and two of five


def test_without_packages_of_the_agents_nothing_is_fitted(packages: list[Package]) -> None:
    with pytest.raises(CorpusError, match="validation"):
        states.parts_of(heads.learnt_from(packages, set()))


@pytest.mark.parametrize("wrong", [{"kind": "deep"}, {"direction": "back"}])
def test_a_head_of_no_kind_is_refused_before_hours_are_lost(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="not"):
        HeadOptions(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_an_agent_that_knew_no_heads_goes(work: Path, preset: Preset) -> None:
    before = manifest_of(work / "out")
    (work / "out" / AGENT_FILE).write_bytes(b"for other exits")
    write_manifest(work / "out", before)
    heads.fit(preset, work, work / "out")
    assert AGENT_FILE not in manifest_of(work / "out").files
    assert load_engine(work / "out", "cpu").exits == (1, 2, 4)


def test_exits_are_served_in_order_and_once() -> None:
    assert heads.served_exits(HeadOptions(exits=(2, 1, 2)), (1, 2, 4)) == (1, 2, 4)


def test_the_heads_go_along_where_the_weights_are_written_in_float32(work: Path, preset: Preset) -> None:
    heads.fit(preset, work, work / "out")
    assert load_engine(dequantise(work / "out", work / "wide"), "cpu").manifest.exit_heads == ("affine", "affine")


def test_the_exits_that_are_served_are_those_of_the_preset(work: Path, preset: Preset) -> None:
    fewer = dataclasses.replace(preset, heads=dataclasses.replace(preset.heads, exits=(2,)))
    heads.fit(fewer, work, work / "out")
    manifest = manifest_of(work / "out")
    assert (manifest.exits, manifest.exit_heads) == ((2, 4), ("affine",))
    assert load_engine(work / "out", "cpu").exits == (2, 4)


def test_an_exit_that_the_checkpoint_has_not_is_not_served() -> None:
    with pytest.raises(CorpusError, match="3"):
        heads.served_exits(HeadOptions(exits=(3,)), (1, 2, 4))

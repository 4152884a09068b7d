"""A pack of a frozen model by one command, on a model of a few thousand weights; and what is held to pay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greencode_lsp.engine.families import describe
from greencode_lsp.engine.load import load_engine
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.preference import SHORTLIST, decode_config
from greencode_lsp.records import NEVER, DecodeConfig
from greencode_lsp.settings import Settings
from tests import tiny_models
from training.data.packages import Package
from training.evaluation import frozen_exits, pack_table
from training.evaluation.frozen_exits import FrozenOptions, candidates, saved_share
from training.evaluation.resplits import Losses
from training.exits import shortlist, states

TEXT = "def function(argument):\n    return argument + 1\n\n\n" * 40
MODEL = tiny_models.LLAMA | {"num_hidden_layers": 4, "max_position_embeddings": 512}


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrozenOptions:
    packages = []
    for index in range(3):
        root = tmp_path / f"package{index}"
        root.mkdir()
        (root / "a.py").write_text(f"# {index}\n" + TEXT)
        split = "validation" if index else "train"
        packages.append(Package(root.name, "1", "MIT", root, ("a.py",), "python", split))  # type: ignore[arg-type]
    monkeypatch.setattr(frozen_exits, "discover", lambda sources: packages)
    monkeypatch.setattr(frozen_exits, "VARIANTS", (("affine", "least squares"), ("affine", "reverse")))
    monkeypatch.setattr(frozen_exits, "FITTED", 1)
    monkeypatch.setattr(frozen_exits, "time_checkpoint", lambda engine: None)
    monkeypatch.setattr(frozen_exits, "costs", lambda profile: ({1: 1.0}, 2.0))
    monkeypatch.setattr(states, "PROMPT_TOKENS", 40)
    monkeypatch.setattr(states, "CONTINUED_TOKENS", 16)
    monkeypatch.setattr(states, "SHARD_WINDOWS", 2)
    monkeypatch.setattr(pack_table, "NEW_TOKENS", 4)
    checkpoint = tiny_models.write_folder(tmp_path / "public", MODEL)
    sizes: dict[str, Any] = {"tokens": 600, "counted_tokens": 1000, "shortlist": 258, "completions": 2}
    return FrozenOptions(checkpoint, tmp_path / "work", tmp_path / "pack", **sizes)


def test_one_command_makes_a_pack_that_the_engine_runs(options: FrozenOptions) -> None:
    report = frozen_exits.run(options)
    engine = load_engine(options.checkpoint, "cpu", pack=options.out)
    assert engine.model.shortlist is not None
    rows = engine.manifest.calibration["python"][SHORTLIST]
    assert rows[0].completions == 2
    assert report["states"]["judged"] > 0
    assert list(engine.exits) == report["in_pack"]


def test_a_report_and_what_each_completion_lost_are_kept(options: FrozenOptions, tmp_path: Path) -> None:
    frozen_exits.main(options, tmp_path / "runs")
    target = tmp_path / "runs" / options.checkpoint.name
    losses = Losses.load(target / "losses-python.npz")
    assert losses.losses.shape == (2, len(pack_table.THRESHOLDS))
    assert set(losses.packages.tolist()) <= {"package1", "package2"}
    assert json.loads((target / "exits.json").read_text())["weights"]


def test_a_second_run_measures_nothing_again(options: FrozenOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    first = frozen_exits.run(options)
    made = ((shortlist, "count_languages"), (pack_table, "measure"), (states.StateRecorder, "record"))
    for module, name in (*made, (frozen_exits, "_fit_exit")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("made again"))
    assert frozen_exits.run(options) == first


def test_the_exits_looked_at_end_with_the_last_layer() -> None:
    assert candidates(24) == (12, 16, 18, 20, 22, 24)
    assert candidates(2)[-1] == 2


def test_an_exit_that_lets_nothing_out_costs_its_checks() -> None:
    architecture = describe(MODEL)
    assert saved_share(architecture, 2, 64, 0.0) < 0 < saved_share(architecture, 2, 64, 1.0)


def row_figures(agreement: float, cost: float) -> list[float]:
    return [agreement, 10, cost, 10, 5, 0, 0, 0, 0]


def completion(*costs: float) -> list[list[float]]:
    """One completion's figures: by threshold what it costs, then by the full head alone."""
    return [row_figures(1.0, cost) for cost in (*costs, 9.5, 9.7)]


CHEAPER = [9.0 - 0.5 * i for i in range(len(pack_table.THRESHOLDS))]


def test_a_row_that_costs_no_less_than_a_more_conservative_one_is_left_out() -> None:
    costs = [cost if i != 3 else 9.9 for i, cost in enumerate(CHEAPER)]
    rows = pack_table.tables_of([completion(*costs)] * 50, 24)[SHORTLIST]
    assert pack_table.THRESHOLDS[3] not in [row.shortlist for row in rows]
    assert (np.diff([row.layer_equivalents_ratio for row in rows]) < 0).all()


def test_fewer_completions_prove_less() -> None:
    few, many = (
        pack_table.tables_of([completion(*CHEAPER)] * n, 24)[SHORTLIST][0].agreement_lower_95 for n in (20, 400)
    )
    assert few < 0.9 < 0.99 < many


def test_an_aggressive_row_keeps_no_more_than_a_conservative_one() -> None:
    figures = completion(*CHEAPER)
    figures[1] = row_figures(0.9, 99.0)  # a row that is left out counts as well
    rows = pack_table.tables_of([figures] * 50, 24)[SHORTLIST]
    assert [row.agreement for row in rows] == [1.0] + [0.9] * (len(rows) - 1)


def test_a_packs_table_says_what_copies_spare_the_full_head_and_lossless() -> None:
    (row,) = pack_table.tables_of([completion(*CHEAPER)] * 50, 24)["never"]
    assert (row.layer_equivalents_ratio, row.verified_ratio, row.shortlist) == (0.95, 0.97, None)


def manifest(bound: float) -> Manifest:
    row = pack_table.tables_of([completion(*CHEAPER)], 24)[SHORTLIST][0]
    proven = replace(row, agreement_lower_95=bound, shortlist=1.5)
    return Manifest("m", "qwen2", (24,), exit_policy=SHORTLIST, calibration={"python": {SHORTLIST: (proven,)}})


def test_balanced_lets_the_shortlist_speak_where_it_is_proven() -> None:
    assert decode_config(Settings(), manifest(0.985), "python") == DecodeConfig(SHORTLIST, copies=True, shortlist=1.5)


@pytest.mark.parametrize(("bound", "preference"), [(0.95, 0.5), (0.99, 1.0)])
def test_the_full_head_speaks_where_the_shortlist_is_not_proven_and_at_accuracy(
    bound: float, preference: float
) -> None:
    config = decode_config(Settings(preference=preference), manifest(bound), "python")
    assert (config.policy, config.shortlist) == ("never", NEVER)


def test_a_proven_row_of_another_language_proves_nothing() -> None:
    assert decode_config(Settings(), manifest(0.99), "java") == DecodeConfig(copies=True)

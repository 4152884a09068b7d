"""The agent's rewards, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from greencode_lsp.errors import CorpusError
from training import preset
from training.exits.rewards import Reward, energy_reward, paper_reward

EXITS = (4, 8, 12)


def paper(index: int, best: int, right: bool, exit_here: bool) -> float:
    arrays = (np.array([index]), np.array([best]), np.array([right]), np.array([exit_here]))
    return float(paper_reward(EXITS, *arrays)[0])


def test_energy_reward_is_quality_less_weighted_cost() -> None:
    reward = energy_reward(np.array([1.0, 0.0]), np.array([6.0, 15.0]), full=15.0, weight=0.2)
    assert reward.tolist() == pytest.approx([0.92, -0.2])


@pytest.mark.parametrize(
    ("index", "best", "right", "exit_here", "expected"),
    [
        pytest.param(0, 0, True, True, 1 / 12, id="exit at the first right exit"),
        pytest.param(1, 0, True, True, -4 / 12, id="exit late but right"),
        pytest.param(0, 1, False, True, -4 / 12, id="exit early and wrong"),
        pytest.param(1, 0, False, True, -0.1 / 12, id="exit late and wrong"),
        pytest.param(0, 2, False, False, 1 / 12, id="go on before the first right exit"),
        pytest.param(0, 0, True, False, -4 / 12, id="go on past the first right exit"),
    ],
)
def test_paper_reward_is_as_its_table_says(
    index: int, best: int, right: bool, exit_here: bool, expected: float
) -> None:
    assert paper(index, best, right, exit_here) == pytest.approx(expected)


def test_going_on_to_the_last_layer_weighs_as_much_as_any_other_right_choice() -> None:
    assert paper(1, 2, right=False, exit_here=False) == paper(0, 0, right=True, exit_here=True)


def test_paper_reward_stays_between_minus_one_and_one() -> None:
    grid = [
        paper(index, best, right, exit_here)
        for index in (0, 1)
        for best in (0, 1, 2)
        for right in (False, True)
        for exit_here in (False, True)
    ]
    assert -1 <= min(grid) < max(grid) <= 1


@pytest.mark.parametrize(("name", "weight"), [("speed", 0.1), ("energy", 0.0), ("energy", float("nan"))])
def test_a_reward_that_is_none_is_refused(name: str, weight: float) -> None:
    with pytest.raises(ValueError, match=r"the reward is one of energy, paper|the cost weight is above 0"):
        Reward(name, weight)  # type: ignore[arg-type]  # as a preset might


def test_a_preset_with_an_unknown_reward_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (preset.FOLDER / "nano.toml").read_text(encoding="utf8")
    (tmp_path / "wrong.toml").write_text(text.replace("[agent]", '[agent]\nreward = "speed"'), encoding="utf8")
    monkeypatch.setattr(preset, "FOLDER", tmp_path)
    with pytest.raises(CorpusError, match="the reward is one of energy, paper, not 'speed'"):
        preset.load_preset("wrong")


def test_a_preset_names_its_reward_and_its_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (preset.FOLDER / "nano.toml").read_text(encoding="utf8")
    chosen = '[agent]\nreward = "paper"\ncost_weight = 0.5'
    (tmp_path / "paper.toml").write_text(text.replace("[agent]", chosen), encoding="utf8")
    monkeypatch.setattr(preset, "FOLDER", tmp_path)
    assert preset.load_preset("paper").agent.paid == Reward("paper", 0.5)

"""The demo: its ten positions, what it prints, and what the bundled model shows there."""

from __future__ import annotations

import ast
import json
import socket

import pytest

from greencode_lsp import cli
from greencode_lsp.demo.demo import Completer, run
from greencode_lsp.demo.positions import SAMPLES, CursorPosition, cut, positions
from greencode_lsp.models.manifest import read_manifest
from greencode_lsp.models.store import bundled_folder
from greencode_lsp.records import Completion, EnergyReading, EnergyTier, Step, Work


def completion(tier: EnergyTier = "modelled", text: str = "total") -> Completion:
    steps = tuple(Step(1, layer) for layer in ((4, 4, 8, 20) if text else ()))
    return Completion(text, steps, Work(), 20, EnergyReading(0.5, tier, ("cpu",), 0.125), 40.0, "mini-1", "cpu")


def shown(completer: Completer, *, as_json: bool = False) -> str:
    written: list[str] = []
    run(completer, written.append, as_json=as_json)
    return "\n".join(written)


def fake(answer: Completion) -> Completer:
    return Completer(lambda position: answer, "mini-1", "cpu")


def test_there_are_ten_positions_in_five_files() -> None:
    assert len(positions()) == 10
    assert len({position.file for position in positions()}) == 5


@pytest.mark.parametrize("sample", sorted(SAMPLES.iterdir()), ids=lambda path: str(path.name))
def test_a_sample_with_its_pieces_written_is_python(sample: object) -> None:
    text = (SAMPLES / str(sample)).read_text(encoding="utf8")
    ast.parse(text.replace("⟦", "").replace("⟧", ""))


def test_no_mark_is_left_in_a_position() -> None:
    assert not any(mark in position.text for position in positions() for mark in "⟦⟧")


def test_a_position_lacks_its_own_piece_and_holds_the_others() -> None:
    assert cut("f.py", "a⟦b⟧c⟦d⟧e") == [CursorPosition("f.py", "acde", 1), CursorPosition("f.py", "abce", 3)]


def test_the_line_and_the_text_before_the_cursor_are_the_cursors() -> None:
    (position,) = cut("f.py", "x = 1\ny = ⟦2⟧\n")
    assert (position.line, position.shown_before) == (2, "y = ")


def test_on_a_blank_line_the_line_before_is_shown_too() -> None:
    (position,) = cut("f.py", "import os\ndef f():\n    ⟦pass⟧\n")
    assert position.shown_before == "def f():\n    "


def test_the_demo_shows_each_completion_with_depths_time_and_energy() -> None:
    out = shown(fake(completion()))
    assert out.count("  exit layers 4 4 8 20 of 20\n") == 10
    assert out.count("  40 ms, 0.5 J, energy_tier: modelled\n") == 11  # ten and their mean


def test_the_demo_ends_with_the_mean_and_the_editors() -> None:
    out = shown(fake(completion()))
    assert "Mean of 10 completions, 40 tokens: exit layer 9.0 of 20, 30 tokens exited early." in out
    assert all(editor in out for editor in ("VS Code", "Neovim", "Emacs"))


@pytest.mark.parametrize("tier", ["modelled", "attributed"])
def test_a_tier_stands_only_as_the_value_of_its_key(tier: EnergyTier) -> None:
    out = shown(fake(completion(tier)))
    for word in ("measured", "attributed", "modelled"):
        assert out.count(word) == out.count(f"energy_tier: {word}")
    assert "measured" not in out


def test_a_mean_over_mixed_tiers_takes_the_weakest() -> None:
    answers = iter([completion("attributed")] * 9 + [completion("modelled")])
    out = shown(Completer(lambda position: next(answers), "mini-1", "cpu"))
    assert out.count("energy_tier: attributed") == 9


def test_an_empty_completion_is_shown_as_such() -> None:
    assert shown(fake(completion(text=""))).count("(nothing to suggest)") == 10


def test_json_is_one_object_of_the_stated_keys() -> None:
    data = json.loads(shown(fake(completion()), as_json=True))
    assert list(data) == ["completions", "model", "device"]
    keys = {"text", "exit_layers", "layers", "elapsed_ms", "energy_j", "energy_tier"}
    assert [set(row) for row in data["completions"]] == [keys] * 10


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"the network was touched: {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_bundled_model_completes_offline(no_network: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert captured.err == ""
    rows = data["completions"]
    assert len(rows) == 10
    assert sum(bool(row["text"].strip()) for row in rows) >= 8
    depths = [layer for row in rows for layer in row["exit_layers"]]
    assert all(row["energy_j"] > 0.0 and row["elapsed_ms"] > 0.0 for row in rows)
    manifest = read_manifest(bundled_folder())
    assert manifest is not None
    assert data["model"] == manifest.name
    assert set(depths) <= set(manifest.exits)

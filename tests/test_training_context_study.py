"""The study of other files: a package's own workspace, files opened by seed, gains over `file` on the same cursors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from greencode_lsp.settings import Context, Settings
from tests.fakes import FakeEngine, backend, meter, tokenizer
from training.data.cursors import SourcePosition
from training.data.heldout import HeldOutLine, Pointer
from training.data.packages import Package
from training.evaluation import context_study
from training.evaluation.context_study import ContextStudy, Scored, kind_of, summary

MAIN = "from p.near import tally_of\n\ntally = tally_of(rows)\n"
NEAR = "def tally_of(rows):\n    tally = 0\n    return tally\n"
SCORED = Scored(0.0, "wrong", 0.5, 0, 100, 10.0, 5.0, 1.0, 0.5, "modelled")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ContextStudy:
    engine = FakeEngine((MAIN,), max_positions=2048)
    monkeypatch.setattr(context_study, "load_backend", lambda settings: backend(engine))
    monkeypatch.setattr(context_study, "detect", lambda device, tell, checkpoint: meter())
    (tmp_path / "work").mkdir()
    return ContextStudy(Settings(), tmp_path / "work")


def package(tmp_path: Path) -> Package:
    root = tmp_path / "site"
    (root / "p").mkdir(parents=True)
    (root / "p" / "main.py").write_text(MAIN)
    (root / "p" / "near.py").write_text(NEAR)
    (root / "another.py").write_text(NEAR)  # another package's
    return Package("p", "1", "MIT", root, ("p/main.py", "p/near.py"))


def line() -> HeldOutLine:
    position = SourcePosition(MAIN, MAIN.index("tally = ") + 8)
    return HeldOutLine(Pointer("p", "1", "MIT", "p/main.py", "", 3, 1), position)


@pytest.mark.parametrize(("mode", "chunks"), [("file", 0), ("open", 1), ("project", 1)])
def test_a_mode_reads_what_the_server_would_of_the_package_and_nothing_else(
    study: ContextStudy, tmp_path: Path, mode: Context, chunks: int
) -> None:
    found = study.score(line(), package(tmp_path), "python", mode)
    assert (found.exact, found.similarity, found.chunks) == (1.0, 1.0, chunks)
    prompt = tokenizer().decode(study.backend.engine.prompts[-1])  # type: ignore[attr-defined]  # the fake's
    assert ("return tally" in prompt) is (chunks > 0)
    assert (found.cold_j, found.tier) == (10.0, "modelled")


def test_the_rest_of_the_line_is_hidden(study: ContextStudy, tmp_path: Path) -> None:
    study.score(line(), package(tmp_path), "python", "file")
    prompt = tokenizer().decode(study.backend.engine.prompts[-1])  # type: ignore[attr-defined]  # the fake's
    assert "tally_of(rows)" not in prompt


def test_gains_are_counted_on_the_same_cursors() -> None:
    better, worse = replace(SCORED, exact=1.0), SCORED
    found = summary({"file": [worse, better, worse], "open": [better, worse, better]})
    assert (found["open"]["gained"], found["open"]["lost"]) == (2, 1)
    low, high = found["open"]["exact_gain_95"]
    assert low <= 1 / 3 <= high
    assert found["file"]["exact"] == pytest.approx(1 / 3)
    assert "gained" not in found["file"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [("value + 1", "exact"), ("value", "prefix"), ("value - 1", "wrong"), ("", "empty"), ("value + 1 + 2", "wrong")],
)
def test_a_suggestion_is_of_one_kind(text: str, kind: str) -> None:
    assert kind_of(text, "value + 1") == kind


def test_the_kinds_shares_are_of_all_cursors() -> None:
    rows = [SCORED, replace(SCORED, kind="exact", exact=1.0)]
    assert summary({"file": rows})["file"]["kinds"] == {"exact": 0.5, "prefix": 0.0, "wrong": 0.5, "empty": 0.0}

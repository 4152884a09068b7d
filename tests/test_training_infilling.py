"""HumanEval's infilling files: read, asked as the server asks, scored by lines; and one of its form written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from greencode_lsp.errors import CorpusError
from tests import training_toy as toy
from tests.test_prompt_fim import qwen
from tests.test_training_peer_lines import Knows
from training.__main__ import main
from training.checkpoint.export import export
from training.evaluation import infilling
from training.lm.families import build_model

PROMPT = 'def total(items):\n    """Add."""\n    result = 0\n'
LINE = {"task_id": "SingleLineInfilling/0/L1", "prompt": PROMPT, "suffix": "    return result\n"}
LINE |= {"canonical_solution": "    result += sum(items)\n", "entry_point": "total", "test": "assert False"}


def written(path: Path, *rows: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_missing_line_is_asked_for_at_an_empty_line(tmp_path: Path) -> None:
    (task,) = infilling.read(written(tmp_path / "tasks.jsonl", LINE))
    assert task.position.document == PROMPT + "\n    return result\n"
    assert (task.reference, task.lines) == ("    result += sum(items)", 1)


def test_a_span_inside_of_a_line_leaves_what_is_right_of_it(tmp_path: Path) -> None:
    row = {"prompt": "a = f(", "suffix": ", 2)\n", "canonical_solution": "1"}
    (task,) = infilling.read(written(tmp_path / "tasks.jsonl", row))
    assert (task.position.document, task.reference) == ("a = f(, 2)\n", "1")


def test_several_lines_are_one_task(tmp_path: Path) -> None:
    row = LINE | {"canonical_solution": "    a = 1\n    b = 2\n"}
    (task,) = infilling.read(written(tmp_path / "tasks.jsonl", row))
    assert task.lines == 2


def test_a_compressed_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(LINE).encode()))
    assert len(infilling.read(path)) == 1


@pytest.mark.parametrize(
    "text", ["", "no json\n", '{"prompt": "x"}\n', '["prompt"]\n', json.dumps(LINE | {"suffix": 3})]
)
def test_another_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(CorpusError, match=r"other\.jsonl"):
        infilling.read(path)


def test_a_model_that_knows_the_lines_scores_one(tmp_path: Path) -> None:
    tasks = infilling.read(written(tmp_path / "tasks.jsonl", LINE))
    knows = Knows("    result += sum(items)\n    return result\n")
    assert infilling.evaluate_peer(knows, qwen(), tasks) == {"exact_match": 1.0, "edit_similarity": 1.0}


TEXT = '''class Adder:
    def total(self, items):
        """Add."""
        result = 0
        for item in items:
            result += item
        return result

    def bare(self):
        return 1
'''


def test_a_written_file_has_a_line_of_code_of_a_function_taken_out(tmp_path: Path) -> None:
    (row,) = infilling.draw([TEXT, "not python ("])
    whole = row["prompt"] + row["canonical_solution"] + row["suffix"]
    assert whole.startswith('def total(self, items):\n    """Add."""\n')
    assert whole.endswith("    return result\n")
    assert row["prompt"].endswith("\n")
    assert row["canonical_solution"].startswith("    ")
    assert len(infilling.read(written(tmp_path / "tasks.jsonl", row))) == 1


def test_the_command_prints_every_preference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = toy.preset()
    work = toy.work_folder(tmp_path / "work", recipe)
    torch.manual_seed(3)
    build_model(recipe.model, toy.VOCAB).save_pretrained(work / "lite")
    out = export(recipe, work, work / "lite", tmp_path / "out")
    file = written(tmp_path / "tasks.jsonl", LINE)
    arguments = ["evaluate", "--model", str(out), "--infilling", str(file), "--json", "--runs", str(tmp_path / "runs")]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(printed["preferences"]) == {"accuracy", "balanced", "energy"}
    assert 0 <= printed["full_depth"]["edit_similarity"] <= 1
    assert (tmp_path / "runs" / printed["model"] / "infilling.json").exists()

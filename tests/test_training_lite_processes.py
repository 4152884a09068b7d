"""`accelerate launch` with two CPU processes: each takes half of every step's rows, the result is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import training_toy as toy

SCRIPT = """
import sys
from pathlib import Path
from tests import training_toy as toy
from training.lm.lite import train
train(toy.preset(stages=toy.STAGES[:1]), Path(sys.argv[1]))
"""


def run(work: Path, script: Path, *launcher: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(script), str(work)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="this torch lacks gloo"
)
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    one, two = (toy.work_folder(tmp_path / name, toy.preset()) for name in ("one", "two"))
    run(one, script)
    run(two, script, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0")
    losses = [json.loads((work / "metrics.jsonl").read_text().splitlines()[-1])["exits"] for work in (one, two)]
    for exit_layer in ("1", "2", "4"):
        assert losses[1][exit_layer]["loss"] == pytest.approx(losses[0][exit_layer]["loss"], abs=1e-3)
    weights = [load_file(work / "lite" / "model.safetensors") for work in (one, two)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=2e-3) for name in weights[0])
    states = json.loads((two / "checkpoints" / "checkpoint-10" / "trainer_state.json").read_text())
    assert len(list((two / "checkpoints" / "checkpoint-10").glob("rng_state*"))) == 2, states["global_step"]

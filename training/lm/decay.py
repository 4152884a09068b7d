"""The end of a run of unknown length: the learning rate stays until somebody says so, then falls to zero.

    python -m training lite --preset small-1 --decay-now 100      # beside the run, or before it is resumed

The request is a file in the work folder, which the run reads after each step. The run saves the checkpoint that it
decays from, keeps it in `before-decay` (to go on from there with more tokens), and ends when the rate is zero.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from greencode_lsp.errors import CorpusError
from training.lm.run_checkpoints import whole_checkpoints
from training.whole_files import write_json

FILE = "decay.json"
KEPT = "before-decay"


@dataclass(frozen=True, slots=True)
class Decay:
    """A request, and the step at which the run saw it."""

    steps: int
    from_step: int | None = None

    def factor(self, step: int) -> float:
        """Return the share of the learning rate that is left at a step."""
        if self.from_step is None:
            return 1.0
        return min(1.0, max(0.0, (self.from_step + self.steps - step) / self.steps))

    def is_over(self, step: int) -> bool:
        """Say whether nothing is left at a step."""
        return self.from_step is not None and step >= self.from_step + self.steps


def read(work: Path) -> Decay | None:
    """Return the request, if any. Raises CorpusError where the file is not one."""
    path = work / FILE
    try:
        return Decay(**json.loads(path.read_text(encoding="utf8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise CorpusError(f"{path} is no request to decay ({error}); remove it.") from error


def request(work: Path, steps: int) -> None:
    """Ask the run of a work folder to end within `steps` steps. Raises CorpusError where one is under way."""
    if steps < 1:
        raise CorpusError("--decay-now needs at least one step.")
    if (known := read(work)) is not None and known.from_step is not None:
        raise CorpusError(f"The run decays since step {known.from_step}; `--decay-undo` takes it back to there.")
    _write(work, Decay(steps))


def undo(work: Path) -> None:
    """Put the checkpoint from before the decay in the place of all later ones. Raises CorpusError without one."""
    kept = whole_checkpoints(work, KEPT)
    if not kept:
        raise CorpusError(f"There is no checkpoint in {work / KEPT}; the run has not begun to decay.")
    for later in (work / "checkpoints").glob("checkpoint-*"):
        shutil.rmtree(later)
    (work / FILE).unlink(missing_ok=True)
    (work / "steps" / "lite").unlink(missing_ok=True)
    kept[-1].rename(work / "checkpoints" / kept[-1].name)  # last: cut off before, it can be undone again


def forget(work: Path) -> None:
    """Drop the decay of a run that is gone, so that it does not end the next one; a request that waits stays."""
    known = read(work)
    if known is not None and known.from_step is not None:
        (work / FILE).unlink()
    shutil.rmtree(work / KEPT, ignore_errors=True)


def keep(checkpoint: Path, work: Path, step: int) -> None:
    """Keep a checkpoint that has just been written, where the decay begins at its step."""
    known, kept = read(work), work / KEPT / checkpoint.name
    if known is not None and known.from_step == step and not kept.exists():
        part = work / f"{KEPT}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(checkpoint, part, copy_function=os.link)
        kept.parent.mkdir(exist_ok=True)
        part.rename(kept)


def _write(work: Path, decay: Decay) -> None:
    write_json(work / FILE, asdict(decay))


class OnRequest(TrainerCallback):  # type: ignore[misc]  # transformers has no types mypy can follow
    """Begins the decay at the first step after the request, and ends the run after the last."""

    def __init__(self, work: Path) -> None:
        self._work = work
        known = read(work)
        self._decay = known if known and known.from_step is not None else None

    def factor(self, step: int) -> float:
        """Return the share of the learning rate that is left at a step."""
        return 1.0 if self._decay is None else self._decay.factor(step)

    def _asked(self, args: Any) -> int:
        """Return the steps asked for, or 0: as the first process reads the file, so that all begin at one step."""
        request = read(self._work) if args.process_index == 0 else None
        steps = request.steps if request else 0
        if args.world_size > 1:
            shared = torch.tensor([steps], device=args.device)
            torch.distributed.broadcast(shared, 0)
            steps = int(shared.item())
        return steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look for the request."""
        if self._decay is None and (asked := self._asked(args)):
            steps = min(asked, max(1, state.max_steps - state.global_step))  # zero at the run's end
            self._decay = Decay(steps, state.global_step)
            if args.process_index == 0:
                _write(self._work, self._decay)
        if self._decay is not None and state.global_step == self._decay.from_step:
            control.should_save = True  # also where the run was cut off before it was saved
        if self._decay is not None and self._decay.is_over(state.global_step):
            control.should_save = control.should_training_stop = True

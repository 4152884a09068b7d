"""The training rows in the order they are trained on: a function of the step, so that a resumed run sees the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from greencode_lsp.errors import CorpusError
from training.preset import LiteOptions, Stage

SEQUENCES_PER_LOOK = 65_536


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of an optimiser step's rows one process takes."""

    process: int = 0
    processes: int = 1


def _read_stage(work: Path, index: int, stage: Stage, vocab_size: int) -> NDArray[Any]:
    """Return the memory-mapped rows [N, T + 1] of a stage. Raises CorpusError where they do not fit stage or model."""
    path = work / f"stage{index}.npy"
    try:
        rows: NDArray[Any] = np.load(path, mmap_mode="r")
    except FileNotFoundError as error:
        raise CorpusError(f"{path} is missing; run `python -m training corpus` first.") from error
    except (ValueError, OSError, EOFError) as error:
        raise CorpusError(f"{path} cannot be read ({error}); make the corpus again.") from error
    if rows.ndim != 2 or rows.shape[1] != stage.context + 1 or len(rows) == 0:
        raise CorpusError(f"{path} holds rows of shape {rows.shape}, not [N, {stage.context + 1}]; make it again.")
    largest = max(int(rows[at : at + SEQUENCES_PER_LOOK].max()) for at in range(0, len(rows), SEQUENCES_PER_LOOK))
    if largest >= vocab_size:
        raise CorpusError(
            f"{path} holds the token {largest}, the model has {vocab_size}: they belong to different tokenizers."
        )
    return rows


class SequenceBatches(Dataset[dict[str, Any]]):
    """One item per forward pass: this process's rows [B, T + 1] and the optimiser step; stages read on in a circle."""

    def __init__(self, work: Path, options: LiteOptions, vocab_size: int, share: Share) -> None:
        self._options, self._share = options, share
        parts = share.processes * options.accumulation
        for stage in options.stages:
            if stage.rows % parts or stage.steps == 0:
                raise CorpusError(
                    f"A stage of {stage.tokens} tokens in steps of {stage.rows} rows of {stage.context} cannot be "
                    f"trained in {parts} parts per step; make tokens and rows multiples."
                )
        self._stages = [_read_stage(work, i, stage, vocab_size) for i, stage in enumerate(options.stages)]

    def __len__(self) -> int:
        return self._options.steps * self._options.accumulation

    def __getitem__(self, item: int) -> dict[str, Any]:
        if item >= len(self):
            raise IndexError(item)
        step, part = divmod(item, self._options.accumulation)
        in_stage = step
        for stage, rows in zip(self._options.stages, self._stages, strict=True):
            if in_stage < stage.steps:
                count = stage.rows // (self._options.accumulation * self._share.processes)
                first = in_stage * stage.rows + (part * self._share.processes + self._share.process) * count
                chosen = rows[np.arange(first, first + count) % len(rows)]  # [B, T + 1]
                return {"input_ids": torch.from_numpy(chosen.astype(np.int64)), "step": step}
            in_stage -= stage.steps
        raise IndexError(item)

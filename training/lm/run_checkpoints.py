"""The checkpoints of a LITE run: which are whole, which run they belong to, and what to do where one is not.

A checkpoint counts once its `complete.json` is there, which is written last and says what it belongs to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import sha256
from training.preset import Preset

COMPLETE = "complete.json"
RUN_OPTIONS = (
    *("schedule", "exit_weight", "exit_position_stride", "start"),
    *("accumulation", "bf16", "adam_beta2", "weight_decay", "seed"),
)
"""Of [lite], those that make a run what it is; rates and their schedule may change on the way."""


def identity(preset: Preset, work: Path) -> dict[str, Any]:
    """Return what must not change between the parts of one run."""
    stages = [dataclasses.asdict(stage) for stage in preset.lite.stages]
    model = dataclasses.asdict(preset.model)
    options = {key: getattr(preset.lite, key) for key in RUN_OPTIONS}
    files = {f"{name}_sha256": sha256(work / f"{name}.json") for name in ("corpus", "tokenizer")}
    return {**files, "model": model, "stages": stages, **options}


def whole_checkpoints(work: Path, name: str = "checkpoints") -> list[Path]:
    """Return the whole checkpoints in a folder of the work folder, oldest first."""
    folders = [path.parent for path in (work / name).glob(f"checkpoint-*/{COMPLETE}")]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def what_is_kept(work: Path) -> str:
    """Return a clause on the newest whole checkpoint, for messages."""
    whole = whole_checkpoints(work)
    return f"{whole[-1]} is kept" if whole else "there is none before it"


@contextlib.contextmanager
def writing(folder: Path, work: Path) -> Iterator[None]:
    """Turn what a full disk makes the writers raise into one sentence."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CorpusError(
            f"{folder} could not be written ({error}); {what_is_kept(work)}; free some space and run again."
        ) from error


def last_checkpoint(preset: Preset, work: Path) -> Path | None:
    """Return the checkpoint to go on from, if any; those cut off while they were written are removed.

    Raises CorpusError where it belongs to another run, or where there are only checkpoints that no run called whole.
    """
    whole = whole_checkpoints(work)
    cut_off = sorted(set((work / "checkpoints").glob("checkpoint-*")) - set(whole))
    if cut_off and not whole:
        raise CorpusError(f"{cut_off[-1]} has no {COMPLETE}: it was cut off, or made by another trainer; remove it.")
    for folder in cut_off:
        shutil.rmtree(folder, ignore_errors=True)
    if not whole:
        return None
    stated = json.loads((whole[-1] / COMPLETE).read_text(encoding="utf8"))
    differing = [name for name, value in identity(preset, work).items() if stated.get(name) != value]
    if differing:
        raise CorpusError(
            f"{whole[-1]} was made with another {' and '.join(differing)}; remove {work / 'checkpoints'} or name "
            "another --work."
        )
    return whole[-1]

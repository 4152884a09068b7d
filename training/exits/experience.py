"""What the agent learns from and is judged by: which cursors are rolled out, and in which folder they end."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from greencode_lsp.errors import CorpusError
from training.data.cursors import SourcePosition
from training.exits.rollout import Rollouts, Writer
from training.preset import RolloutOptions

LEARN, CHECK, ALL = "rollouts", "rollouts-check", "rollouts-all"
"""Folders: learnt from; kept back, for the comparison; the first and those along the agent's own choices."""
KEPT_BACK = 8
"""One package in so many is kept back."""
NOTE_S = 60.0
"""Seconds between two lines of progress."""


def keep_back(places: Sequence[SourcePosition]) -> tuple[list[SourcePosition], list[SourcePosition]]:
    """Return the cursors to learn from and those to judge by: no package in both, and where all are of one, no file.

    Raises CorpusError where all are in one file.
    """
    is_one = len({place.package for place in places}) < 2
    groups = [hashlib.sha256((p.text if is_one else p.package).encode()).digest() for p in places]
    names = sorted(set(groups))
    if len(names) < 2:
        raise CorpusError("The agent's half of the validation files is one file; name more sources.")
    kept = set(names[: -(-len(names) // KEPT_BACK)])
    sides: tuple[list[SourcePosition], list[SourcePosition]] = ([], [])
    for place, group in zip(places, groups, strict=True):
        sides[group in kept].append(place)
    return sides


def check_disk(work: Path, options: RolloutOptions, prompt_tokens: int, token_bytes: int) -> None:
    """Raise CorpusError where the disk cannot hold the rollouts, twice: those learnt from are copied once."""
    prompts = options.prompts + options.reference_prompts
    needed = 2 * token_bytes * (prompts * prompt_tokens + options.prompts * options.new_tokens)
    free = shutil.disk_usage(work).free
    if needed > free:
        raise CorpusError(f"The rollouts need up to {needed / 1e9:.1f} GB in {work}, which has {free / 1e9:.1f}.")


def store(writer: Writer, parts: Iterable[Rollouts]) -> None:
    """Write the rollouts as they come, with a line of progress a minute."""
    noted_s = time.monotonic()
    for count, part in enumerate(parts, 1):
        writer.append(part)
        if time.monotonic() - noted_s > NOTE_S:
            noted_s = time.monotonic()
            print(f"{count} prompts, {writer.tokens:,} tokens", flush=True)

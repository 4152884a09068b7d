"""What a kept character costs: joules per right character shown before the first error, by preference.

    python -m training kept --model bundled --limit 200 --heldout-sources FOLDER --json

The cursors are the frozen held-out ones (training/heldout), a sample by seed, the rest of their line hidden. Each is
completed as the server completes by itself (prompt, healing, exits, stopping, filters) at each named preference, and at
full depth with nothing that copies or ends a line early, in turns; the prompt was read before, as while one types.
Joules are the server's meter's, and say their tier. Intervals are a paired bootstrap over packages.

Letters: P packages, K cursors.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from greencode_lsp.completion.backend import Backend, load_backend
from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.request import Request
from greencode_lsp.energy.detect import detect
from greencode_lsp.energy.meter import Meter
from greencode_lsp.errors import SettingError
from greencode_lsp.records import DecodeConfig
from greencode_lsp.setting_kinds import PREFERENCES
from greencode_lsp.settings import Settings
from training.data.heldout import HeldOutLine, read_lines
from training.whole_files import write_json

FULL_DEPTH = "full depth"
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class _FullDepth:
    """See `CompletionControl`: every token by all layers, and no word about stopping."""

    chosen: Settings

    def settings(self) -> Settings:
        """Return them."""
        return self.chosen

    def config(self) -> DecodeConfig:
        """Return full depth."""
        return DecodeConfig()

    def cancelled(self) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class KeptCharacters:
    """One completion."""

    package: str
    shown: int
    """Characters of its first line."""
    kept: int
    """Of those, the right ones before the first error."""
    energy_j: float
    tier: str


def kept_characters(shown: str, reference: str) -> int:
    """Return how many characters are right before the first error."""
    return len(os.path.commonprefix([shown, reference]))


def score(
    backend: Backend, meter: Meter, settings: Settings, line: HeldOutLine, language: str, name: str
) -> KeptCharacters:
    """Complete at a cursor under a named preference or at full depth, the prompt having been read."""
    cursor = line.position
    settings = replace(settings, multiline="never")  # what is counted is the line
    request = Request(cursor.document, cursor.offset, language, line.pointer.file, invoked=name == FULL_DEPTH)
    if name == FULL_DEPTH:
        made = complete(backend, request, _FullDepth(settings), meter)
    else:
        asked = replace(settings, preference=PREFERENCES[name])
        made = complete(backend, request, LiveControl.of(asked, backend.manifest, language), meter)
    text, reference = made.text.partition("\n")[0], cursor.rest_of_line
    return KeptCharacters(
        line.pointer.package, len(text), kept_characters(text, reference), made.energy.energy_j, made.energy.energy_tier
    )


def summary(scored: Mapping[str, Sequence[KeptCharacters]], seed: int = 0) -> dict[str, Any]:
    """Return what each way costs per kept character, alone and as a share of full depth's, with 95 % intervals."""
    packages = sorted({row.package for row in scored[FULL_DEPTH]})
    drawn = np.random.default_rng(seed).integers(0, len(packages), (RESAMPLES, len(packages)))
    sums = {name: _sums(rows, packages) for name, rows in scored.items()}  # [P, 2]
    per_character = {name: _per_character(s[drawn].sum(1)) for name, s in sums.items()}  # [RESAMPLES]
    base = float(_per_character(sums[FULL_DEPTH].sum(0)))
    out: dict[str, Any] = {}
    for name, rows in scored.items():
        shares = per_character[name] / per_character[FULL_DEPTH]
        known = shares[np.isfinite(shares)]
        ends = [float(end) for end in np.percentile(known, [2.5, 97.5])] if len(known) else None
        cost = float(_per_character(sums[name].sum(0)))
        out[name] = {
            "cursors": len(rows),
            "shown_characters": sum(row.shown for row in rows),
            "kept_characters": sum(row.kept for row in rows),
            "energy_j": sum(row.energy_j for row in rows),
            "energy_tier": " and ".join(sorted({row.tier for row in rows})),
            "j_per_kept_character": cost if math.isfinite(cost) else None,
            "of_full_depth": cost / base if math.isfinite(cost / base) else None,
            "of_full_depth_95": ends,
        }
    return out


def _sums(rows: Sequence[KeptCharacters], packages: Sequence[str]) -> Any:
    """Return joules and kept characters by package, [P, 2]."""
    sums = np.zeros((len(packages), 2))
    for row in rows:
        sums[packages.index(row.package)] += row.energy_j, row.kept
    return sums


def _per_character(sums: Any) -> Any:
    """Return joules per character of sums [..., 2]; infinite where none is kept."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.full(sums.shape[:-1], np.inf), where=sums[..., 1] > 0)


def run(settings: Settings, sources: Sequence[str], languages: Sequence[str], limit: int, seed: int) -> dict[str, Any]:
    """Return the summary of each language. Raises SettingError where no held-out line is there."""
    backend = load_backend(settings)
    meter = detect(backend.engine.device, print, backend.checkpoint)
    results: dict[str, Any] = {"model": backend.manifest.name, "languages": {}}
    ways = (FULL_DEPTH, *PREFERENCES)
    for language in languages:
        lines, _ = read_lines(list(sources), language)
        if not lines:
            raise SettingError(f"No held-out line of {language} is here; name folders with --heldout-sources.")
        lines = random.Random(seed).sample(lines, min(limit, len(lines)))
        scored: dict[str, list[KeptCharacters]] = {name: [] for name in ways}
        for index, line in enumerate(lines):
            score(backend, meter, settings, line, language, FULL_DEPTH)  # reads the prompt
            turn = index % len(ways)
            for name in (*ways[turn:], *ways[:turn]):
                scored[name].append(score(backend, meter, settings, line, language, name))
        results["languages"][language] = summary(scored, seed)
    return results


def cells(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a kept character costs and its share of full depth's, for people; dashes where none was kept."""
    if None in (row["j_per_kept_character"], row["of_full_depth"], row["of_full_depth_95"]):
        return "-", "-"
    low, high = row["of_full_depth_95"]
    return (
        f"{row['j_per_kept_character']:.3f} J {row['energy_tier']}",
        f"{row['of_full_depth']:.2f} ({low:.2f} to {high:.2f})",
    )


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return the table that is printed."""
    lines = [
        results["model"],
        "",
        "| language | way | characters shown | kept | joules per kept character | of full depth (95 %) |",
        "|---|---|---|---|---|---|",
    ]
    for language, ways in results["languages"].items():
        for name, row in ways.items():
            cost, share = cells(row)
            lines.append(
                f"| {language} ({row['cursors']}) | {name} | {row['shown_characters']} | {row['kept_characters']} | "
                f"{cost} | {share} |"
            )
    return "\n".join(lines)


def main(settings: Settings, options: Any) -> None:
    """Run the study that the command line asks for, print it, and write it under `--runs`."""
    results = run(settings, options.heldout_sources, options.languages, options.limit or 200, options.seed)
    folder = options.runs.expanduser() / results["model"]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "kept.json", results)
    print(json.dumps(results) if options.json else to_markdown(results))

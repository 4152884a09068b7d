"""Does the promise hold on other packages? Resplits of a calibration's own losses, by package.

    python -m training resplit --model bundled

A table is made of half of the packages, drawn at random; for each agreement asked for, the row it would serve is judged
by the other half. The promise is broken where the mean loss there is larger than was promised. Packages stay whole:
completions of one package are alike, which the bound's independence does not know, and a user's files are of a package
that was in neither half. It is judged by whole completions, not by what a stop rule leaves of them, which a row's bound
holds for as well (calibrate.py).

Letters: C completions, R rows of a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.errors import CorpusError
from greencode_lsp.preference import REQUIRED_AGREEMENT
from training.data.cursors import SourcePosition
from training.evaluation.calibrate import SERVED, ThresholdCandidate
from training.evaluation.risk_control import DELTA, fixed_sequence

RESPLITS = 200
ASKED = tuple(sorted({0.95, 0.93, *(share for _, share in REQUIRED_AGREEMENT if share < 1)}))
"""Agreements asked for: those of the preferences, and some between."""
UNMEASURED = 255
STEPS = 250
"""Losses are kept in steps of 1 / 250, rounded up."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What a calibration measured: one loss per completion and row."""

    policies: NDArray[np.str_]
    """[R]"""
    thresholds: NDArray[np.float64]
    """[R] careful to bold within a policy."""
    losses: NDArray[np.uint8]
    """[C, R] in steps of 1 / STEPS, UNMEASURED where a row was left out."""
    packages: NDArray[np.str_]
    """[C]"""

    def save(self, path: Path) -> Path:
        """Write one compressed file; return the path. Raises CorpusError where the disk is full."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(
                path, policies=self.policies, thresholds=self.thresholds, losses=self.losses, packages=self.packages
            )
        except OSError as error:
            raise CorpusError(f"The losses cannot be written to {path}: {error.strerror}.") from error
        return path

    @classmethod
    def load(cls, path: Path) -> Losses:
        """Read a file. Raises CorpusError where there is none."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in ("policies", "thresholds", "losses", "packages")})
        except (OSError, ValueError, KeyError) as error:
            raise CorpusError(f"There are no losses in {path}; run `python -m training calibrate` first.") from error


def losses_of(
    records: Sequence[Mapping[str, Any]], settings: Sequence[ThresholdCandidate], places: Sequence[SourcePosition]
) -> Losses:
    """Return the losses of a calibration's records, of the policies that are served."""
    kept = [i for i, setting in enumerate(settings) if setting.policy in SERVED]
    rows = [[record["figures"][i] for i in kept] for record in records]
    steps = [
        [UNMEASURED if row is None else int(np.ceil((1 - row[0]) * STEPS - 1e-6)) for row in figures]
        for figures in rows
    ]
    return Losses(
        np.array([settings[i].policy for i in kept]),
        np.array([settings[i].threshold for i in kept]),
        np.array(steps, np.uint8).reshape(len(rows), len(kept)),
        np.array([places[record["cursor"]].package for record in records]),
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """How a policy's promise fared at one agreement."""

    policy: str
    asked: float
    served: int
    """Resplits in which a row was proven for it."""
    broken: int
    """And lost more on the other packages."""
    mean_agreement: float
    """On the other packages, over those served; NaN where none was."""


def resplit(losses: Losses, count: int = RESPLITS, seed: int = 0) -> list[Kept]:
    """Return how often each policy's promise was broken on packages that its table had not seen."""
    rng = np.random.default_rng(seed)
    names = np.unique(losses.packages)
    kept: dict[tuple[str, float], list[float]] = {}
    policies = [str(policy) for policy in dict.fromkeys(losses.policies.tolist())]
    for _ in range(count):
        calibrated = np.isin(losses.packages, rng.permutation(names)[: len(names) // 2])
        for policy in policies:
            columns = [int(i) for i in np.flatnonzero(losses.policies == policy)]
            bounds = fixed_sequence(
                [_measured(losses, column, calibrated) for column in columns], DELTA / len(policies)
            )
            for asked in ASKED:
                proven = [column for column, bound in zip(columns, bounds, strict=True) if bound >= asked]
                if proven:  # the boldest is the cheapest
                    agreement = 1 - float(_measured(losses, proven[-1], ~calibrated).mean())
                    kept.setdefault((policy, asked), []).append(agreement)
    out = []
    for policy in policies:
        for asked in ASKED:
            shares = kept.get((policy, asked), [])
            mean = float(np.mean(shares)) if shares else float("nan")
            out.append(Kept(policy, asked, len(shares), sum(share < asked for share in shares), mean))
    return out


def _measured(losses: Losses, column: int, which: NDArray[np.bool_]) -> NDArray[np.float64]:
    values = losses.losses[which, column]
    return np.asarray(values[values != UNMEASURED] / STEPS, np.float64)


def as_text(rows: Sequence[Kept]) -> str:
    """Return one line per policy and agreement."""
    lines = [f"{'policy':>12} {'asked':>6} {'served':>6} {'broken':>6} {'agreement':>9}"]
    for row in rows:
        lines.append(f"{row.policy:>12} {row.asked:6.3f} {row.served:6} {row.broken:6} {row.mean_agreement:9.4f}")
    return "\n".join(lines)


def main(model: str, runs: Path, languages: Sequence[str]) -> None:
    """Judge a model's kept losses in each language; print a table. Raises CorpusError where there are none."""
    for language in languages:
        losses = Losses.load(runs / model / f"losses-{language}.npz")
        packages = len(set(losses.packages.tolist()))
        print(f"{language}: {len(losses.packages):,} completions, {packages} packages, {RESPLITS} resplits")
        print(as_text(resplit(losses)))

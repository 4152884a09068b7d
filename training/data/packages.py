"""A package: the unit of licences, of versions and of the split into training and validation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from typing import Literal

Split = Literal["train", "validation"]

VENDORED = re.compile(
    r"(^|/)(_?vendor(ed)?|_vendor|third_?party|extern(al)?s?|site-packages|node_modules|shaded|repackaged)(/|$)"
)
_PERMISSIVE = re.compile(r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|Unlicense|Zlib|0BSD|HPND)\b", re.I)
_COPYLEFT = re.compile(r"GPL|General Public|Mozilla|MPL|EPL|Eclipse|EUPL|CDDL|proprietary|commercial", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Package:
    """One distribution and its source files."""

    name: str
    version: str
    licence: str
    root: Path
    files: tuple[str, ...]
    """Paths relative to `root`, sorted."""
    language: str = "python"
    split: Split | None = None
    """As the manifest says; None leaves it to a hash of the name."""


def normalised_name(name: str) -> str:
    """Return the distribution name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(distribution: Distribution) -> str:
    """Return the licence as the distribution's metadata states it, or an empty string."""
    metadata = distribution.metadata
    expression = metadata["License-Expression"] or ""
    classifiers = [c.split("::")[-1].strip() for c in metadata.get_all("Classifier") or () if c.startswith("License")]
    return expression or "; ".join(classifiers) or (metadata["License"] or "").strip().split("\n")[0][:80]


def is_permissive(licence: str) -> bool:
    """Say whether a model may be trained on code under this licence and shipped."""
    return bool(_PERMISSIVE.search(licence)) and not _COPYLEFT.search(licence)

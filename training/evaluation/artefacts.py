"""The files in `training/runs/` that hold measured figures, and the bundled checkpoint's manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from greencode_lsp.models.manifest import Manifest, read_manifest
from greencode_lsp.models.store import bundled_folder

RUNS = Path(__file__).parents[1] / "runs"


@dataclass(frozen=True)
class Artefacts:
    """What was measured: a folder per model, a file per measurement."""

    runs: Path = RUNS
    checkpoint: Path = field(default_factory=bundled_folder)

    @cached_property
    def manifest(self) -> Manifest:
        """The bundled checkpoint's."""
        manifest = read_manifest(self.checkpoint, verify=False)
        assert manifest is not None, "the bundled folder has one"
        return manifest

    def read(self, pattern: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (model folder's name, content) of every file of that name, the bundled model's first."""
        paths = sorted(self.runs.glob(f"*/{pattern}"), key=lambda p: (p.parent.name != self.manifest.name, p))
        for path in paths:
            yield path.parent.name, json.loads(path.read_text(encoding="utf8"))

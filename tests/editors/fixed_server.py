"""The real server with a model that has memorised one text per language, for tests of what an editor does with answers.

A second argument beside `--stdio` names a folder; the load waits until the file `go` is in it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.parts import ServiceParts
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.lsp.server import create_server
from greencode_lsp.records import Step
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, ROWS, FakeEngine, Never, backend, meter

PYTHON = "total = first_value + second_value\nempty = [first_value, second_value]\n"
JAVA = "int total = firstValue + secondValue;\nint[] pair = {firstValue, secondValue};\n"
LANGUAGES = ("python", "java")
LONGEST_WAIT = 2000
"""In rounds of 50 ms: a test that failed before it opened the gate leaves no process behind."""
MEMORISED = replace(MANIFEST, languages=LANGUAGES, calibration={language: {"agent": ROWS} for language in LANGUAGES})


class FrugalEngine(FakeEngine):
    """Does three quarters of full depth's work, so that there is something saved."""

    def generate(self, *arguments: Any, **options: Any) -> Iterator[Step]:
        for step in super().generate(*arguments, **options):
            tokens = self.work.emitted_tokens
            self.work = replace(self.work, layer_equivalents=3.0 * tokens, full_depth_layer_equivalents=4.0 * tokens)
            yield step


def load(settings: Settings, gate: Path | None) -> Backend:
    """Return the model, once the gate is open."""
    pause = threading.Event()
    for _ in range(LONGEST_WAIT):
        if gate is None or (gate / "go").exists():
            break
        pause.wait(0.05)
    return backend(FrugalEngine((PYTHON, JAVA)), MEMORISED)


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:] if argument != "--stdio"]
    parts = ServiceParts(
        load=lambda settings: load(settings, folders[0] if folders else None),
        meter=lambda device, notify, checkpoint: meter(),
        rng=Never(),
    )
    create_server(lambda notify, report: CompletionService(notify, report, parts)).start_io()

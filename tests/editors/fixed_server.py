"""The real server with a model that has memorised one text per language, for tests of what an editor does with answers.

A second argument beside `--stdio` names a folder; the load waits until the file `go` is in it.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

from greencode_lsp.completion.pipeline import Backend
from greencode_lsp.completion.service import CompletionService, Parts
from greencode_lsp.lsp.server import create_server
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, ROWS, FakeEngine, backend, meter

PYTHON = "total = first_value + second_value\nempty = [first_value, second_value]\n"
JAVA = "int total = firstValue + secondValue;\nint[] pair = {firstValue, secondValue};\n"
LANGUAGES = ("python", "java")
MEMORISED = replace(MANIFEST, languages=LANGUAGES, calibration={language: {"agent": ROWS} for language in LANGUAGES})


def load(settings: Settings, gate: Path | None) -> Backend:
    """Return the model, once the gate is open."""
    pause = threading.Event()
    while gate is not None and not (gate / "go").exists():
        pause.wait(0.05)
    return backend(FakeEngine((PYTHON, JAVA)), MEMORISED)


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:] if argument != "--stdio"]
    parts = Parts(
        load=lambda settings: load(settings, folders[0] if folders else None), meter=lambda device, tell: meter()
    )
    create_server(lambda notify, report: CompletionService(notify, report, parts)).start_io()

"""The real server with a model that never finishes loading; with `--count FILE`, one that loads slowly and says so."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.parts import ServiceParts
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.lsp.server import serve_stdio
from greencode_lsp.settings import Settings
from tests.fakes import Never, backend, meter


def load(settings: Settings) -> Backend:
    """Hang, or write down what is loaded."""
    if "--count" not in sys.argv:
        threading.Event().wait()
    if settings.model.startswith("m"):
        threading.Event().wait(0.3)  # while the other changes come
    with Path(sys.argv[-1]).open("a") as file:
        file.write(settings.model + "\n")
    return backend()


if __name__ == "__main__":
    parts = ServiceParts(load=load, meter=lambda device, notify, checkpoint: meter(), rng=Never())
    sys.exit(serve_stdio(lambda notify, report: CompletionService(notify, report, parts)))

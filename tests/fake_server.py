"""The real server over standard input and output, with a model that has memorised a few texts."""

from __future__ import annotations

import threading

from greencode_lsp.completion.parts import Parts
from greencode_lsp.completion.pipeline import Backend
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.lsp.server import serve_stdio
from greencode_lsp.records import Control
from greencode_lsp.settings import Settings
from tests.fakes import SAMPLE, FakeEngine, Never, backend, meter

TABBED = "\tsmile = '😀'; name = smile\n"
EMOJI = "smile = '😀'; name = smile\n"
SLOW = "slow = 1 + 2\n"
BROKEN = "broken = 1 + 2\n"
LONG = "abcdefgh = 12345\n"


def before_token(control: Control, prefix: str) -> None:
    """Hang in slow texts until cancelled, fail in broken ones."""
    if "slow" in prefix:
        pause = threading.Event()
        while not control.cancelled():
            pause.wait(0.001)
    if "broken" in prefix:
        raise KeyError(prefix)


def load(settings: Settings) -> Backend:
    """Load the fake, or fail as a missing folder does."""
    if settings.model not in ("auto", "bundled"):
        raise ModelNotFoundError(f"There is no model in {settings.model}.")
    return backend(FakeEngine((SAMPLE, EMOJI, TABBED, SLOW, BROKEN, LONG), before_token))


if __name__ == "__main__":
    parts = Parts(load=load, meter=lambda device, tell, checkpoint: meter(), rng=Never())
    serve_stdio(lambda notify, report: CompletionService(notify, report, parts))

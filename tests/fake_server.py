"""The real server over standard input and output, with a model that has memorised a few texts."""

from __future__ import annotations

import sys
import threading

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.parts import ServiceParts
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.lsp.server import serve_stdio
from greencode_lsp.records import Control
from greencode_lsp.settings import Settings
from tests.fakes import SAMPLE, Never, backend, meter
from tests.fork_engine import SometimesForkEngine

TABBED = "\tsmile = '😀'; name = smile\n"
EMOJI = "smile = '😀'; name = smile\n"
SLOW = "slow = 1 + 2\n"
BROKEN = "broken = 1 + 2\n"
LONG = "abcdefgh = 12345\n"
SAID = (
    "if len(names) == 1:\n",
    "def g(x) -> Tuple[Optional[str]:\n",
    "\tif tabbed:\n\t    xs\n",
    "put_token(value(1)\n",
    "# Copyright (c) 2010, Somebody\n",
    "OLD = 1\n# what follows is far enough\nwhich = OLD\n",
    "NEW = 1\n# what follows is far enough\nwhich = NEW\n",
    "try:\n    act()\n    end()\n",
    "fork = left\n",
    "fork = right\n",
    "fork = middle\n",
    "which_cell = alone\n",
    "first_cell = 1\n\nwhich_cell = first_cell\n",
    "first_cell = 1\n\nsecond_cell = 2\n\nwhich_cell = both_cells\n",
    "tally = 1\n",
    "# Path: near.py\n# tally_of = tally\ntally = tally_of\n",
)
"""What the model says in the situations of test_lsp_suggestions, test_lsp_other_files and test_lsp_notebooks."""


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
    return backend(SometimesForkEngine((SAMPLE, EMOJI, TABBED, SLOW, BROKEN, LONG, *SAID), before_token))


if __name__ == "__main__":
    parts = ServiceParts(load=load, meter=lambda device, notify, checkpoint: meter(), rng=Never())
    sys.exit(serve_stdio(lambda notify, report: CompletionService(notify, report, parts)))

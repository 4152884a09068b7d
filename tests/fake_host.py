"""The shared engine's process with a fake model; it writes its process id beside its socket."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from greencode_lsp.completion.model import LoadedModel
from greencode_lsp.completion.notifier import Notify
from greencode_lsp.host.__main__ import main
from greencode_lsp.records import Control
from greencode_lsp.settings import Settings
from tests.fakes import SAMPLE, FakeEngine
from tests.host_engine import DEADLY, SLOW, hang_when_slow, local_model, parts


def before_token(control: Control, prefix: str) -> None:
    """Hang in slow texts, die of deadly ones."""
    if "deadly" in prefix:
        os._exit(9)
    hang_when_slow(control, prefix)


def load(settings: Settings, notify: Notify) -> LoadedModel:
    """Load the fake."""
    return local_model(FakeEngine((SAMPLE, SLOW, DEADLY), before_token))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / f"{os.getpid()}.pid").touch()
    os._exit(main(sys.argv[1:], parts(load=load)))

"""The shared engine's process, as an editor's server starts it: `python -I -m greencode_lsp.host FOLDER NAME unix`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast

from greencode_lsp.host.meeting import Meeting, Transport
from greencode_lsp.host.shared import HostParts, SharedEngine
from greencode_lsp.models.store import move_out_of_workspace


def main(arguments: list[str], parts: HostParts | None = None) -> int:
    """Serve at a meeting place until nobody is left; 1 where nobody can listen there."""
    folder, name, transport = arguments
    move_out_of_workspace()
    try:
        listener = Meeting(Path(folder), name, cast("Transport", transport)).listen()
    except OSError:  # the editor's server says it, and runs the model itself
        return 1
    SharedEngine(listener, parts).run()
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # without waiting for a library's threads

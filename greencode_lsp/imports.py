"""Where Python may import from: never the folder that happens to be current, nor one that an editor has opened.

`PYTHONPATH` may name either. What Python imported before this module has a say is the starter's business: the editors'
plugins start the server without `PYTHONPATH`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

OURS = Path(__file__).resolve().parent.parent
"""What holds this package; a developer's checkout may be the workspace."""


def distrust_current_folder() -> None:
    """Import no longer from what `PYTHONPATH` names relatively, nor from the current folder."""
    sys.path[:] = [entry for entry in sys.path if entry]
    _drop(_real(name) for name in _named() if not Path(name).is_absolute())


def distrust(folders: Iterable[str]) -> None:
    """Import no longer from what `PYTHONPATH` names in these folders."""
    roots = [_real(folder) for folder in folders if folder]
    named = [_real(name) for name in _named() if name]
    _drop(name for name in named if any(Path(name).is_relative_to(root) for root in roots))


def _named() -> list[str]:
    return os.environ.get("PYTHONPATH", "").split(os.pathsep)


def _drop(places: Iterable[str]) -> None:
    dropped = set(places) - {str(OURS)}
    sys.path[:] = [entry for entry in sys.path if _real(entry) not in dropped]


def _real(place: str) -> str:
    """Return where a place is; as it is called where that cannot be told, as in a current folder that is gone."""
    try:
        return os.path.realpath(place)
    except OSError:
        return place

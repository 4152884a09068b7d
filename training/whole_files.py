"""Files and folders that are whole wherever they are: written beside, and put in place by a rename."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from greencode_lsp.files import atomic_write

_MODE = 0o644


def write_text(path: Path, text: str) -> None:
    """Write a file that readers see whole or not at all. Raises OSError."""
    atomic_write(path, text.encode(), mode=_MODE)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=1))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which takes the place of `folder` when the block ends; an exception leaves that as it was.

    One process at a time writes a folder. Raises OSError.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)

"""Files and folders that are whole wherever they are: written beside, and put in place by a rename."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from greencode_lsp.errors import CorpusError
from greencode_lsp.files import atomic_write
from greencode_lsp.models.manifest import read_manifest

_MODE = 0o644


def run_name(checkpoint: Path) -> str:
    """Return what the folder of a model's results is called: its manifest's name, else its folder's or its file's."""
    manifest = read_manifest(checkpoint, verify=False) if checkpoint.is_dir() else None
    return manifest.name if manifest else checkpoint.name if checkpoint.is_dir() else checkpoint.stem


def write_text(path: Path, text: str) -> None:
    """Write a file that readers see whole or not at all. Raises OSError."""
    atomic_write(path, text.encode(), mode=_MODE)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=1))


def note(path: Path, made_of: Mapping[str, Any], what: str) -> None:
    """Write what is about to be made of what; where `path` says so already, compare.

    Raises CorpusError where `what` is there of something else, OSError where nothing can be written.
    """
    wanted = json.loads(json.dumps(dict(made_of)))
    if not path.exists():
        write_json(path, wanted)
        return
    stored = json.loads(path.read_text(encoding="utf8"))
    other = [key for key in wanted if stored.get(key) != wanted[key]]
    if other:
        raise CorpusError(f"{path.parent} holds {what} of other {', '.join(other)}; name another --work, or delete it.")


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

"""Reading what a model folder holds: plain names, regular files, bounded sizes, JSON that is an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError
from greencode_lsp.files import UnsafeFileError, read_regular, regular_file
from greencode_lsp.models.store import bundled_folder

MAX_JSON_BYTES = 16 << 20
"""Of `config.json` and `greencode.json`; the bundled model's is 0.2 MB."""
MAX_TOKENIZER_BYTES = 128 << 20
"""Gemma's is 33 MB."""
MAX_WEIGHT_BYTES = 1 << 40
_SNAPSHOTS = "snapshots"


def model_file(folder: Path, name: str, max_bytes: int) -> Path:
    """Return the real path of a file of a model. Raises ModelNotFoundError or ModelDamagedError; opens nothing."""
    try:
        return regular_file(folder, name, max_bytes=max_bytes, root=_root(folder))
    except OSError as error:
        raise _file_error(folder, name, error) from error


def read_file(folder: Path, name: str, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Return a small file of a model. Raises ModelNotFoundError or ModelDamagedError."""
    try:
        return read_regular(folder, name, max_bytes=max_bytes, root=_root(folder))
    except OSError as error:
        raise _file_error(folder, name, error) from error


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of a model. Raises ModelNotFoundError or ModelDamagedError."""
    try:
        data = json.loads(read_file(folder, name))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError; [[[[ ... recurses
        why = "nested too deep" if isinstance(error, RecursionError) else error
        raise ModelDamagedError(f"{folder / name} cannot be read ({why}); fetch or export the model again.") from error
    if not isinstance(data, dict):
        raise ModelDamagedError(
            f"{folder / name} cannot be read (it holds no object); fetch or export the model again."
        )
    return data


def _root(folder: Path) -> Path:
    """Return below what a link may lead: the folder, in the hub's own cache the repository, in the package anywhere."""
    if folder.is_relative_to(bundled_folder().parent):
        return Path(folder.anchor)  # some installers link the files of a package into their cache
    is_snapshot = folder.parent.name == _SNAPSHOTS and (folder.parent.parent / "blobs").is_dir()
    return folder.parent.parent if is_snapshot else folder


def _file_error(folder: Path, name: str, error: OSError) -> ModelDamagedError | ModelNotFoundError:
    if isinstance(error, UnsafeFileError):
        return ModelDamagedError(f"{error}; it is not read. Fetch or export the model again.")
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ModelNotFoundError(
            f"The model folder {folder} lacks {name}; fetch or export it again, or set greencode.model."
        )
    return ModelDamagedError(f"{folder / name} cannot be read ({error.strerror or error}); make it readable for you.")

"""Models that were pulled from a hub: what was recorded of each, which there are, whether their files still agree."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from greencode_lsp.errors import HubError, ModelDamagedError, ModelNotFoundError
from greencode_lsp.files import atomic_write
from greencode_lsp.models.contents import MAX_WEIGHT_BYTES, model_file, read_object
from greencode_lsp.models.manifest import sha256
from greencode_lsp.models.store import (
    BUNDLED,
    RECORD_NAME,
    hub_name,
    is_hub_name,
    is_pulled,
    models_home,
    partial_folder,
    pulled_folder,
)


@dataclass(frozen=True, slots=True)
class PullRecord:
    """The parsed `pulled.json`: what a folder was when it had been fetched and checked."""

    name: str
    commit: str
    """The hub's commit that the files are of."""
    files: dict[str, str] = field(default_factory=dict)
    """File name -> SHA-256."""


def read_record(folder: Path) -> PullRecord | None:
    """Return what was recorded, or None for a folder that was not pulled. Raises ModelDamagedError."""
    path = folder / RECORD_NAME
    if not os.path.lexists(path):
        return None
    try:
        record = PullRecord(**read_object(folder, RECORD_NAME))
    except (TypeError, ModelDamagedError) as error:
        raise ModelDamagedError(f"{path} cannot be read ({error}); remove the model and pull it again.") from error
    texts = (record.name, record.commit, *(record.files.values() if isinstance(record.files, dict) else (None,)))
    if not all(isinstance(text, str) and text.isprintable() for text in texts):
        raise ModelDamagedError(f"{path} holds what is no text; remove the model and pull it again.")
    return record


def write_record(folder: Path, record: PullRecord) -> None:
    """Write `pulled.json`; a reader sees all of it or none."""
    atomic_write(folder / RECORD_NAME, json.dumps(asdict(record), indent=1).encode(), mode=0o644)


def check(folder: Path, record: PullRecord) -> None:
    """Compare every file with what was recorded. Raises ModelNotFoundError or ModelDamagedError."""
    for name, expected in record.files.items():
        again = f"run `greencode-lsp models remove {record.name}` and pull it again"
        if not os.path.lexists(folder / name):
            raise ModelNotFoundError(f"The pulled model {record.name} lacks {name}; {again}.")
        if sha256(model_file(folder, name, MAX_WEIGHT_BYTES)) != expected:
            raise ModelDamagedError(f"{folder / name} is damaged (its SHA-256 differs); {again}.")


def pulled_names() -> list[str]:
    """Return the names of the models that are here and whole."""
    return [name for name in _names(models_home()) if is_pulled(name)]


def partial_names() -> list[str]:
    """Return the names of those whose download has begun and not ended."""
    return _names(models_home() / ".partial")


def _names(parent: Path) -> list[str]:
    names = (hub_name(folder) for folder in parent.iterdir() if folder.is_dir()) if parent.is_dir() else ()
    return sorted(name for name in names if is_hub_name(name))


def remove(name: str) -> int:
    """Delete a pulled model, or what is there of one; return the bytes that are free now.

    Raises HubError for the bundled model, for what was never pulled, and where the disk does not let it go.
    """
    if name == BUNDLED:
        raise HubError("The bundled model is part of greencode-lsp and cannot be removed.")
    folders = [folder for folder in (pulled_folder(name), partial_folder(name)) if is_hub_name(name)]
    present = [folder for folder in folders if folder.is_dir() or folder.is_symlink()]
    if not present:
        known = ", ".join([*pulled_names(), *partial_names()]) or "none"
        raise HubError(f"No model {name!r} was pulled; there is {known}.")
    freed = sum(size(folder) for folder in present if not folder.is_symlink())
    try:
        for folder in present:
            delete(folder)
    except OSError as error:
        what, why = error.filename or name, error.strerror or error
        raise HubError(f"{what} cannot be deleted ({why}); close what uses it.") from error
    return freed


def delete(folder: Path) -> None:
    """Delete a model's folder; of a link the link alone, for what it leads to is the user's. Raises OSError."""
    if folder.is_symlink():
        folder.unlink()
        return
    (folder / RECORD_NAME).unlink(missing_ok=True)  # first: half a model is none
    shutil.rmtree(folder)


def size(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())

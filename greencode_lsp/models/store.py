"""Where models and the user's data lie: the bundled model in the package, the rest in one home folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.files import make_private
from greencode_lsp.models.catalogue import CatalogueModel, named
from greencode_lsp.models.places import OLLAMA, Places, is_gguf

BUNDLED = "bundled"
AUTO = "auto"
"""Not a model: the best one for this machine (models/choice.py)."""
HOME_VARIABLE = "GREENCODE_HOME"
RECORD_NAME = "pulled.json"
"""Written last into a pulled folder: where it is, the folder is whole."""
MAX_NAME = 200
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_PATH_STARTS = ("~", f".{os.sep}", f"..{os.sep}", "./", "../")
_SLASH = "--"
"""Stands for the slash of a hub name in a folder's; the hub allows it in no name."""


def data_home() -> Path:
    """Return the folder of the user's data: `GREENCODE_HOME`, else the platform's; it may not exist yet.

    A relative one lies in the user's folder: the current one may be a workspace.
    """
    override = os.environ.get(HOME_VARIABLE)
    if not override:
        return platformdirs.user_data_path("greencode-lsp", appauthor=False)
    return Path.home() / Path(override).expanduser()


def ledger_path() -> Path:
    """Return where the energy ledger lies."""
    return data_home() / "ledger.sqlite"


def bundled_folder() -> Path:
    """Return the folder of the model inside the package."""
    return Path(__file__).parent / BUNDLED


def models_home() -> Path:
    """Return the folder of the pulled models; it may not exist yet."""
    return data_home() / "models"


def is_hub_name(name: str) -> bool:
    """Return True where a hub could know `name`: `owner/name`, or an old one without an owner."""
    is_safe = len(name) <= MAX_NAME and _SLASH not in name and ".." not in name and name not in (BUNDLED, AUTO)
    return is_safe and _HUB_NAME.fullmatch(name) is not None


def pulled_folder(name: str) -> Path:
    """Return where the hub model `name` lies once it is pulled."""
    return models_home() / name.replace("/", _SLASH)


def partial_folder(name: str) -> Path:
    """Return where the hub model `name` lies while it is pulled; no hub name begins with a dot."""
    return models_home() / ".partial" / name.replace("/", _SLASH)


def hub_name(folder: Path) -> str:
    """Return the hub name of a pulled or partial folder."""
    return folder.name.replace(_SLASH, "/")


def is_pulled(name: str) -> bool:
    """Return True where the hub model `name` is here and whole."""
    return is_hub_name(name) and (pulled_folder(name) / RECORD_NAME).is_file()


def move_out_of_workspace() -> None:
    """Make a folder of the server's own the current one: no relative name leads into what the editor has opened."""
    try:
        os.chdir(make_private(data_home() / "run"))
    except OSError:
        os.chdir(os.sep)


def is_path(model: str) -> bool:
    """Return True where `model` is written as a path: absolute, from `~` or from `./`; anything else is a name."""
    return model.startswith(_PATH_STARTS) or Path(model).is_absolute()


def resolve(model: str) -> Path:
    """Return the checkpoint folder or GGUF file that `greencode.model` names: see `_by_name`, else a path.

    A name is never looked for in the current folder, which may be a workspace (I8). Raises ModelNotFoundError
    where there is no such model.
    """
    path = _by_name(model) or _gguf_at(model)
    if path is not None:
        return path
    folder = bundled_folder() if model == BUNDLED else Path(model)
    try:
        folder = folder.expanduser()
        is_checkpoint = (model == BUNDLED or is_path(model)) and (folder / "config.json").is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a zero byte, or the home of nobody
        is_checkpoint = False
    if is_checkpoint:
        return folder
    if is_hub_name(model) and partial_folder(model).is_dir():
        raise ModelNotFoundError(
            f"The model {model} is not whole yet; run `greencode-lsp models pull {model}` again, or set "
            f'greencode.model to "{BUNDLED}".'
        )
    pull = f", or pull it first: `greencode-lsp models pull {model}`" if is_hub_name(model) and "/" in model else ""
    if not is_path(model):
        raise ModelNotFoundError(
            f'No model {model!r} was pulled; set greencode.model to "{BUNDLED}" or to the path of a checkpoint folder '
            f"(absolute, or from ~ or ./){pull}."
        )
    raise ModelNotFoundError(
        f"There is no model in {str(folder)!r} (no config.json); "
        f'set greencode.model to "{BUNDLED}" or to a checkpoint folder{pull}.'
    )


def _by_name(model: str) -> Path | None:
    """Return a pulled model, the catalogue's first one that is here, or `ollama:NAME[:TAG]`; None for another word."""
    if is_pulled(model):
        return _checkpoint_in(pulled_folder(model))
    if model.startswith(OLLAMA):
        return Places.here().resolve_ollama(model.removeprefix(OLLAMA))
    offered = named(model)
    for one in offered:
        path = installed(one)
        if path is not None:
            return path
    if offered and not any(partial_folder(one.name).is_dir() for one in offered):
        raise ModelNotFoundError(
            f"The model {model} is not here yet; run `greencode-lsp models pull {model}`, or set greencode.model to "
            f'"{AUTO}".'
        )
    if offered:
        raise ModelNotFoundError(f"The model {model} is not whole yet; run `greencode-lsp models pull {model}` again.")
    return None


def installed(model: CatalogueModel) -> Path | None:
    """Return the file of a model of the catalogue: pulled, or kept under its hash by another program; else None."""
    if is_pulled(model.name):
        return _checkpoint_in(pulled_folder(model.name))
    return Places.here().file_of(model)


def _checkpoint_in(folder: Path) -> Path:
    """Return a pulled folder, or the GGUF file that is all of it."""
    files = sorted(folder.glob("*.gguf"))
    return files[0] if len(files) == 1 and not (folder / "config.json").exists() else folder


def _gguf_at(model: str) -> Path | None:
    """Return the GGUF file at a path; None for what is not written as the path of one. Raises ModelNotFoundError."""
    if not is_path(model) or not model.lower().endswith(".gguf"):
        return None
    try:
        path = Path(model).expanduser()
        is_one, is_folder = is_gguf(path), path.is_dir()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a zero byte, or the home of nobody
        return None
    if not is_one and not is_folder:
        raise ModelNotFoundError(
            f"{str(path)!r} is no GGUF file (a regular file that begins with GGUF); set greencode.model to one, or to "
            f'"{AUTO}".'
        )
    return path if is_one else None

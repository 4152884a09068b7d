"""Where models and the user's data lie: the bundled model in the package, the rest in one home folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from greencode_lsp.errors import ModelNotFoundError

BUNDLED = "bundled"
HOME_VARIABLE = "GREENCODE_HOME"


def data_home() -> Path:
    """Return the folder of the user's data: `GREENCODE_HOME`, else the platform's; it may not exist yet."""
    override = os.environ.get(HOME_VARIABLE)
    return Path(override).expanduser() if override else platformdirs.user_data_path("greencode-lsp", appauthor=False)


def ledger_path() -> Path:
    """Return where the energy ledger lies."""
    return data_home() / "ledger.sqlite"


def bundled_folder() -> Path:
    """Return the folder of the model inside the package."""
    return Path(__file__).parent / BUNDLED


def resolve(model: str) -> Path:
    """Return the checkpoint folder that `greencode.model` names: "bundled" or a folder's path.

    Raises ModelNotFoundError where it is missing or is no checkpoint folder.
    """
    folder = bundled_folder() if model == BUNDLED else Path(model)
    try:
        folder = folder.expanduser()
        is_checkpoint = (folder / "config.json").is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a zero byte, or the home of nobody
        is_checkpoint = False
    if not is_checkpoint:
        raise ModelNotFoundError(
            f"There is no model in {str(folder)!r} (no config.json); "
            f'set greencode.model to "{BUNDLED}" or to a checkpoint folder.'
        )
    return folder

"""Reading weights: safetensors by name, int8 rows with scales turned back into floats.

A bundled folder may store a matrix as int8 `name` [out, in] with float32 `name.scale` [out], one scale per row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError

SCALE_SUFFIX = ".scale"


def read_config(folder: Path) -> dict[str, Any]:
    """Return `config.json`. Raises ModelNotFoundError or ModelDamagedError."""
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"The model folder {folder} has no config.json; set greencode.model.") from error
    except ValueError as error:
        raise ModelDamagedError(f"{path} is not JSON ({error}); fetch or export the model again.") from error
    if not isinstance(config, dict):
        raise ModelDamagedError(f"{path} holds no object; fetch or export the model again.")
    return config


class Weights:
    """The tensors of a folder's `model*.safetensors`, by name, one at a time, in one dtype on one device.

    A file is open while one tensor of it is copied, never longer: mapped pages count as memory, and a file replaced
    under a running engine must not change its weights.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, device: str) -> None:
        paths = sorted(folder.glob("model*.safetensors"))
        if not paths:
            raise ModelNotFoundError(f"The model folder {folder} has no model*.safetensors; set greencode.model.")
        self._folder, self._dtype, self._device = folder, dtype, device
        self._path_of: dict[str, Path] = {}
        try:
            for path in paths:
                with safe_open(str(path), "pt") as file:
                    self._path_of |= dict.fromkeys(file.keys(), path)
        except (SafetensorError, OSError) as error:
            raise ModelDamagedError(f"The weights in {folder} cannot be read ({error}); fetch them again.") from error

    def __contains__(self, name: str) -> bool:
        return name in self._path_of

    def names(self) -> list[str]:
        """Return the tensors' names, scales left out."""
        return [name for name in self._path_of if not name.endswith(SCALE_SUFFIX)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, read off the file's header."""
        with safe_open(str(self._path_of[name]), "pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def __call__(self, name: str) -> Tensor:
        """Return a copy of the tensor. Raises ModelDamagedError where the checkpoint lacks it."""
        if name not in self._path_of:
            raise ModelDamagedError(f"The checkpoint in {self._folder} lacks the tensor {name}; fetch it again.")
        with safe_open(str(self._path_of[name]), "pt") as file:
            stored: Tensor = file.get_tensor(name)
            if stored.dtype != torch.int8:
                return stored.to(self._device, self._dtype, copy=True)
        scale = self._scale(name)
        return (stored.float() * scale[:, None]).to(self._device, self._dtype)

    def _scale(self, name: str) -> Tensor:
        with safe_open(str(self._path_of[name + SCALE_SUFFIX]), "pt") as file:
            scale: Tensor = file.get_tensor(name + SCALE_SUFFIX)
        return scale

    def optional(self, name: str) -> Tensor | None:
        """Return the tensor, or None where the checkpoint has none."""
        return self(name) if name in self else None

    def expect_no_more(self, prefix: str, count: int) -> None:
        """Raise ModelDamagedError where layers named `prefix` + number go on: half a model emits text too."""
        if any(name.startswith(f"{prefix}{count}.") for name in self._path_of):
            raise ModelDamagedError(f"{self._folder} holds more than the {count} layers its config.json states.")

    def rows(self, *names: str) -> Tensor:
        """Return several matrices (or biases) stacked along their output rows: one operation where there were three."""
        return torch.cat([self(name) for name in names])

    def optional_rows(self, *names: str) -> Tensor | None:
        """Return `rows`, or None where the checkpoint has none of them."""
        return self.rows(*names) if names[0] in self else None

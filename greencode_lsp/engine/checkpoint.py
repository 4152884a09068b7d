"""Reading weights: safetensors by name; int8 rows with scales are kept or turned back into floats.

A bundled folder may store a matrix as int8 `name` [out, in] with float32 `name.scale` [out], one scale per row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from greencode_lsp.engine.quantize import Int8Matrix, Matrix, quantise_rows, stack
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

    With `int8` what `matrix` returns stays int8, or is quantised by rows where it was stored as floats.

    A file is open while one tensor of it is copied, never longer: mapped pages count as memory, and a file replaced
    under a running engine must not change its weights.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, device: str, *, int8: bool = False) -> None:
        paths = sorted(folder.glob("model*.safetensors"))
        if not paths:
            raise ModelNotFoundError(f"The model folder {folder} has no model*.safetensors; set greencode.model.")
        self._folder, self.dtype, self._device, self._keep_int8 = folder, dtype, device, int8
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
                return stored.to(self._device, self.dtype, copy=True)
        scale = self._scale(name)
        return (stored.float() * scale[:, None]).to(self._device, self.dtype)

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

    def matrix(self, *names: str) -> Matrix:
        """Return several matrices stacked along their output rows, in int8 where `int8` was asked for."""
        return stack([self._int8(name) if self._keep_int8 else self(name) for name in names])

    def optional_matrix(self, name: str) -> Matrix | None:
        """Return the matrix, or None where the checkpoint has none."""
        return self.matrix(name) if name in self else None

    def biases(self, *names: str) -> Tensor | None:
        """Return several biases one after the other, or None where the checkpoint has none of them."""
        return torch.cat([self(name) for name in names]) if names[0] in self else None

    def _int8(self, name: str) -> Int8Matrix:
        if name in self:
            with safe_open(str(self._path_of[name]), "pt") as file:
                stored: Tensor = file.get_tensor(name)
                if stored.dtype == torch.int8:
                    return Int8Matrix(stored.to(self._device, copy=True), self._scale(name).to(self._device))
        return Int8Matrix(*quantise_rows(self(name)))

"""Reading weights: safetensors by name, int8 rows with scales turned back into floats.

A bundled folder may store a matrix as int8 `name` [out, in] with float32 `name.scale` [out], one scale per row.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
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
    """The tensors of a folder's `model*.safetensors`, by name, one at a time, in one dtype on one device."""

    def __init__(self, folder: Path, dtype: torch.dtype, device: str) -> None:
        paths = sorted(folder.glob("model*.safetensors"))
        if not paths:
            raise ModelNotFoundError(f"The model folder {folder} has no model*.safetensors; set greencode.model.")
        self._folder, self._dtype, self._device = folder, dtype, device
        try:
            self._files: list[Any] = [safe_open(str(path), "pt") for path in paths]
        except (SafetensorError, OSError) as error:
            raise ModelDamagedError(f"The weights in {folder} cannot be read ({error}); fetch them again.") from error
        self._file_of = {name: file for file in self._files for name in file.keys()}  # noqa: SIM118  # not a dict

    def __enter__(self) -> Weights:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file_of.clear()
        self._files.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def names(self) -> list[str]:
        """Return the tensors' names, scales left out."""
        return [name for name in self._file_of if not name.endswith(SCALE_SUFFIX)]

    def __call__(self, name: str) -> Tensor:
        """Return the tensor. Raises ModelDamagedError where the checkpoint lacks it."""
        if name not in self._file_of:
            raise ModelDamagedError(f"The checkpoint in {self._folder} lacks the tensor {name}; fetch it again.")
        tensor: Tensor = self._file_of[name].get_tensor(name)
        if tensor.dtype == torch.int8:
            scale: Tensor = self._file_of[name + SCALE_SUFFIX].get_tensor(name + SCALE_SUFFIX)
            tensor = tensor.float() * scale[:, None]
        return tensor.to(self._device, self._dtype)

    def optional(self, name: str) -> Tensor | None:
        """Return the tensor, or None where the checkpoint has none."""
        return self(name) if name in self else None

    def expect_no_more(self, prefix: str, count: int) -> None:
        """Raise ModelDamagedError where layers named `prefix` + number go on: half a model emits text too."""
        if any(name.startswith(f"{prefix}{count}.") for name in self._file_of):
            raise ModelDamagedError(f"{self._folder} holds more than the {count} layers its config.json states.")

    def rows(self, *names: str) -> Tensor:
        """Return several matrices (or biases) stacked along their output rows: one operation where there were three."""
        return torch.cat([self(name) for name in names])

    def optional_rows(self, *names: str) -> Tensor | None:
        """Return `rows`, or None where the checkpoint has none of them."""
        return self.rows(*names) if names[0] in self else None

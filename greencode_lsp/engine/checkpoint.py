"""Weights of a folder: safetensors by name; a bundled matrix may be stored in 8 or 4 bits.

In 8 bits it is int8 `name` [O, K] with float32 `name.scale` [O], one scale per row. In 4 bits it is uint8 `name`
[O, B, 16], two values of a block to a byte, with float16 `name.scale` [O, B] and uint8 `name.zero` [O, (B + 1) / 2]:
what `quantize.packed` makes of blocks, so that a precision of 4 bits computes with what is stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # numpy's bfloat16, in which many folders are published
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from greencode_lsp.engine.quantize import unpacked, widened
from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError
from greencode_lsp.models.contents import MAX_WEIGHT_BYTES, model_file, read_object
from greencode_lsp.models.manifest import sha256
from greencode_lsp.models.weights import BLOCK_SIZE, QuantizedBlocks

SCALE_SUFFIX, ZERO_SUFFIX = ".scale", ".zero"
HASHED_BYTES = 64 << 20
"""Of weights that are hashed whole at every start."""
_CENTRE = 128
"""The zero point that makes int8 of an unsigned byte."""


def read_config(folder: Path) -> dict[str, Any]:
    """Return `config.json`. Raises ModelNotFoundError or ModelDamagedError."""
    return read_object(folder, "config.json")


class Weights:
    """See `WeightSource`: the tensors of a folder's `model*.safetensors`.

    A file is open while one tensor of it is copied, never longer: mapped pages count as memory, and a file replaced
    under a running engine must not change its weights.
    """

    def __init__(self, folder: Path) -> None:
        self.config = read_config(folder)
        names = sorted(path.name for path in folder.glob("model*.safetensors"))
        if not names:
            raise ModelNotFoundError(f"The model folder {folder} has no model*.safetensors; set greencode.model.")
        self._paths = [model_file(folder, name, MAX_WEIGHT_BYTES) for name in names]
        self._folder = folder
        self._path_of: dict[str, Path] = {}
        self._shape_of: dict[str, tuple[int, ...]] = {}
        for path in self._paths:
            with self._open(path) as file:
                for name in file.keys():  # noqa: SIM118  # not a dict
                    stored = file.get_slice(name)
                    self._path_of[name] = path
                    self._shape_of[name] = _shape(tuple(stored.get_shape()), stored.get_dtype())

    @contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        try:
            with safe_open(str(path), "np") as file:
                yield file
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise ModelDamagedError(f"The weights in {path} cannot be read ({error}); fetch them again.") from error

    def _path(self, name: str) -> Path:
        if name not in self._path_of:
            raise ModelDamagedError(f"The checkpoint in {self._folder} lacks the tensor {name}; fetch it again.")
        return self._path_of[name]

    def digest(self) -> str:
        """Return the SHA-256 over the config and the weight files."""
        digest = hashlib.sha256((self._folder / "config.json").read_bytes())
        for path in self._paths:
            digest.update(sha256(path).encode())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Return the digest of a small checkpoint; of a large one a hash over config, file sizes and times."""
        statuses = [path.stat() for path in self._paths]
        if sum(status.st_size for status in statuses) <= HASHED_BYTES:
            return self.digest()
        known = [(path.name, s.st_size, s.st_mtime_ns, s.st_ino) for path, s in zip(self._paths, statuses, strict=True)]
        return hashlib.sha256(json.dumps([self.config, known], sort_keys=True).encode()).hexdigest()

    def names(self) -> list[str]:
        """Return the tensors' names, scales and zero points left out."""
        return [name for name in self._path_of if not name.endswith((SCALE_SUFFIX, ZERO_SUFFIX))]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, read off the file's header."""
        self._path(name)
        return self._shape_of[name]

    def _stored(self, name: str) -> NDArray[Any]:
        with self._open(self._path(name)) as file:
            stored: NDArray[Any] = file.get_tensor(name)
        return stored

    def float32(self, name: str) -> NDArray[np.float32]:
        """Return a copy of the tensor, rounded weights multiplied with their scales."""
        stored = self._stored(name)
        if stored.dtype == np.int8:
            return stored.astype(np.float32) * self._scales(name, self.shape(name)[:1])[:, None]
        if stored.dtype == np.uint8:
            return self._four_bits(name, stored).float32()
        if stored.dtype.kind not in "fV":  # V: numpy's bfloat16 of another library
            raise ModelDamagedError(f"{self._path(name)} holds {name} as {stored.dtype}; fetch the model again.")
        return stored.astype(np.float32)

    def _scales(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        scales = self._stored(name + SCALE_SUFFIX)
        if scales.dtype not in (np.float32, np.float16) or scales.shape != shape or len(self.shape(name)) != 2:
            raise ModelDamagedError(f"{self._path(name)} holds {name} with other scales; fetch the model again.")
        return scales.astype(np.float32)

    def _four_bits(self, name: str, stored: NDArray[np.uint8]) -> QuantizedBlocks:
        zero, rows = self._stored(name + ZERO_SUFFIX), stored.shape[:2]
        shapes = (rows[0], -(-rows[1] // 2)), (BLOCK_SIZE // 2,)
        if zero.dtype != np.uint8 or (zero.shape, stored.shape[2:]) != shapes:
            raise ModelDamagedError(f"{self._path(name)} holds {name} in other blocks; fetch the model again.")
        return unpacked(stored, self._scales(name, rows), zero)

    def blocks(self, name: str, bits: int = 8) -> QuantizedBlocks | None:
        """See `WeightSource`: 4-bit blocks, or int8 rows of whole blocks, each with its row's scale."""
        stored = self._stored(name)
        if stored.dtype == np.uint8:
            narrow = self._four_bits(name, stored)
            return narrow if bits == 4 else widened(narrow)
        if bits < 8 or stored.dtype != np.int8 or stored.shape[1] % BLOCK_SIZE:
            return None
        scale = self._scales(name, self.shape(name)[:1])
        values = (stored.astype(np.int16) + _CENTRE).astype(np.uint8).reshape(len(stored), -1, BLOCK_SIZE)
        shape = values.shape[:2]
        return QuantizedBlocks(values, np.repeat(scale[:, None], shape[1], axis=1), np.full(shape, _CENTRE, np.uint8))


def _shape(stored: tuple[int, ...], dtype: str) -> tuple[int, ...]:
    """Return a tensor's own shape: three dimensions of bytes are a matrix in 4 bits."""
    if dtype == "U8" and len(stored) == 3:
        return stored[0], stored[1] * BLOCK_SIZE
    return stored

"""Where weights enter: one protocol for every file format, under the names and config keys of Hugging Face.

Letters: O output rows, K inputs, B blocks of a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZE = 32
"""Weights of a row that share a scale and a zero point."""


@dataclass(frozen=True, slots=True)
class QuantizedBlocks:
    """A matrix [O, K] in blocks along K: weight = scale * (value - zero)."""

    values: NDArray[np.uint8]
    """[O, B, block size]; 0 .. 2**bits - 1."""
    scale: NDArray[np.float32]
    """[O, B]"""
    zero: NDArray[np.uint8]
    """[O, B]"""
    bits: int = 8

    @property
    def shape(self) -> tuple[int, int]:
        """(O, K)."""
        rows, blocks, size = self.values.shape
        return rows, blocks * size

    def float32(self) -> NDArray[np.float32]:
        """Return the matrix [O, K]."""
        centred = self.values.astype(np.float32) - self.zero[:, :, None]
        return (centred * self.scale[:, :, None]).reshape(self.shape)


class WeightSource(Protocol):
    """The tensors of one checkpoint, read one at a time.

    Names are Hugging Face's (`model.layers.0.self_attn.q_proj.weight`), in its layout of rows; `config` has its keys
    (`model_type`, `hidden_size`, ...), whatever the file's own are. Every method raises ModelDamagedError for a tensor
    that the file lacks or cannot yield.
    """

    config: dict[str, Any]

    def digest(self) -> str:
        """Return the SHA-256, in hex, that identifies the weights and the config."""
        ...

    def fingerprint(self) -> str:
        """Return what names a cache of things made from the weights: other weights have another; milliseconds."""
        ...

    def names(self) -> Iterable[str]:
        """Return the names of all tensors."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, read off a header."""
        ...

    def float32(self, name: str) -> NDArray[np.float32]:
        """Return a tensor."""
        ...

    def blocks(self, name: str, bits: int = 8) -> QuantizedBlocks | None:
        """Return a matrix in blocks of `BLOCK_SIZE` equal to what the file holds; None where `bits` cannot hold it."""
        ...

"""Matrices in blocks of 4 or 8 bits: what is stored exactly stays so, the rest is rounded to the nearest.

Letters: O output rows, K inputs, B blocks of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.models.weights import BLOCK_SIZE, QuantizedBlocks, WeightSource

Precision = Literal["int4", "mixed", "int8", "float32"]
"""`mixed`: the matrices before the activation (gate and up, two thirds of a layer) in 4 bits, all others in 8."""
Role = Literal["attention", "up", "down", "head", "embedding", "exit"]
WIDE_ROLES: tuple[Role, ...] = ("embedding", "exit")
"""Never in 4 bits: an embedding is looked up, not multiplied, and an exit's head is small beside a layer."""
ROWS_AT_ONCE = 4096
SHRINKS = (1.0, 0.93, 0.86)
"""Shares of a block's range that its 16 steps are spread over; the one with the least squared error is taken."""


def bits_of(precision: Precision, role: Role) -> int | None:
    """Return the bits of a weight; None for float32."""
    if precision == "float32":
        return None
    is_narrow = (precision == "int4" and role not in WIDE_ROLES) or (precision == "mixed" and role == "up")
    return 4 if is_narrow else 8


def read_blocks(source: WeightSource, name: str, bits: int) -> QuantizedBlocks:
    """Return a matrix in blocks of so many bits, exactly what the file holds where they can hold it."""
    exact = source.blocks(name, bits)
    return round_to_blocks(source.float32(name), bits) if exact is None else exact


def round_to_blocks(matrix: NDArray[np.float32], bits: int) -> QuantizedBlocks:
    """Return [O, K] in blocks, K padded with zeros to whole blocks.

    8 bits are symmetric about 128 (no zero points to multiply), 4 bits have a zero point and the best of SHRINKS.
    """
    rows, inputs = matrix.shape
    blocks = -(-inputs // BLOCK_SIZE)
    values = np.empty((rows, blocks, BLOCK_SIZE), np.uint8)
    scale, zero = np.empty((rows, blocks), np.float32), np.empty((rows, blocks), np.uint8)
    for part, block in _blocks(matrix, blocks):
        rounded = _symmetric(block) if bits == 8 else _asymmetric(block, 2**bits - 1)
        values[part], scale[part], zero[part] = rounded
    return QuantizedBlocks(values, scale, zero, bits)


def _blocks(matrix: NDArray[np.float32], blocks: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield some rows at a time [n, B, block size]: a large matrix is never held twice."""
    for start in range(0, len(matrix), ROWS_AT_ONCE):
        part = matrix[start : start + ROWS_AT_ONCE]
        padded = np.pad(part, ((0, 0), (0, blocks * BLOCK_SIZE - part.shape[1])))
        yield slice(start, start + len(part)), padded.reshape(len(part), blocks, BLOCK_SIZE)


_Rounded = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]


def _symmetric(block: NDArray[np.float32]) -> _Rounded:
    scale = np.maximum(np.abs(block).max(-1), 1e-10) / 127
    values = np.rint(block / scale[..., None]) + 128
    return values.astype(np.uint8), scale.astype(np.float32), np.full(scale.shape, 128, np.uint8)


def _asymmetric(block: NDArray[np.float32], steps: int) -> _Rounded:
    low, high = np.minimum(block.min(-1), 0.0), np.maximum(block.max(-1), 0.0)
    best: _Rounded | None = None
    least = np.full(low.shape, np.inf, np.float32)
    for shrink in SHRINKS:
        scale = np.maximum((high - low) * shrink / steps, 1e-10).astype(np.float32)
        zero = np.clip(np.rint(-low * shrink / scale), 0, steps)
        values = np.clip(np.rint(block / scale[..., None]) + zero[..., None], 0, steps)
        error = np.square((values - zero[..., None]) * scale[..., None] - block).sum(-1)
        rounded = (values.astype(np.uint8), scale, zero.astype(np.uint8))
        if best is None:
            best, least = rounded, error
            continue
        is_better = error < least
        least = np.where(is_better, error, least)
        best = (
            np.where(is_better[..., None], rounded[0], best[0]),
            np.where(is_better, rounded[1], best[1]),
            np.where(is_better, rounded[2], best[2]),
        )
    assert best is not None, "there are shrinks"
    return best


def stack(parts: list[QuantizedBlocks]) -> QuantizedBlocks:
    """Return matrices of one width stacked along their output rows."""
    if len(parts) == 1:
        return parts[0]
    return QuantizedBlocks(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.scale for part in parts]),
        np.concatenate([part.zero for part in parts]),
        parts[0].bits,
    )


def packed(blocks: QuantizedBlocks) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return values [O, B, block size * bits / 8] and zero points as `MatMulNBits` reads them.

    4-bit values are two to a byte; no zero points where all are the middle.
    """
    middle = 2 ** (blocks.bits - 1)
    zero = None if bool((blocks.zero == middle).all()) else blocks.zero
    if blocks.bits == 8:
        return blocks.values, zero
    return pairs(blocks.values), None if zero is None else paired_zeros(zero)


def paired_zeros(zero: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 4-bit zero points [O, B] two to a byte [O, (B + 1) / 2]."""
    return pairs(np.pad(zero, ((0, 0), (0, zero.shape[1] % 2)), constant_values=8))


def unpacked(values: NDArray[np.uint8], scale: NDArray[np.float32], zero: NDArray[np.uint8]) -> QuantizedBlocks:
    """Return 4-bit blocks of paired values [O, B, block size / 2] and zero points [O, (B + 1) / 2]."""
    return QuantizedBlocks(_single(values), scale, _single(zero)[:, : scale.shape[1]], 4)


def widened(blocks: QuantizedBlocks) -> QuantizedBlocks:
    """Return 8-bit blocks of the same weights, symmetric about 128."""
    middle = np.uint8(128)
    values = blocks.values + (middle - blocks.zero)[:, :, None]
    return QuantizedBlocks(values, blocks.scale, np.full_like(blocks.zero, middle))


def _single(pairs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([pairs & np.uint8(0x0F), pairs >> np.uint8(4)], axis=-1).reshape(*pairs.shape[:-1], -1)


def pairs(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 4-bit values two to a byte, the first in its low half."""
    joined: NDArray[np.uint8] = values[..., 0::2] | np.left_shift(values[..., 1::2], 4, dtype=np.uint8)
    return joined

"""Matrices in int8: a scale per output row for weights, a scale per position for activations.

Integer sums are exact, so that a position's product does not depend on the batch it is computed in (design, I4).
Letters: T positions, O output rows, K inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

STEPS = 127
"""Quantised values lie in -STEPS .. STEPS."""


@dataclass(frozen=True, slots=True)
class Int8Matrix:
    """Weights [O, K] = values * scale."""

    values: Tensor
    """int8 [O, K]"""
    scale: Tensor
    """float32 [O]"""

    def __getitem__(self, rows: slice) -> Int8Matrix:
        """Return some rows, sharing memory."""
        return Int8Matrix(self.values[rows], self.scale[rows])

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.values.device


Matrix = Tensor | Int8Matrix
"""What a linear layer multiplies with."""


def row_scales(matrix: Tensor) -> Tensor:
    """Return the float32 scales [O] that spread each row's largest entry over STEPS."""
    largest = torch.maximum(matrix.amax(dim=1), -matrix.amin(dim=1))  # no second matrix, as abs() would make
    return (largest.clamp_min(1e-8) / STEPS).float()


def quantise_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 [O, K] and float32 scales [O] with matrix = int8 * scale, to half a step per entry."""
    scale = row_scales(matrix)
    return (matrix.float() / scale[:, None]).round_().to(torch.int8), scale


def stack(matrices: list[Matrix]) -> Matrix:
    """Return matrices of one kind stacked along their output rows: one operation where there were several."""
    quantised = [m for m in matrices if isinstance(m, Int8Matrix)]
    if quantised:
        return Int8Matrix(torch.cat([m.values for m in quantised]), torch.cat([m.scale for m in quantised]))
    return torch.cat([m for m in matrices if isinstance(m, Tensor)])


def rows(matrix: Matrix, ids: Tensor) -> Tensor:
    """Return the rows [T, K] of an embedding."""
    if isinstance(matrix, Int8Matrix):
        return matrix.values.index_select(0, ids) * matrix.scale.index_select(0, ids)[:, None]
    return F.embedding(ids, matrix)


def linear(x: Tensor, matrix: Matrix, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b, [T, O] for x [T, K]; for int8 each position of x is quantised by its largest entry."""
    if isinstance(matrix, Tensor):
        return F.linear(x, matrix, bias)
    largest = x.abs().amax(dim=-1, keepdim=True)  # [T, 1]
    inverse = torch.where(largest > 0, STEPS / largest, 0.0)
    quantised = (x * inverse).round().to(torch.int8)
    sums = torch._int_mm(quantised, matrix.values.t())  # [T, O] int32
    y = sums * (largest / STEPS * matrix.scale)
    return y if bias is None else y + bias

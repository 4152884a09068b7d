"""What a model family says of itself, once, for every backend: sizes, arithmetic, and the names of its tensors.

Letters: D hidden size, H query heads, G key/value heads, C head size, I inner size, V vocabulary, W width of the
embedding (D in all families but some OPT models).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_POSITIONS = 4096
"""Positions cached at most, however many the checkpoint allows."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The modules of one layer; what is multiplied with the same input stands together and is stacked by rows."""

    attention_norm: str
    qkv: tuple[str, str, str]
    out: str
    feed_norm: str
    up: tuple[str, ...]
    """(gate, up) in a family that gates."""
    down: str


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder of pre- or post-norm layers with grouped-query attention."""

    family: str
    layers: int
    hidden_size: int
    heads: int
    groups: int
    head_size: int
    inner_size: int
    vocabulary: int
    max_positions: int
    layer: Callable[[int], Layer]
    embedding: str
    """Name of the matrix [V, W]."""
    head: str
    """Name of the matrix [V, W]; `embedding` where they are tied."""
    final_norm: str | None
    """Module; None where the last layer's own norm ends it."""
    layers_at: str
    """What the names of the layers' tensors begin with, up to the number."""
    eps: float = 1e-5
    has_rms_norm: bool = True
    """Else LayerNorm, with a bias."""
    norm_first: bool = True
    is_gated: bool = True
    """silu(gate) * up; else relu(up)."""
    rotation_speeds: tuple[float, ...] | None = None
    """[C / 2] radians a position (RoPE)."""
    positions: str | None = None
    """Name of the table of learned positions [N + `position_offset`, D]."""
    position_offset: int = 0
    project_in: str | None = None
    """Name of the matrix [D, W]."""
    project_out: str | None = None
    """Name of the matrix [W, D]."""

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        """(G, positions, C) of one layer's keys, and of its values."""
        return self.groups, self.max_positions, self.head_size

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's matrices."""
        attention = self.hidden_size * self.head_size * 2 * (self.heads + self.groups)
        return attention + self.hidden_size * self.inner_size * (3 if self.is_gated else 2)

    @property
    def head_weights(self) -> int:
        """Weights of the LM head."""
        return self.vocabulary * self.hidden_size

    def rotations(self, positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return cosines and sines [positions, C / 2]."""
        assert self.rotation_speeds is not None, "a family without RoPE"
        angles = np.arange(positions, dtype=np.float32)[:, None] * np.asarray(self.rotation_speeds, np.float32)
        return np.cos(angles), np.sin(angles)

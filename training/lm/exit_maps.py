"""Affine maps of early exits while a model is trained: what turns an early state to what the LM head reads.

They are begun by least squares, so that an exit's loss begins near what its state can tell, and trained with the model.
What is served is fitted anew on the exported weights (exits/heads.py); these let an exit ask for little of the layers.

Letters: N or T positions, W width of a state as the LM head reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.lm.families import exit_states, to_head

FILE = "exit_maps.safetensors"
"""In a checkpoint of a run, beside the model."""
RIDGE = 1e-3
"""Of the states' mean square, added where they leave a direction open."""


class ExitMaps(nn.Module):
    """One affine map [W, W] for each early exit."""

    def __init__(self, exits: Sequence[int], width: int) -> None:
        super().__init__()
        self.by_exit = nn.ModuleDict({str(layer): nn.Linear(width, width) for layer in exits})

    def forward(self, exit_layer: int, states: Tensor) -> Tensor:
        """Return states [N, W] of an exit as the LM head may read them."""
        mapped: Tensor = self.by_exit[str(exit_layer)](states)
        return mapped


@torch.no_grad()
def begin(maps: ExitMaps, model: Any, rows: NDArray[Any]) -> None:
    """Set the maps to those that come nearest to the last layer's states over rows [B, T + 1], in least squares."""
    exits, last = [int(layer) for layer in maps.by_exit], model.config.num_hidden_layers
    sums: dict[int, tuple[Tensor | float, Tensor | float]] = dict.fromkeys(exits, (0.0, 0.0))
    for row in rows:
        ids = torch.from_numpy(row.astype(np.int64)).to(model.device)[None, :-1]
        *early, target = (to_head(model, s[0]).float() for s in exit_states(model, ids, [*exits, last]))  # [T, W] each
        for layer, states in zip(exits, early, strict=True):
            inputs = torch.cat([states, torch.ones_like(states[:, :1])], dim=1)  # [T, W + 1]
            products, targets = sums[layer]
            sums[layer] = products + inputs.T @ inputs, targets + inputs.T @ target
    for layer, (products, targets) in sums.items():
        assert isinstance(products, Tensor) and isinstance(targets, Tensor), "no rows"
        ridge = RIDGE * products.diagonal().mean() * torch.eye(len(products), device=products.device)
        solved = torch.linalg.solve(products + ridge, targets)  # [W + 1, W]
        linear = cast("nn.Linear", maps.by_exit[str(layer)])
        linear.weight.copy_(solved[:-1].T)
        linear.bias.copy_(solved[-1])

"""One optimiser step's loss, with the logits of a piece of the positions in memory at a time.

With 10 exits and 128 k vocabulary entries the logits of a batch weigh more than the model. Where they do not fit, each
piece is checkpointed: its logits are computed again in the backward pass, for a third more of the head's arithmetic.
(`torch.nn.functional.linear_cross_entropy` knows no distillation; Liger's fused kernels know no CPU.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from training.lm.exit_maps import ExitMaps
from training.lm.families import exit_states, to_head
from training.lm.schedules import Schedule

MAX_LOGITS = {"cpu": 2**27, "cuda": 2**31}
"""Entries alive at a time, by device: 512 MiB and 8 GiB in float32."""
PieceLoss = Callable[[Tensor, Tensor, Tensor, "Tensor | None", float], Tensor]


def piece_loss(states: Tensor, labels: Tensor, head: Tensor, teacher: Tensor | None, distilled: float) -> Tensor:
    """Return the summed loss of positions: states and teacher's states [n, W], labels [n], head [V, W]."""
    log_p = torch.log_softmax(F.linear(states, head).float(), -1)  # [n, V]
    hard = F.nll_loss(log_p, labels, reduction="sum")
    if teacher is None:
        return hard
    with torch.no_grad():
        target = torch.softmax(F.linear(teacher, head).float(), -1)  # [n, V]
    return (1 - distilled) * hard - distilled * (target * log_p).sum()


@dataclass(frozen=True, slots=True)
class Head:
    """The LM head's losses over many positions."""

    weight: Tensor
    """[V, W]"""
    piece: PieceLoss = piece_loss
    max_logits: int = MAX_LOGITS["cpu"]

    def loss(self, states: Tensor, labels: Tensor, teacher: Tensor | None = None, distilled: float = 0.0) -> Tensor:
        """Return the mean loss of states [N, W] on labels [N], and on the teacher's states [N, W] where given."""
        count, size = len(states), max(1, self.max_logits // len(self.weight))
        if count <= size:
            return self.piece(states, labels, self.weight, teacher, distilled) / count
        total = states.new_zeros((), dtype=torch.float32)
        for at in range(0, count, size):
            part = slice(at, at + size)
            target = None if teacher is None else teacher[part]
            total = total + checkpoint(
                self.piece, states[part], labels[part], self.weight, target, distilled, use_reentrant=False
            )
        return total / count


class LiteModel(nn.Module):
    """The training step: a language model in a module whose output is the loss of a schedule."""

    def __init__(
        self, language_model: Any, schedule: Schedule, piece: PieceLoss = piece_loss, maps: ExitMaps | None = None
    ) -> None:
        super().__init__()
        self.language_model, self._schedule, self.piece, self.maps = language_model, schedule, piece, maps

    def forward(self, input_ids: Tensor, step: int) -> Tensor:
        """Return the loss of token sequences [B, T + 1] at an optimiser step."""
        model, terms = self.language_model, self._schedule.terms(step)
        exits, is_mapped = [term.exit_layer for term in terms], self.maps is not None
        states = exit_states(model, input_ids[:, :-1], exits, is_norm_still=is_mapped)
        flat = [to_head(model, s).flatten(0, 1) for s in states]  # [B * T, W] each
        labels, teacher = input_ids[:, 1:].flatten(), flat[-1].detach()
        room = MAX_LOGITS[input_ids.device.type] // len(terms)
        head = Head(model.lm_head.weight, self.piece, room)
        still = Head(head.weight.detach(), self.piece, room)
        loss = torch.zeros((), device=input_ids.device)
        for term, state in zip(terms, flat, strict=True):
            every = slice(None, None, term.stride)
            target = teacher[every] if term.distilled else None
            read, reader = state[every], head
            if self.maps is not None and term is not terms[-1]:
                read, reader = self.maps(term.exit_layer, read), still
            loss = loss + term.weight * reader.loss(read, labels[every], target, term.distilled)
        return loss

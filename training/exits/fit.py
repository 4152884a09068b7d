"""Exit heads fitted on cached states: least squares first, then distilled on the model's own distribution.

The backbone, the final norm and the LM head stay as they are. An exit's head reads u, the state after its layers scaled
to a mean square of one, and says a state y; norm(y) goes through the LM head (models/packs.py). Least squares towards
the direction of the final state is a closed form and a good start; from there the Kullback-Leibler divergence to the
full model's distribution is lowered, forward (p over q: keep all that the model might say) or reverse (q over p: say
nothing that it would not), over a batch's likeliest ids and the most frequent ones. Packages that were not learnt from
say when to stop.

Letters: N positions, D hidden size, R inner size, C candidate ids of a batch, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.state import Vector
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.packs import UNIT_EPS
from greencode_lsp.models.weights import WeightSource
from training.exits.states import States

Kind = Literal["affine", "low-rank", "mlp"]
Direction = Literal["least squares", "forward", "reverse"]
RIDGE = 1e-3
"""Times the mean square of a direction, which is one."""
RANK = 128
BATCH = 512
FREQUENT = 1024
"""Ids that are candidates in every batch."""
LEARNING_RATE = 3e-4
EPOCHS = 4
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Reader:
    """What reads an exit's state: the model's own final norm and LM head, in float32."""

    norm: Tensor | None
    bias: Tensor | None
    eps: float
    head: Tensor
    """[V, D], a projection before it multiplied in."""

    @classmethod
    def of(cls, architecture: Architecture, source: WeightSource) -> Reader:
        """Read them from a checkpoint."""
        head = torch.from_numpy(source.float32(architecture.head))
        if architecture.project_out is not None:
            head = head @ torch.from_numpy(source.float32(architecture.project_out))
        name = architecture.final_norm
        norm = None if name is None else torch.from_numpy(source.float32(name + ".weight"))
        has_bias = name is not None and not architecture.has_rms_norm
        bias = torch.from_numpy(source.float32(f"{name}.bias")) if has_bias else None
        return cls(norm, bias, architecture.eps, head)

    def normalised(self, y: Tensor) -> Tensor:
        """Return [N, D] through the final norm."""
        if self.norm is None:
            return y
        if self.bias is not None:
            return F.layer_norm(y, y.shape[-1:], self.norm, self.bias, self.eps)
        return F.rms_norm(y, y.shape[-1:], self.norm, self.eps)

    def before_norm(self, final: Tensor) -> Tensor:
        """Return states [N, D] that the final norm makes `final` of: what least squares aims at."""
        if self.norm is None:
            return final
        centred = final if self.bias is None else final - self.bias
        return centred / torch.where(self.norm.abs() < UNIT_EPS, torch.ones_like(self.norm), self.norm)


class TrainableHead(nn.Module):
    """An exit's head of some kind, with the names of its tensors in a pack."""

    def __init__(self, kind: Kind, hidden_size: int) -> None:
        super().__init__()
        rank = min(RANK, hidden_size)
        self.kind = kind
        self.map = nn.Linear(hidden_size, hidden_size) if kind != "low-rank" else None
        self.down = nn.Linear(hidden_size, rank, bias=kind == "mlp") if kind != "affine" else None
        self.up = nn.Linear(rank, hidden_size, bias=kind == "low-rank") if kind != "affine" else None
        if self.up is not None:
            nn.init.zeros_(self.up.weight)
            if self.up.bias is not None:
                nn.init.zeros_(self.up.bias)

    def forward(self, u: Tensor) -> Tensor:
        """Return y [N, D] for u [N, D]."""
        y: Tensor = u if self.map is None else self.map(u)
        if self.down is None or self.up is None:
            return y
        inner = self.down(u)
        out: Tensor = y + self.up(F.silu(inner) if self.kind == "mlp" else inner)
        return out

    def tensors(self) -> dict[str, Vector]:
        """Return the tensors by their names in a pack."""
        return {name: tensor.detach().numpy().copy() for name, tensor in self.state_dict().items()}


def least_squares(u: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return W [D, D] and b [D] of the ridge regression of `target` on u, both [N, D]."""
    mean_u, mean_target = u.mean(0), target.mean(0)
    centred = u - mean_u
    gram = centred.T @ centred / len(u) + RIDGE * torch.eye(u.shape[1])
    weight = torch.linalg.solve(gram, centred.T @ (target - mean_target) / len(u)).T
    return weight.contiguous(), mean_target - weight @ mean_u


def started(kind: Kind, u: Tensor, target: Tensor) -> TrainableHead:
    """Return a head whose map is the regression; of a low-rank one the largest directions of it."""
    head = TrainableHead(kind, u.shape[1])
    weight, bias = least_squares(u, target)
    with torch.no_grad():
        if head.map is not None:
            head.map.weight.copy_(weight)
            head.map.bias.copy_(bias)
        elif head.up is not None and head.down is not None:
            left, size, right = torch.linalg.svd(weight - torch.eye(len(weight)))
            rank = head.down.weight.shape[0]
            root = size[:rank].sqrt()
            head.up.weight.copy_(left[:, :rank] * root)
            head.down.weight.copy_(root[:, None] * right[:rank])
            head.up.bias.copy_(bias)
    return head


def divergence(direction: Direction, p_log: Tensor, q_log: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of log-probabilities [N, C]."""
    first, second = (p_log, q_log) if direction == "forward" else (q_log, p_log)
    return (first.exp() * (first - second)).sum(-1).mean()


@dataclass(frozen=True, slots=True)
class Data:
    """States of one exit and what the full model says there."""

    u: Tensor
    """[N, D]"""
    final: Tensor
    """[N, D]"""
    top_ids: Tensor
    """[N, K]"""

    @classmethod
    def of(cls, states: States, exit_index: int) -> Data:
        """Take one exit's states out of a cache."""
        return cls(
            torch.from_numpy(states.hidden[:, exit_index].astype(np.float32)),
            torch.from_numpy(states.final.astype(np.float32)),
            torch.from_numpy(states.top_ids.astype(np.int64)),
        )

    def __len__(self) -> int:
        return len(self.u)


class Distiller:
    """Fits the heads of a model's exits."""

    def __init__(
        self, reader: Reader, frequent: NDArray[np.int64], shortlist: NDArray[np.int64], seed: int = 0
    ) -> None:
        self._reader, self._frequent = reader, torch.from_numpy(frequent[:FREQUENT])
        self.shortlist = shortlist
        self._shortlist = torch.from_numpy(shortlist)
        self._short = reader.head[self._shortlist].to(torch.bfloat16)
        self._generator = torch.Generator().manual_seed(seed)

    def fit(
        self,
        kind: Kind,
        direction: Direction,
        train: Data,
        validation: Data,
        epochs: int = EPOCHS,
        learning_rate: float = LEARNING_RATE,
    ) -> TrainableHead:
        """Return the head of least divergence on the validation states. Raises CorpusError where it is not finite."""
        head = started(kind, train.u, self._reader.before_norm(train.final))
        if direction == "least squares":
            return head
        optimizer = torch.optim.AdamW(head.parameters(), learning_rate, weight_decay=0.0)
        steps = epochs * -(-len(train) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        best, kept = self.loss(head, direction, validation), head.tensors()
        for epoch in range(epochs):
            order = torch.randperm(len(train), generator=self._generator)
            for start in range(0, len(train), BATCH):
                loss = self._loss(head, direction, train, order[start : start + BATCH])
                if not math.isfinite(loss.item()):
                    raise CorpusError(
                        f"The loss of the {kind} exit is {loss.item()}; the cached states are no numbers."
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch types it not
                optimizer.step()
                schedule.step()
            loss_there = self.loss(head, direction, validation)
            print(
                f"  {kind}, {direction}, epoch {epoch + 1}: {loss_there:.4f} on other packages, best {best:.4f}",
                flush=True,
            )
            if loss_there >= best:
                break
            best, kept = loss_there, head.tensors()
        head.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in kept.items()})
        return head

    @torch.no_grad()
    def loss(self, head: TrainableHead, direction: Direction, data: Data) -> float:
        """Return the mean divergence over all of the data."""
        parts = [torch.arange(start, min(start + BATCH, len(data))) for start in range(0, len(data), BATCH)]
        sums = [self._loss(head, direction, data, rows).item() * len(rows) for rows in parts]
        return sum(sums) / len(data)

    def _loss(self, head: TrainableHead, direction: Direction, data: Data, rows: Tensor) -> Tensor:
        ids = torch.cat([data.top_ids[rows].flatten(), self._frequent]).unique()  # type: ignore[no-untyped-call]  # torch types it not
        matrix = self._reader.head[ids].to(torch.bfloat16)
        with torch.no_grad():
            p_log = (data.final[rows].to(torch.bfloat16) @ matrix.T).float().log_softmax(-1)
        said = self._reader.normalised(head(data.u[rows])).to(torch.bfloat16)
        return divergence(direction, p_log, (said @ matrix.T).float().log_softmax(-1))

    @torch.no_grad()
    def say(self, head: nn.Module | None, data: Data) -> tuple[NDArray[np.int64], Vector]:
        """Return the shortlist's likeliest id [N] at an exit and its log-odds [N]; without a head, at full depth."""
        ids, odds = [], []
        for start in range(0, len(data), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            state = data.final[rows] if head is None else self._reader.normalised(head(data.u[rows]))
            logits = (state.to(torch.bfloat16) @ self._short.T).float()
            top, place = logits.max(-1)
            others = logits.scatter(-1, place[:, None], -torch.inf).logsumexp(-1)
            ids.append(self._shortlist[place])
            odds.append(top - others)
        return torch.cat(ids).numpy(), torch.cat(odds).numpy()


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often an exit says what the full model says."""

    share: float
    safe_share: float
    """Share of positions that confidence lets out at SAFE precision: its threshold is chosen on other packages."""
    safe_precision: float
    """Of those, as found."""
    threshold: float


SAFE = 0.98


def safe_threshold(odds: Vector, is_right: NDArray[np.bool_], precision: float = SAFE) -> float:
    """Return the lowest log-odds above which at least so many are right; infinity where there is none."""
    order = np.argsort(-odds, kind="stable")
    right = np.cumsum(is_right[order]) / np.arange(1, len(order) + 1)
    kept = np.flatnonzero(right >= precision)
    return float(odds[order[kept[-1]]]) if len(kept) else math.inf


def agreement(
    chosen_on: tuple[Vector, NDArray[np.bool_]], judged: tuple[Vector, NDArray[np.bool_]], precision: float = SAFE
) -> Agreement:
    """Return the agreement on judged positions, of log-odds and rightness [N] each, at a threshold chosen elsewhere."""
    threshold = safe_threshold(*chosen_on, precision)
    odds, is_right = judged
    out = odds >= threshold
    precision = float(is_right[out].mean()) if out.any() else 1.0
    return Agreement(float(is_right.mean()), float(out.mean()), precision, threshold)


def best(results: Sequence[tuple[str, Agreement]]) -> str:
    """Return the name of the variant with the largest safe share, then agreement."""
    return max(results, key=lambda named: (named[1].safe_share, named[1].share))[0]

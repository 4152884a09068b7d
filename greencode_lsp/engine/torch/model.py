"""A decoder on torch, and the state of one token sequence on it.

Letters: T positions of a run, D hidden size, V vocabulary, k positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.state import Vector
from greencode_lsp.engine.torch.blocks import EagerWindow, KVCache, LayerStack
from greencode_lsp.engine.torch.graphs import MOST_POSITIONS, Capture, CapturedStep, bucket, cuda_graph
from greencode_lsp.models.packs import UNIT_EPS, ExitHeads
from greencode_lsp.models.weights import WeightSource


class TorchModel:
    """See `engine.Model`. On CUDA steps of a few positions replay captured graphs."""

    def __init__(
        self,
        architecture: Architecture,
        source: WeightSource,
        exits: tuple[int, ...],
        device: str,
        precision: str,
        capture: Capture | None = None,
    ) -> None:
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.architecture, self.exits = architecture, exits
        self.device = torch.device(device)
        self.threads = torch.get_num_threads()
        self.capture = capture or (cuda_graph() if self.device.type == "cuda" else None)
        with torch.inference_mode():
            self.blocks = LayerStack(architecture, source, device, dtype)
            self._norm = self.blocks.norm(architecture.final_norm) if architecture.final_norm else None
            self._embedding = self.blocks.tensor(architecture.embedding)
            is_tied = architecture.head == architecture.embedding
            self._head = self._embedding if is_tied else self.blocks.tensor(architecture.head)
            self._positions = self.blocks.tensor(architecture.positions) if architecture.positions else None
            self._in = self.blocks.tensor(architecture.project_in) if architecture.project_in else None
            self._out = self.blocks.tensor(architecture.project_out) if architecture.project_out else None
        self.shortlist: NDArray[np.int64] | None = None
        self._short: Tensor | None = None
        self._exit_heads: dict[int, ExitHead] = {}

    @torch.inference_mode()
    def add_heads(self, heads: ExitHeads) -> None:
        """Take what exit heads and a shortlist add."""
        for index, kind in enumerate(heads.kinds):
            if kind != "none":
                tensors = heads.of_exit(index)
                self._exit_heads[index] = ExitHead({n: torch.from_numpy(t).to(self._head) for n, t in tensors.items()})
        if heads.shortlist is not None:
            self.shortlist = heads.shortlist
            self._short = self._head[torch.from_numpy(heads.shortlist).to(self.device)]

    def open(self) -> TorchRunner:
        """Return an empty sequence."""
        return TorchRunner(self)

    def wait(self) -> None:
        """Return when all that was begun on the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @torch.inference_mode()
    def embed(self, ids: Sequence[int], start: int) -> Tensor:
        """Return [T, D] for ids at positions start, start + 1, ..."""
        hidden = F.embedding(torch.tensor(ids, dtype=torch.long, device=self.device), self._embedding)
        if self._in is not None:
            hidden = F.linear(hidden, self._in)
        if self._positions is not None:
            first = start + self.architecture.position_offset
            hidden = hidden + self._positions[first : first + len(ids)]
        return hidden

    @torch.inference_mode()
    def at_exit(self, segment: int, hidden: Tensor) -> Tensor:
        """Return [T, D] as a segment's exit reads states: through its head, if it has one, and the final norm."""
        head = self._exit_heads.get(segment)
        mapped = hidden if head is None else head(hidden)
        return self._norm(mapped) if self._norm is not None else mapped

    @torch.inference_mode()
    def logits(self, normalised: Tensor, *, shortlist: bool = False) -> Tensor:
        """Return logits [T, V] of normalised states, or those of the shortlist's ids alone."""
        head = self._short if shortlist else self._head
        assert head is not None, "asked of a model without a shortlist"
        return F.linear(normalised if self._out is None else F.linear(normalised, self._out), head)

    def head(self, normalised: Vector) -> Vector:
        """See `engine.Model`."""
        return _numpy(self.logits(torch.from_numpy(normalised).to(self._head)))


class ExitHead:
    """An early exit's head (models/packs.py)."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._tensors[f"{name}.weight"], self._tensors.get(f"{name}.bias"))

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return [T, D] for states [T, D]."""
        x = F.rms_norm(hidden, hidden.shape[-1:], eps=UNIT_EPS)
        base = self._linear(x, "map") if "map.weight" in self._tensors else x
        if "down.weight" not in self._tensors:
            return base
        inner = self._linear(x, "down")
        return base + self._linear(F.silu(inner) if "down.bias" in self._tensors else inner, "up")


class TorchRunner:
    """See `Runner`; everything is allocated once, for `max_positions`."""

    lone_rows = 1

    def __init__(self, model: TorchModel) -> None:
        self._model = model
        self.shortlist = model.shortlist
        architecture = model.architecture
        self.max_positions = architecture.max_positions
        with torch.inference_mode():
            one = model.embed([0], 0)  # [1, D]
            self.states = [one.new_zeros(self.max_positions, one.shape[1]) for _ in range(len(model.exits) + 1)]
            """What enters each segment, and last what leaves the last one: [max_positions, D] each."""
            self.layers = [range(a, b) for a, b in pairwise((0, *model.exits))]
            self.caches = [KVCache(len(layers), architecture.kv_shape, like=one) for layers in self.layers]

    def bytes_at(self, positions: int) -> int:
        """See `Runner`; a device's memory is taken whole."""
        caches = [tensor for cache in self.caches for tensor in (cache.keys, cache.values)]
        return sum(tensor.nbytes for tensor in (*self.states, *caches))

    @torch.inference_mode()
    def embed(self, ids: Sequence[int], start: int) -> None:
        """See `Runner`."""
        self.states[0][start : start + len(ids)] = self._model.embed(ids, start)

    @torch.inference_mode()
    def run(self, segment: int, start: int, stop: int, *, batch_invariant: bool) -> None:
        """See `Runner`; torch's floating point has no batch-invariant form."""
        entering, leaving = (states[start:stop] for states in self.states[segment : segment + 2])
        cache, layers, blocks = self.caches[segment], self.layers[segment], self._model.blocks
        if self._model.capture is None or stop - start > MOST_POSITIONS:
            leaving.copy_(blocks.run(entering, EagerWindow(start, stop - start, entering.device), layers, cache))
            return
        keys = bucket(stop, self.max_positions)
        step = cache.steps.get((stop - start, keys))
        if step is None:
            step = cache.steps[stop - start, keys] = CapturedStep(blocks, layers, cache, entering, keys)
        step(entering, start, leaving, self._model.capture)

    def normalised(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        return _numpy(self._read(segment, start, stop))

    def logits(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        return _numpy(self._model.logits(self._read(segment, start, stop)))

    def shortlist_logits(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        return _numpy(self._model.logits(self._read(segment, start, stop), shortlist=True))

    def hidden(self, segment: int, start: int, stop: int) -> Vector:
        """Return what a segment's layers made of those positions, [k, D]."""
        return _numpy(self.states[segment + 1][start:stop])

    def _read(self, segment: int, start: int, stop: int) -> Tensor:
        return self._model.at_exit(segment, self.states[segment + 1][start:stop])


def _numpy(tensor: Tensor) -> Vector:
    array: Vector = tensor.float().cpu().numpy()
    return array

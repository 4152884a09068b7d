"""A decoder on torch, and the state of one token sequence on it.

Letters: T positions of a run, D hidden size, V vocabulary, k positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.state import Vector
from greencode_lsp.engine.torch.blocks import EagerWindow, KVCache, LayerStack
from greencode_lsp.engine.torch.graphs import MOST_POSITIONS, Capture, CapturedStep, bucket, cuda_graph
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
    def normalise(self, hidden: Tensor) -> Tensor:
        """Return [T, D] through the final norm."""
        return self._norm(hidden) if self._norm is not None else hidden

    @torch.inference_mode()
    def logits(self, normalised: Tensor) -> Tensor:
        """Return logits [T, V] of normalised states."""
        return F.linear(normalised if self._out is None else F.linear(normalised, self._out), self._head)

    def head(self, normalised: Vector) -> Vector:
        """See `engine.Model`."""
        return _numpy(self.logits(torch.from_numpy(normalised).to(self._head)))


class TorchRunner:
    """See `Runner`; everything is allocated once, for `max_positions`."""

    def __init__(self, model: TorchModel) -> None:
        self._model = model
        architecture = model.architecture
        self.max_positions = architecture.max_positions
        with torch.inference_mode():
            one = model.embed([0], 0)  # [1, D]
            self.states = [one.new_zeros(self.max_positions, one.shape[1]) for _ in range(len(model.exits) + 1)]
            """What enters each segment, and last what leaves the last one: [max_positions, D] each."""
            self.layers = [range(a, b) for a, b in pairwise((0, *model.exits))]
            self.caches = [KVCache(len(layers), architecture.kv_shape, like=one) for layers in self.layers]

    @property
    def max_bytes(self) -> int:
        """What a full sequence takes; memory is touched only as far as it was ever filled."""
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
        return _numpy(self._model.normalise(self.states[segment + 1][start:stop]))

    def logits(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        return _numpy(self._model.logits(self._model.normalise(self.states[segment + 1][start:stop])))


def _numpy(tensor: Tensor) -> Vector:
    array: Vector = tensor.float().cpu().numpy()
    return array

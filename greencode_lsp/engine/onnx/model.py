"""A decoder on ONNX Runtime, and the state of one token sequence on it.

Letters: T positions of a run, N positions cached, D hidden size, G key/value heads, C head size, V vocabulary, W width
of the embedding, B blocks of a row.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as states

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.onnx.threads import decide_threads, session_options
from greencode_lsp.engine.state import Vector
from greencode_lsp.errors import EngineError, UnsupportedModelError

HEAD, SHORTLIST = "head", "shortlist"
HEAD_MULTIPLE = 16
REFUSED = (
    *(states.Fail, states.InvalidArgument, states.InvalidGraph, states.InvalidProtobuf, states.NoSuchFile),
    *(states.NotImplemented, states.RuntimeException, RuntimeError),
)
"""What ONNX Runtime raises."""
PRIVATE = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
"""Of a process's own memory; Windows knows no other."""


def exit_name(index: int) -> str:
    """Return the name of the graph of an early exit's head."""
    return f"exit-{index}"


def segment_name(index: int) -> str:
    """Return the name of a segment's graph."""
    return f"segment-{index}"


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph. Raises EngineError where this ONNX Runtime does not take it."""
    try:
        return onnxruntime.InferenceSession(path, session_options(threads), providers=["CPUExecutionProvider"])
    except REFUSED as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run the model here ({reason}); update onnxruntime, or set "
            "greencode.model to another one."
        ) from error


def check_supported(architecture: Architecture) -> None:
    """Raise UnsupportedModelError for what ONNX Runtime's attention cannot compute."""
    if architecture.head_size % HEAD_MULTIPLE:
        raise UnsupportedModelError(
            f"Heads of {architecture.head_size} channels are not supported on the CPU, multiples of {HEAD_MULTIPLE} "
            "are; set greencode.model to another one."
        )


class OnnxModel:
    """The graphs of one checkpoint in `folder`, loaded; see engine/onnx/build.py for what lies there."""

    def __init__(self, folder: Path, architecture: Architecture, exits: tuple[int, ...], threads: int) -> None:
        self.architecture, self.exits = architecture, exits
        self.segments = [open_session(folder / f"{segment_name(s)}.onnx", threads) for s in range(len(exits))]
        self._head = open_session(folder / f"{HEAD}.onnx", threads)
        self.threads = decide_threads(threads)
        self._tables: dict[str, NDArray[Any]] = {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in folder.glob("*.npy")
        }
        for name in ("norm", "norm_bias"):
            if name in self._tables:
                self._tables[name] = np.array(self._tables[name])

        self.shortlist: NDArray[np.int64] | None = None
        self._short: onnxruntime.InferenceSession | None = None
        self._exit_heads: dict[int, onnxruntime.InferenceSession] = {}

    def add_heads(self, folder: Path) -> None:
        """Load what exit heads and a shortlist add (engine/onnx/build.py)."""
        paths = {index: folder / f"{exit_name(index)}.onnx" for index in range(len(self.exits) - 1)}
        self._exit_heads = {i: open_session(path, self.threads) for i, path in paths.items() if path.exists()}
        if (folder / f"{SHORTLIST}.npy").exists():
            self._short = open_session(folder / f"{SHORTLIST}.onnx", self.threads)
            self.shortlist = np.load(folder / f"{SHORTLIST}.npy", allow_pickle=False)

    def open(self) -> OnnxRunner:
        """Return an empty sequence."""
        return OnnxRunner(self)

    def wait(self) -> None:
        """Return when all that was begun is done: every call here waits by itself."""

    def embed(self, ids: Sequence[int], start: int) -> Vector:
        """Return [T, D] for ids at positions start, start + 1, ..."""
        tables, rows = self._tables, np.asarray(ids, np.int64)
        embedded: NDArray[Any] = tables["embedding"][rows]  # [T, W], or [T, B, block size] in 8 bits
        if "embedding_scale" in tables:
            centred = embedded.astype(np.float32) - tables["embedding_zero"][rows][..., None]
            embedded = (centred * tables["embedding_scale"][rows][..., None]).reshape(len(rows), -1)
        width = tables["project_in"].shape[1] if "project_in" in tables else self.architecture.hidden_size
        embedded = embedded[:, :width]  # blocks are whole, and wider where W is no multiple of theirs
        if "project_in" in tables:
            embedded = np.stack([tables["project_in"] @ row for row in embedded])  # one by one: rounds alike (I4)
        if "positions" in tables:
            first = start + self.architecture.position_offset
            embedded = embedded + tables["positions"][first : first + len(rows)]
        return np.asarray(embedded, np.float32)

    def normalise(self, hidden: Vector) -> Vector:
        """Return [T, D] through the final norm."""
        weight = self._tables.get("norm")
        if weight is None:
            return np.array(hidden)
        if "norm_bias" in self._tables:
            hidden = hidden - hidden.mean(-1, keepdims=True)
        squares = np.einsum("td,td->t", hidden, hidden)[:, None] / hidden.shape[1]
        normalised: Vector = hidden * (1 / np.sqrt(squares + self.architecture.eps)) * weight
        if "norm_bias" in self._tables:
            normalised += self._tables["norm_bias"]
        return normalised

    def at_exit(self, segment: int, hidden: Vector) -> Vector:
        """Return [T, D] as a segment's exit reads states [T, D]: through its head, if it has one, and the norm."""
        head = self._exit_heads.get(segment)
        if head is None:
            return self.normalise(hidden)
        normalised: Vector = head.run(["normalised"], {"hidden": hidden})[0]  # one call: this is asked at every token
        return normalised

    def head(self, normalised: Vector) -> Vector:
        """Return logits [T, V] of normalised states [T, D]."""
        logits: Vector = self._head.run(["logits"], {"normalised": normalised})[0]
        return logits

    def short_head(self, normalised: Vector) -> Vector:
        """Return the shortlist's logits [T, n] of normalised states [T, D]."""
        assert self._short is not None, "asked of a model without a shortlist"
        logits: Vector = self._short.run(["logits"], {"normalised": normalised})[0]
        return logits


def untouched(*shape: int) -> NDArray[np.float32]:
    """Return zeros that take memory only where they are written to, and give it back at once when they are let go.

    `numpy.zeros` would take heap that was freed before, which it has to clear: all of it, at every opening.
    """
    size = math.prod(shape)
    memory = mmap.mmap(-1, size * np.dtype(np.float32).itemsize, **PRIVATE)
    return np.frombuffer(memory, np.float32, size).reshape(shape)


SMALLEST_BLOCK = 32
"""Rows that attention takes at once: twice the channels of a head, less where the processor's cache is small."""


class OnnxRunner:
    """See `Runner`: what enters and leaves each segment, and its keys and values, bound in place."""

    lone_rows = 2

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self.shortlist = model.shortlist
        groups, positions, size = model.architecture.kv_shape
        self.max_positions = positions
        width = model.architecture.hidden_size
        # one position more than is served: the row that pads a lone one
        self._states = [untouched(positions + 1, width) for _ in range(len(model.exits) + 1)]
        self._past, self._total = np.zeros(1, np.int32), np.zeros((), np.int32)
        self._read: dict[int, tuple[int, int, Vector]] = {}
        """By segment the positions that its exit read last, and what it made of them: asked for, then spoken from."""
        self._caches: list[NDArray[np.float32]] = []
        self._bindings = []
        for session, layers in zip(model.segments, pairwise((0, *model.exits)), strict=True):
            binding = session.io_binding()
            _bind(binding.bind_input, "past", self._past, self._past.shape, np.int32)
            _bind(binding.bind_input, "total", self._total, (), np.int32)
            for name in (f"{kind}_{index}" for index in range(*layers) for kind in ("keys", "values")):
                cache = untouched(1, groups, positions + 1, size)
                self._caches.append(cache)
                _bind(binding.bind_input, name, cache, cache.shape)
                _bind(binding.bind_output, f"{name}_out", cache, cache.shape)
            self._bindings.append(binding)

    def bytes_at(self, positions: int) -> int:
        """See `Runner`; memory is touched only as far as it was ever filled."""
        return sum(array.nbytes for array in (*self._states, *self._caches)) * positions // self.max_positions

    def embed(self, ids: Sequence[int], start: int) -> None:
        """See `Runner`."""
        self._states[0][start : start + len(ids)] = self._model.embed(ids, start)

    def run(self, segment: int, start: int, stop: int, *, batch_invariant: bool) -> None:
        """See `Runner`.

        `GroupQueryAttention` rounds a lone row otherwise than two or more, which round alike: so a lone one is run
        with the next, whose outcome is overwritten before it is read. It takes rows in blocks of an even number, 32 or
        more: so that none is alone in the last one, an odd number of rows is run with the next as well.
        """
        count = stop - start
        is_alone = batch_invariant if count == 1 else count > SMALLEST_BLOCK and count % 2 == 1
        count += (self.lone_rows - 1) * is_alone
        shape = (1, count, self._states[0].shape[1])
        self._total[()] = start + count
        self._past[0] = start + count - 1
        self._read.pop(segment, None)
        binding = self._bindings[segment]
        _bind(binding.bind_input, "hidden", self._states[segment][start:], shape)
        _bind(binding.bind_output, "hidden_out", self._states[segment + 1][start:], shape)
        self._model.segments[segment].run_with_iobinding(binding)

    def hidden(self, segment: int, start: int, stop: int) -> Vector:
        """Return what a segment's layers made of those positions, [k, D]."""
        return self._states[segment + 1][start:stop]

    def normalised(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        read = self._read.get(segment)
        if read is None or read[:2] != (start, stop):
            read = self._read[segment] = start, stop, self._model.at_exit(segment, self.hidden(segment, start, stop))
        return read[2]

    def logits(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        return self._model.head(self.normalised(segment, start, stop))

    def shortlist_logits(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        return self._model.short_head(self.normalised(segment, start, stop))


Bind = Callable[[str, str, int, type[np.generic], tuple[int, ...], int], None]


def _bind(
    bind: Bind, name: str, array: NDArray[Any], shape: tuple[int, ...], kind: type[np.generic] = np.float32
) -> None:
    """Let a graph read or write an array's own memory."""
    bind(name, "cpu", 0, kind, shape, array.ctypes.data)

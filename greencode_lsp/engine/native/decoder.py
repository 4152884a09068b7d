"""A family whose layers, norm and head run in `decoder.c`: same protocol, same results to rounding, one call each.

Letters: T positions, D hidden size, G key/value heads, N positions cached, C head size, V vocabulary.
"""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar

import torch
from torch import Tensor

from greencode_lsp.engine.family import Block, Linear, Norm
from greencode_lsp.engine.llama import Llama
from greencode_lsp.engine.native.build import library
from greencode_lsp.engine.opt import Opt
from greencode_lsp.engine.policy import AgentPolicy
from greencode_lsp.engine.quantize import Int8Matrix
from greencode_lsp.engine.threads import MAX_THREADS, kernel_threads

LANES = 16
"""Floats in a vector of the kernels; keys and values are stored in blocks of it."""
MAX_ROWS = 256
"""Positions of one call; longer runs take several."""
_Pointer = ctypes.c_void_p


class _Matrix(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, _Pointer) for name in ("packed", "scale", "offset", "bias")),
        *((name, ctypes.c_int32) for name in ("rows", "panels", "quads")),
    ]


class _Norm(ctypes.Structure):
    _fields_: ClassVar = [("weight", _Pointer), ("bias", _Pointer)]


class _Layer(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, _Norm) for name in ("attention_norm", "feed_norm")),
        *((name, _Matrix) for name in ("qkv", "out", "up", "down")),
    ]


class _Shape(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, ctypes.c_int32) for name in ("hidden", "heads", "groups", "head_size", "inner", "max_positions")),
        *((name, ctypes.c_int32) for name in ("gated", "norm_first")),
        ("eps", ctypes.c_float),
        *((name, _Pointer) for name in ("cosines", "sines")),
    ]


class _Workspace(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, _Pointer) for name in ("quantised", "row_scale", "qkv", "mixed", "scores")),
        ("stride", ctypes.c_int32),
    ]


class _Model(ctypes.Structure):
    _fields_: ClassVar = [
        ("shape", _Shape),
        ("layers", _Pointer),
        ("final_norm", _Pointer),
        ("vocabulary", _Matrix),
        ("workspace", _Workspace),
    ]


class NativeCache:
    """Keys [layers, G, N / 16, C, 16] and values [layers, G, C / 16, N, 16] of one segment, allocated once."""

    def __init__(self, layers: int, shape: tuple[int, int, int]) -> None:
        groups, positions, size = shape
        self.keys = torch.zeros(layers, groups, positions // LANES, size, LANES)
        self.values = torch.zeros(layers, groups, size // LANES, positions, LANES)


def supports(family: Llama | Opt) -> bool:
    """Say whether the kernels can run this family here: int8, on the CPU, compiled, heads of whole vectors."""
    int8 = isinstance(family.head_matrix, Int8Matrix) and family.device.type == "cpu"
    return int8 and family.kv_shape[2] % LANES == 0 and library() is not None


class NativeDecoder:
    """See `Family`. Takes the blocks over from a family read in int8, which keeps its embedding."""

    def __init__(self, family: Llama | Opt) -> None:
        kernels = library()
        assert kernels is not None, "ask `supports` first"
        self.kernels, self._family = kernels, family
        self._kept: list[Tensor] = []  # what the structures point into
        self.layers, self.device = family.layers, family.device
        groups, positions, size = family.kv_shape
        self.kv_shape = family.kv_shape
        tile = kernels.greencode_key_tile()
        self._cache_shape = (groups, -(-positions // tile) * tile, size)
        blocks, family.blocks = family.blocks, []
        hidden, inner = blocks[0].down.shape
        _check_shapes(blocks, family, hidden, inner)
        self._layers = (_Layer * self.layers)()
        for at, block in zip(self._layers, blocks, strict=True):
            at.attention_norm, at.feed_norm = self._norm(block.attention_norm), self._norm(block.feed_norm)
            at.qkv, at.out, at.down = self._matrix(block.qkv), self._matrix(block.out), self._matrix(block.down)
            at.up = self._matrix(block.up, gated=family.gated)
        shape = _Shape(
            *(hidden, family.heads, groups, size, inner, self._cache_shape[1], family.gated, family.norm_first),
            *(blocks[0].feed_norm.eps, *(self._keep(table) for table in family.rope or ())),
        )
        self._final_norm = None if family.norm is None else self._norm(family.norm)
        norm_address = None if self._final_norm is None else ctypes.addressof(self._final_norm)
        vocabulary = self._matrix(Linear(family.head_matrix))
        workspace = self._allocate(max(hidden, inner, family.heads * size), family.heads)
        self._model = _Model(shape, ctypes.addressof(self._layers), norm_address, vocabulary, workspace)
        self.model = ctypes.byref(self._model)
        self.agents: dict[AgentPolicy, Any] = {}
        """Networks packed for the kernels, by the policy they came from."""

    def _keep(self, tensor: Tensor | None) -> int | None:
        """Hold on to a tensor's memory and return its address."""
        if tensor is None:
            return None
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()

    def _norm(self, norm: Norm) -> _Norm:
        return _Norm(self._keep(norm.weight), self._keep(norm.bias))

    def _matrix(self, linear: Linear, *, gated: bool = False) -> _Matrix:
        """Pack [O, K] into [panels, quads, panel, 4]; of a gated pair, half a panel of gate before half of up."""
        assert isinstance(linear.weight, Int8Matrix)
        panel, step = self.kernels.greencode_panel(), 4 * self.kernels.greencode_unroll()
        rows, inputs = linear.weight.values.shape
        panels, padded_inputs = -(-rows // panel), -(-inputs // step) * step
        values = torch.zeros(panels * panel, padded_inputs, dtype=torch.int8)
        scale, bias = torch.zeros(panels * panel), torch.zeros(panels * panel)
        order = torch.arange(rows)
        if gated:  # row i of the gate goes to (i // half, 0, i % half), of up to (i // half, 1, i % half)
            half = panel // 2
            i = order % (rows // 2)
            order = i // half * panel + (order >= rows // 2) * half + i % half
        values[order, :inputs] = linear.weight.values
        scale[order] = linear.weight.scale
        offset = values.sum(1, dtype=torch.int32) * self.kernels.greencode_activation_offset()
        packed = values.view(panels, panel, -1, 4).transpose(1, 2)  # [panels, quads, panel, 4]
        if linear.bias is not None:
            bias[order] = linear.bias
        return _Matrix(
            *(self._keep(packed), self._keep(scale), self._keep(offset)),
            self._keep(bias) if linear.bias is not None else None,
            *(rows, panels, padded_inputs // 4),
        )

    def _allocate(self, widest: int, heads: int) -> _Workspace:
        groups, positions, size = self._cache_shape
        stride = -(-widest // 64) * 64
        return _Workspace(
            self._keep(torch.zeros(MAX_ROWS, stride, dtype=torch.uint8)),
            *(self._keep(torch.zeros(MAX_ROWS, width)) for width in (1, (heads + 2 * groups) * size, stride)),
            self._keep(torch.zeros(MAX_THREADS, heads // groups, positions)),
            stride,
        )

    def new_cache(self, layers: int) -> NativeCache:
        """Return an empty cache for a segment of that many layers."""
        return NativeCache(layers, self._cache_shape)

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Return [T, D]."""
        return self._family.embed(ids, start)

    def run_layers(self, hidden: Tensor, start: int, layers: range, cache: NativeCache, *, out: Tensor) -> None:
        """Run layers over [T, D] at positions from `start`, append their KV, write [T, D] to `out`."""
        for first in range(0, len(out), MAX_ROWS):
            self.kernels.greencode_run(
                *(self.model, layers.start, len(layers), address(hidden[first:]), address(out[first:])),
                *(min(MAX_ROWS, len(out) - first), start + first, address(cache.keys), address(cache.values)),
                kernel_threads(),
            )

    def propagate(self, hidden: Tensor, start: int, layers: range, cache: NativeCache) -> None:
        """Not here: for comparison, a family is loaded without the kernels (`load_engine(kv="propagate")`)."""
        raise NotImplementedError

    def normalise(self, hidden: Tensor) -> Tensor:
        """Return the final norm of [T, D]."""
        hidden = hidden.contiguous()
        out = torch.empty_like(hidden)
        self.kernels.greencode_normalise(self.model, address(hidden), hidden.numel() // hidden.shape[-1], address(out))
        return out

    def head(self, normalised: Tensor) -> Tensor:
        """Return logits [T, V]."""
        states = self._family.before_head(normalised).contiguous()
        logits = torch.empty(len(states), self._model.vocabulary.rows)
        for first in range(0, len(states), MAX_ROWS):
            self.kernels.greencode_head(
                *(self.model, address(states[first:]), min(MAX_ROWS, len(states) - first), states.shape[1]),
                *(address(logits[first:]), kernel_threads()),
            )
        return logits


def _check_shapes(blocks: list[Block], family: Llama | Opt, hidden: int, inner: int) -> None:
    """Raise ValueError where a tensor is not of the shape that the kernels would read."""
    groups, _, size = family.kv_shape
    attention = family.heads * size
    linears = {
        "qkv": (attention + 2 * groups * size, hidden),
        "out": (hidden, attention),
        "up": (inner * (1 + family.gated), hidden),
        "down": (hidden, inner),
    }
    for block in blocks:
        for name, shape in linears.items():
            linear: Linear = getattr(block, name)
            if linear.shape != shape or (linear.bias is not None and linear.bias.shape != shape[:1]):
                raise ValueError(f"{name} has shape {linear.shape}, not {shape}")
        norms = [block.attention_norm, block.feed_norm, *([family.norm] if family.norm else [])]
        if any(t is not None and t.shape != (hidden,) for norm in norms for t in (norm.weight, norm.bias)):
            raise ValueError(f"a norm is not of size {hidden}")


def address(tensor: Tensor) -> ctypes.c_void_p:
    """Return where a contiguous tensor's data begins."""
    return _Pointer(tensor.data_ptr())

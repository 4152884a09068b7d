"""Graphs of a decoder: one for each segment's layers, one for the LM head, weights as external data.

A segment takes hidden states [1, T, D] of positions p .. p + T - 1, its keys and values [1, G, N, C] in place, and
returns hidden states [1, T, D]. Norms at exits and the exit policy stay outside: as numpy operations on one row they
take a few microseconds, as graph nodes several times that.

Letters: T positions of a run, N positions cached, D hidden size, O output rows, K inputs.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from greencode_lsp.engine.architecture import Architecture, Layer
from greencode_lsp.engine.quantize import Precision, Role, bits_of, packed, read_blocks, stack
from greencode_lsp.models.packs import UNIT_EPS
from greencode_lsp.models.weights import BLOCK_SIZE, WeightSource

OPSET, CONTRIB_OPSET, IR_VERSION = 17, 1, 9
CONTRIB = "com.microsoft"
INT8_ACTIVATIONS = 4
"""`accuracy_level` of MatMulNBits: a position's activations are rounded to int8 by blocks; in float32 it crawls."""


def _node(operator: str, inputs: list[str], outputs: list[str], domain: str, **attributes: float) -> NodeProto:
    node = helper.make_node(operator, inputs, outputs, domain=domain)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return node


class GraphBuilder:
    """Nodes and weights of one graph."""

    def __init__(self, architecture: Architecture, source: WeightSource, precision: Precision) -> None:
        self.architecture, self._source, self._precision = architecture, source, precision
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._numbered = 0

    def _new(self, stem: str) -> str:
        self._numbered += 1
        return f"{stem}_{self._numbered}"

    def _constant(self, stem: str, array: NDArray[Any]) -> str:
        name = self._new(stem)
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, inputs: list[str], outputs: int = 1, domain: str = "", **attributes: float) -> str:
        """Add a node; return its first output's name."""
        names = [self._new(operator) for _ in range(outputs)]
        self._nodes.append(_node(operator, inputs, names, domain, **attributes))
        return names[0]

    def value(self, name: str, shape: list[Any], kind: int = TensorProto.FLOAT, *, out: bool = False) -> None:
        """Declare an input or output of the graph."""
        (self._outputs if out else self._inputs).append(helper.make_tensor_value_info(name, kind, shape))

    def linear(self, x: str, modules: tuple[str, ...], role: Role) -> str:
        """Add x W^T + b for the modules' matrices stacked by rows, with their biases where they have any."""
        names = [module + ".weight" for module in modules]
        has_bias = f"{modules[0]}.bias" in set(self._source.names())
        bias = np.concatenate([self._source.float32(m + ".bias") for m in modules]) if has_bias else None
        return self.matrix(x, names, role, bias)

    def matrix(self, x: str, names: list[str], role: Role, bias: NDArray[np.float32] | None = None) -> str:
        """Add x W^T + b for named matrices stacked by rows."""
        bits = bits_of(self._precision, role)
        added = [] if bias is None else [self._constant("bias", bias)]
        if bits is None:
            weight = np.concatenate([self._source.float32(name) for name in names])
            product = self.node("MatMul", [x, self._constant("weight", weight.T)])
            return self.node("Add", [product, *added]) if added else product
        blocks = stack([read_blocks(self._source, name, bits) for name in names])
        values, zero = packed(blocks)
        inputs = [x, self._constant("packed", values), self._constant("scale", blocks.scale)]
        inputs.append("" if zero is None else self._constant("zero", zero))
        inputs += ["", *added] if added else []
        while not inputs[-1]:
            inputs.pop()
        rows, inputs_count = blocks.shape[0], self._source.shape(names[0])[1]
        sizes = {"K": inputs_count, "N": rows, "bits": bits, "block_size": BLOCK_SIZE}
        return self.node("MatMulNBits", inputs, domain=CONTRIB, accuracy_level=INT8_ACTIVATIONS, **sizes)

    def norm(self, x: str, module: str) -> str:
        """Add the family's norm."""
        weight = self._constant("norm", self._source.float32(module + ".weight"))
        epsilon = self.architecture.eps
        if self.architecture.has_rms_norm:
            return self.node("SimplifiedLayerNormalization", [x, weight], epsilon=epsilon)
        bias = self._constant("norm_bias", self._source.float32(module + ".bias"))
        return self.node("LayerNormalization", [x, weight, bias], epsilon=epsilon)

    def unit(self, x: str) -> str:
        """Add a scaling to a mean square of one."""
        ones = self._constant("ones", np.ones(self.architecture.hidden_size, np.float32))
        return self.node("SimplifiedLayerNormalization", [x, ones], epsilon=UNIT_EPS)

    def exit_head(self, x: str, index: int, parts: Collection[str]) -> str:
        """Add an early exit's head (models/packs.py), of which these parts are there."""
        at = f"exit.{index}."
        base = self.linear(x, (at + "map",), "exit") if "map.weight" in parts else x
        if "down.weight" not in parts:
            return base
        inner = self.linear(x, (at + "down",), "exit")
        if "down.bias" in parts:
            inner = self.node("Mul", [inner, self.node("Sigmoid", [inner])])
        return self.node("Add", [base, self.linear(inner, (at + "up",), "exit")])

    def layer(self, x: str, layer: Layer, index: int, tables: list[str]) -> str:
        """Add one layer; its keys and values are inputs and outputs `keys_<index>`, `values_<index>`."""
        norm_first = self.architecture.norm_first
        attended = self._attention(self.norm(x, layer.attention_norm) if norm_first else x, layer, index, tables)
        x = self.node("Add", [x, self.linear(attended, (layer.out,), "attention")])
        x = x if norm_first else self.norm(x, layer.attention_norm)
        x = self.node("Add", [x, self._feed(self.norm(x, layer.feed_norm) if norm_first else x, layer)])
        return x if norm_first else self.norm(x, layer.feed_norm)

    def _attention(self, x: str, layer: Layer, index: int, tables: list[str]) -> str:
        of = self.architecture
        groups, positions, size = of.kv_shape
        shape = [1, groups, positions + 1, size]  # one more for the row that pads a lone one
        caches = [f"keys_{index}", f"values_{index}"]
        for name in caches:
            self.value(name, shape)
            self.value(f"{name}_out", shape, out=True)
        inputs = [self.linear(x, layer.qkv, "attention"), "", "", *caches, "past", "total", *tables]
        attended = self._new("attended")
        sizes = {"num_heads": of.heads, "kv_num_heads": groups, "do_rotary": int(bool(tables))}
        outputs = [attended, *(f"{name}_out" for name in caches)]
        self._nodes.append(_node("GroupQueryAttention", inputs, outputs, CONTRIB, **sizes))
        return attended

    def _feed(self, x: str, layer: Layer) -> str:
        if self.architecture.is_gated:
            gate, up = (self.linear(x, (module,), "up") for module in layer.up)
            inner = self.node("Mul", [self.node("Mul", [gate, self.node("Sigmoid", [gate])]), up])
        else:
            inner = self.node("Relu", [self.linear(x, layer.up, "up")])
        return self.linear(inner, (layer.down,), "down")

    def tables(self) -> list[str]:
        """Return the names of RoPE's cosines and sines, if the family has them."""
        if self.architecture.rotation_speeds is None:
            return []
        cosines, sines = self.architecture.rotations(self.architecture.max_positions + 1)
        return [self._constant("cosines", cosines), self._constant("sines", sines)]

    def rename(self, name: str, output: str) -> None:
        """Give a value the name of the graph's output."""
        self._nodes.append(helper.make_node("Identity", [name], [output]))

    def save(self, path: Path) -> None:
        """Write `<path>` and its weights beside it, in `<path>.data`."""
        graph = helper.make_graph(self._nodes, path.stem, self._inputs, self._outputs, self._weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, CONTRIB_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        data = f"{path.name}.data"
        onnx.save_model(model, path, save_as_external_data=True, location=data, size_threshold=1024)


def save_segment(
    architecture: Architecture, source: WeightSource, precision: Precision, layers: range, path: Path
) -> None:
    """Write the graph of some layers: `hidden` [1, T, D] to `hidden_out`."""
    builder = GraphBuilder(architecture, source, precision)
    states = [1, "T", architecture.hidden_size]
    builder.value("hidden", states)
    builder.value("past", [1], TensorProto.INT32)
    builder.value("total", [], TensorProto.INT32)
    tables, x = builder.tables(), "hidden"
    for index in layers:
        x = builder.layer(x, architecture.layer(index), index, tables)
    builder.rename(x, "hidden_out")
    builder.value("hidden_out", states, out=True)
    builder.save(path)


def save_exit_head(
    architecture: Architecture, heads: WeightSource, precision: Precision, index: int, path: Path
) -> None:
    """Write the graph of an early exit's head and the final norm: `hidden` [T, D] to `normalised` [T, D]."""
    builder = GraphBuilder(architecture, heads, precision)
    states = ["T", architecture.hidden_size]
    builder.value("hidden", states)
    parts = {name.removeprefix(f"exit.{index}.") for name in heads.names() if name.startswith(f"exit.{index}.")}
    mapped = builder.exit_head(builder.unit("hidden"), index, parts)
    norm = architecture.final_norm
    builder.rename(mapped if norm is None else builder.norm(mapped, norm), "normalised")
    builder.value("normalised", states, out=True)
    builder.save(path)


def save_head(architecture: Architecture, source: WeightSource, precision: Precision, path: Path) -> None:
    """Write the graph of the LM head: `normalised` [T, D] to `logits` [T, V], of as many rows as the source has."""
    builder = GraphBuilder(architecture, source, precision)
    builder.value("normalised", ["T", architecture.hidden_size])
    x = "normalised"
    if architecture.project_out is not None:
        x = builder.matrix(x, [architecture.project_out], "head")
    builder.rename(builder.matrix(x, [architecture.head], "head"), "logits")
    builder.value("logits", ["T", source.shape(architecture.head)[0]], out=True)
    builder.save(path)

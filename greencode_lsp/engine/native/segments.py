"""Segments whose loop over exits runs in one call of `decoder.c`, where the policy is the agent or never leaves."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from greencode_lsp.engine.native.decoder import LANES, NativeDecoder, address
from greencode_lsp.engine.policy import AgentPolicy, NeverPolicy
from greencode_lsp.engine.rule import PolicyRule
from greencode_lsp.engine.segments import ExitRule, Segments
from greencode_lsp.engine.threads import kernel_threads
from greencode_lsp.errors import CancelledError

UNHEARD_POSITIONS = 16
"""A longer backlog runs segment by segment, so that a cancel is heard in between."""


class _Sequence(ctypes.Structure):
    _fields_: ClassVar = [
        ("segments", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("first_layer", "states", "keys", "values", "filled")),
    ]


class _Agent(ctypes.Structure):
    _fields_: ClassVar = [
        *((name, ctypes.c_void_p * 3) for name in ("weights", "bias")),
        *((name, ctypes.c_int32) for name in ("inputs", "first", "second")),
    ]


class NativeAgent:
    """An agent's network as the kernels read it: transposed, columns padded to whole vectors with zeros."""

    def __init__(self, policy: AgentPolicy) -> None:
        (w1, b1), (w2, b2) = (tuple(map(torch.from_numpy, layer)) for layer in policy.layers)
        first, second = (-(-len(bias) // LANES) * LANES for bias in (b1, b2))
        out, bias = torch.from_numpy(policy.out).reshape(1, -1), torch.tensor([policy.bias])
        weights = [_padded(w1, first, w1.shape[1]), _padded(w2, second, first), _padded(out, 1, second)]
        self._kept = [
            *(w.T.contiguous() for w in weights),
            *(_padded(b[:, None], size, 1) for b, size in ((b1, first), (b2, second), (bias, 1))),
        ]
        addresses = [tensor.data_ptr() for tensor in self._kept]
        vectors = ctypes.c_void_p * 3
        self._struct = _Agent(vectors(*addresses[:3]), vectors(*addresses[3:]), w1.shape[1], first, second)
        self.pointer = ctypes.byref(self._struct)


def _padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    out = torch.zeros(rows, columns)
    out[: matrix.shape[0], : matrix.shape[1]] = matrix
    return out


class NativeSegments(Segments):
    """See `Segments`."""

    def __init__(self, family: NativeDecoder, exits: tuple[int, ...]) -> None:
        super().__init__(family, exits)
        self._kernels, self._model, self._agents = family.kernels, family.model, family.agents
        count = len(self)
        addresses = ctypes.c_void_p * count
        self._filled = (ctypes.c_int32 * count)()
        self._arrays: tuple[Any, ...] = (
            (ctypes.c_int32 * (count + 1))(0, *exits),
            (ctypes.c_void_p * (count + 1))(*(address(state).value for state in self.states)),
            addresses(*(address(self[s].cache.keys).value for s in range(count))),
            addresses(*(address(self[s].cache.values).value for s in range(count))),
            self._filled,
        )
        self._sequence = ctypes.byref(_Sequence(count, *(ctypes.addressof(array) for array in self._arrays)))

    def advance_until(self, rule: ExitRule, cancelled: Callable[[], bool]) -> int:
        """Advance until the rule says leave; return the index of the segment left after."""
        backlog = len(self.ids) - self[-1].filled
        if backlog > UNHEARD_POSITIONS or not isinstance(rule, PolicyRule):
            return super().advance_until(rule, cancelled)
        agent = self._agent(rule)
        if agent is None and not isinstance(rule.policy, NeverPolicy):
            return super().advance_until(rule, cancelled)
        if cancelled():
            raise CancelledError
        self._filled[:] = [self[s].filled for s in range(len(self))]
        index: int = self._kernels.greencode_advance_until(
            *(self._model, self._sequence, len(self.ids), agent and agent.pointer, ctypes.c_float(rule.threshold)),
            *(rule.prompt_tokens, rule.position, kernel_threads()),
        )
        for s in range(index + 1):
            self[s].filled = len(self.ids)
        return index

    def _agent(self, rule: PolicyRule) -> NativeAgent | None:
        policy = rule.policy
        if not isinstance(policy, AgentPolicy):
            return None
        agent: NativeAgent = self._agents.get(policy) or self._agents.setdefault(policy, NativeAgent(policy))
        return agent

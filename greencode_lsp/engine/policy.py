"""When is a token ready? Exit policies: values of one type, asked after every segment but the last.

A policy returns an exit logit; the token exits where it is above the threshold, and the threshold alone carries the
user's preference. Everything here is numpy on one vector: a check is a branch, and `observation`
is the one function that both the server and the training environment read a state through.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from greencode_lsp.engine.state import DecoderState, Vector
from greencode_lsp.errors import ModelDamagedError
from greencode_lsp.models.contents import model_file
from greencode_lsp.models.exit_checks import AGENT_TENSORS, MAX_AGENT_BYTES, check_agent

AGENT_FILE = "agent.safetensors"


@dataclass(frozen=True, slots=True)
class ExitState:
    """What a policy may look at, after a segment."""

    hidden: Vector
    """[D] the last position's state through the final norm: what the LM head would read."""
    exit_index: int
    """Which exit this is, from 0; the last exit is never asked."""
    exits: tuple[int, ...]
    pending: int
    """Completion positions the next segment would have to run, this one included (prompt positions not counted)."""
    position: int
    """Tokens emitted so far."""
    logits: Callable[[], Vector]
    """[V] runs the LM head, at its cost; the same vector is used if the token exits here."""


class ExitPolicy(Protocol):
    """Says how ready a token is; higher means exit."""

    def exit_logit(self, state: ExitState) -> float:
        """Return the exit logit, compared with the threshold of the decode configuration."""
        ...


def observation_size(hidden_size: int, exits: int) -> int:
    """Return the length of `observation` for a model with that many exits, the last included."""
    return hidden_size + (exits - 1) + 2


def observation(
    hidden: NDArray[np.float32],
    exit_index: NDArray[np.int64] | int,
    exits: int,
    pending: NDArray[np.int64] | int,
    position: NDArray[np.int64] | int,
) -> Vector:
    """Return [..., D + S - 1 + 2]: the normalised state, the exit one-hot, the pending count and the position.

    Unlike the paper's, it contains the exit, and is the same in training and in service.
    Leading dimensions of the arguments must agree; scalars serve one state.
    """
    one_hot = np.eye(exits - 1, dtype=np.float32)[exit_index]
    extra = np.stack([np.log1p(np.asarray(pending, np.float32)), np.asarray(position, np.float32) / 16], axis=-1)
    return np.concatenate([hidden, one_hot, extra.astype(np.float32)], axis=-1, dtype=np.float32)


def log_odds(logits: Vector) -> float:
    """Return log(p / (1 - p)) of the likeliest of logits [V]."""
    top = int(logits.argmax())
    odds = np.exp(logits - logits[top])
    odds[top] = 0.0
    return float(-np.log(odds.sum() + 1e-12))


class NeverPolicy:
    """Every token runs all layers."""

    def exit_logit(self, state: ExitState) -> float:
        """Return minus infinity."""
        return -np.inf


class FixedPolicy:
    """Leave at one layer; the threshold is that layer (minus a half)."""

    def exit_logit(self, state: ExitState) -> float:
        """Return the number of layers run."""
        return float(state.exits[state.exit_index])


class ConfidencePolicy:
    """Softmax top-1 as a logit, log(p / (1 - p)) (LITE, CALM); needs the LM head at every exit."""

    def exit_logit(self, state: ExitState) -> float:
        """Return the log-odds of the most likely token."""
        return log_odds(state.logits())


class AgentPolicy:
    """The PPO agent's network: two tanh layers, then the difference of its two action logits (exit minus continue)."""

    gate: float | None = None
    """The logit above which an exit is asked for its confidence (`GatedPolicy`); None where the logit decides."""

    def __init__(self, tensors: dict[str, Vector], exits: tuple[int, ...]) -> None:
        self.layers = [(tensors[f"w{i}"], tensors[f"b{i}"]) for i in (1, 2)]
        self.out, self.bias = tensors["w3"], float(tensors["b3"][0])
        self._exits = exits

    @classmethod
    def load(cls, path: Path, exits: tuple[int, ...], hidden_size: int | None = None) -> AgentPolicy:
        """Read `agent.safetensors` of a model with that hidden size, by default whatever size it was made for.

        Raises ModelDamagedError where it was made for another model or is unreadable.
        """
        try:
            real = model_file(path.parent, path.name, MAX_AGENT_BYTES)
            with safe_open(str(real), "numpy") as file:
                stated = file.metadata() or {}
                made_for = tuple(json.loads(stated.get("exits", "[]")))
                gate = json.loads(stated.get("gate", "null"))
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # not a dict
                if made_for != exits:
                    raise ModelDamagedError(f"{path} was trained for exits {made_for}, the model has {exits}.")
                check_agent(shapes, hidden_size, len(exits))
                tensors = {name: file.get_tensor(name).astype(np.float32) for name in AGENT_TENSORS}
            agent = cls(tensors, exits)
            if gate is not None and type(gate) not in (int, float):
                raise TypeError(f"its gate is {str(gate)[:20]!r}")
            agent.gate = None if gate is None else float(gate)
            if not all(np.isfinite(number).all() for number in (*tensors.values(), agent.gate or 0.0)):
                raise ModelDamagedError(f"{path} holds NaN or infinity; export the agent again.")
            return agent
        except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError, SafetensorError) as error:
            raise ModelDamagedError(f"{path} cannot be read ({error}); export the agent again.") from error

    def exit_logit(self, state: ExitState) -> float:
        """Return log P(exit) - log P(continue)."""
        seen = observation(state.hidden, state.exit_index, len(self._exits), state.pending, state.position)
        return float(self.exit_logits(seen))

    def exit_logits(self, observations: Vector) -> Vector:
        """Return the logit [...] of observations [..., D + S - 1 + 2]."""
        x = observations
        for weight, bias in self.layers:
            x = np.tanh(x @ weight.T + bias)
        return np.asarray(x @ self.out + self.bias)


class GatedPolicy:
    """Confidence, asked only where the agent holds it for likely to suffice: elsewhere no LM head is run in vain.

    A state tells where a token is likely to be ready, and the exit's own softmax whether it is.
    """

    def __init__(self, agent: AgentPolicy, gate: float) -> None:
        self.agent, self.gate = agent, gate

    def exit_logit(self, state: ExitState) -> float:
        """Return the log-odds of the most likely token; minus infinity where the agent expects too little of it."""
        return log_odds(state.logits()) if self.agent.exit_logit(state) > self.gate else -np.inf


def policies_of(agent: AgentPolicy) -> dict[str, ExitPolicy]:
    """Return the policies that an agent makes, by name: `agent`, and the bare network as `gate` where it has a gate."""
    return {"agent": agent} if agent.gate is None else {"agent": GatedPolicy(agent, agent.gate), "gate": agent}


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """See `ExitRule`: a policy and a threshold, asked about one token."""

    policy: ExitPolicy
    threshold: float
    exits: tuple[int, ...]
    prompt_tokens: int
    position: int
    """Tokens emitted so far."""
    shortlist: float = np.inf
    """Log-odds of the shortlist's likeliest id above which the full head is left out."""
    self_speculative: bool = False
    """What is said at full depth is said by the full head: nothing verifies it any more."""

    def takes_shortlist(self, state: DecoderState, index: int) -> bool:
        """Say whether the shortlist is sure enough of the last token."""
        if self.shortlist == np.inf or (self.self_speculative and index == state.last):
            return False
        return log_odds(state.shortlist_logits(index)) > self.shortlist

    def __call__(self, state: DecoderState, index: int) -> bool:
        """Say whether the last token exits after the segment."""
        if self.threshold == np.inf:
            return False  # nothing is asked, so that no exit head runs
        consumed = max(state.filled[index + 1], self.prompt_tokens - 1)
        pending = len(state) - consumed
        asked = ExitState(
            state.normalised(index), index, self.exits, pending, self.position, lambda: state.exit_logits(index)
        )
        return self.policy.exit_logit(asked) > self.threshold

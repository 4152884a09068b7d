"""One prompt under any policy and threshold, for little more than the cost of one completion.

With exact KV (design, invariant I1) what every exit would say at a position depends on the ids before it alone. So the
completions of one prompt form a tree keyed by the emitted ids: a node holds one full-depth pass, and a walk decides as
the engine's decode loop does and books the same work. Nodes are made when a walk first comes by.

Letters: S exits, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from greencode_lsp.engine.cost import WorkLog
from greencode_lsp.engine.drafts import propose
from greencode_lsp.engine.engine import DRAFT_TOKENS, Engine
from greencode_lsp.engine.policy import ExitState, Vector
from greencode_lsp.records import DecodeConfig, Step, Work
from training.forced import load_segments

ORACLE = "oracle"
"""The policy that leaves at the first exit whose token is the full model's, and pays no head to know it."""


@dataclass(slots=True)
class Node:
    """What every exit would say after the prompt and some emitted ids."""

    ids: tuple[int, ...]
    """Emitted so far."""
    hidden: Vector
    """[S - 1, D] normalised states of the early exits."""
    logits: Vector
    """[S, V]"""
    tokens: tuple[int, ...]
    """[S] each exit's likeliest token."""
    children: dict[int, Node] = field(default_factory=dict)
    exit_logits: dict[tuple[str, int, int], tuple[float, bool]] = field(default_factory=dict)
    """(policy, exit, pending) -> the exit logit, and whether the head was run for it."""

    @property
    def full_depth(self) -> int:
        """The full model's token."""
        return self.tokens[-1]


@dataclass(frozen=True, slots=True)
class Completion:
    """A walk's outcome: what `Engine.generate` would have yielded, and its work."""

    steps: tuple[Step, ...]
    agrees: tuple[bool, ...]
    """Whether each token is the full model's after the same emitted tokens."""
    work: Work

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The emitted ids, a stop id included."""
        return tuple(step.token_id for step in self.steps)

    @property
    def agreement(self) -> float:
        """Share of its tokens that agree: one less the loss that calibration bounds."""
        return sum(self.agrees) / len(self.agrees)


class Grower(Protocol):
    """Makes nodes."""

    def node(self, prompt: Sequence[int], ids: tuple[int, ...]) -> Node:
        """Return the node after the prompt and the emitted ids."""
        ...


class Replayer:
    """A checkpoint's blocks, run at full depth along the trees; the cache is cropped to the branch in question."""

    def __init__(self, folder: Path, exits: tuple[int, ...]) -> None:
        self._family, self._segments = load_segments(folder, exits)

    @torch.inference_mode()
    def node(self, prompt: Sequence[int], ids: tuple[int, ...]) -> Node:
        """Feed what the cache lacks and run all segments over it."""
        self._segments.reuse([*prompt, *ids])
        last = [self._segments.advance(i, lambda: False)[-1:] for i in range(len(self._segments))]  # S times [1, D]
        normalised = self._family.normalise(torch.cat(last))  # [S, D]
        logits = self._family.head(normalised).float().numpy()  # [S, V]
        tokens = tuple(int(i) for i in logits.argmax(-1))
        return Node(ids, normalised[:-1].float().numpy(), logits, tokens)


@dataclass(slots=True)
class _Decoding:
    """The engine's state during a completion, in counts: ids fed and positions filled per segment (design, I2)."""

    log: WorkLog
    fed: int
    filled: list[int]


class Tree:
    """All completions of one prompt."""

    def __init__(self, engine: Engine, grower: Grower, prompt: Sequence[int]) -> None:
        self._engine, self._grower, self._prompt = engine, grower, prompt
        self._widths = [int(width) for width in np.diff((0, *engine.exits))]
        self.root = grower.node(prompt, ())

    def complete(self, config: DecodeConfig, new_tokens: int, stop_ids: frozenset[int] = frozenset()) -> Completion:
        """Return what `generate` yields under `config`, up to and with the first stop id."""
        log = WorkLog(self._engine.manifest, len(self._prompt), 0)
        state = _Decoding(log, len(self._prompt), [0] * len(self._engine.exits))
        node, steps, agrees = self.root, list[Step](), list[bool]()
        while len(steps) < new_tokens and state.fed < self._engine.max_positions:
            verified = config.verified
            chosen = self._verified(node, config, state, stop_ids) if verified else [self._decide(node, config, state)]
            for index, token in chosen[: new_tokens - len(steps)]:
                steps.append(Step(token, self._engine.exits[index]))
                agrees.append(token == node.full_depth)
                log.emitted_tokens += 1
                if token in stop_ids:
                    return self._finish(steps, agrees, state)
                if len(steps) < new_tokens:
                    node = self._child(node, token)
            state.fed += 1
        return self._finish(steps, agrees, state)

    def margin(self, config: DecodeConfig, token_ids: Sequence[int]) -> float:
        """Return how near the completion was to another: the least gap between a logit and what it was compared with.

        Exit logits against the threshold, and the two likeliest tokens of each exit, at the positions after the ids.
        """
        node, gaps = self.root, list[float]()
        for token in token_ids:
            exit_logits = [v for (policy, _, _), (v, _) in node.exit_logits.items() if policy == config.policy]
            gaps += [abs(logit - config.threshold) for logit in exit_logits]
            top = np.partition(node.logits, -2, axis=-1)[:, -2:]  # [S, 2]
            gaps.append(float(np.diff(top).min()))
            node = node.children.get(token, node)
        return min(gaps)

    @staticmethod
    def _finish(steps: list[Step], agrees: list[bool], state: _Decoding) -> Completion:
        return Completion(tuple(steps), tuple(agrees), state.log.finish(state.fed - state.filled[-1]))

    def _child(self, node: Node, token: int) -> Node:
        if token not in node.children:
            node.children[token] = self._grower.node(self._prompt, (*node.ids, token))
        return node.children[token]

    def _advance(self, state: _Decoding, index: int) -> None:
        """Run a segment over all it has not consumed."""
        positions = state.fed - state.filled[index]
        state.log.count_run(index, self._widths[index], state.filled[index], positions)
        state.filled[index] = state.fed

    def _decide(self, node: Node, config: DecodeConfig, state: _Decoding) -> tuple[int, int]:
        """Return (exit index, token) as `Engine._decode_one` finds them."""
        last = len(self._widths) - 1
        for index in range(last):
            self._advance(state, index)
            pending = state.fed - max(state.filled[index + 1], len(self._prompt) - 1)
            logit, used_head = self._exit_logit(node, config.policy, index, pending)
            state.log.head_positions += used_head
            if logit > config.threshold:
                state.log.head_positions += not used_head
                return index, node.tokens[index]
        self._advance(state, last)
        state.log.head_positions += 1
        return last, node.full_depth

    def _exit_logit(self, node: Node, policy: str, index: int, pending: int) -> tuple[float, bool]:
        key = (policy, index, pending)
        if key not in node.exit_logits:
            used: list[int] = []

            def head() -> Vector:
                used.append(index)
                return np.asarray(node.logits[index])

            if policy == ORACLE:
                logit = 1.0 if node.tokens[index] == node.full_depth else -1.0
            else:
                asked = ExitState(node.hidden[index], index, self._engine.exits, pending, len(node.ids), head)
                logit = self._engine.policies[policy].exit_logit(asked)
            node.exit_logits[key] = logit, bool(used)
        return node.exit_logits[key]

    def _verified(
        self, node: Node, config: DecodeConfig, state: _Decoding, ends: frozenset[int]
    ) -> list[tuple[int, int]]:
        """Draft, verify and crop as `Engine._decode_verified` does; return the kept (last exit, token)."""
        length, last = state.fed, len(self._widths) - 1
        ids = np.asarray([*self._prompt, *node.ids])
        drafts = propose(ids, self._engine.draft_lengths, self._engine.max_positions - len(ids), ends)
        state.fed += len(drafts)
        if not drafts:
            tokens = self._left_early(node, config, state, ends)
            if tokens[0][0] == last:
                return tokens
            drafts = [token for _, token in tokens]
        for index in range(last + 1):
            self._advance(state, index)
        state.log.head_positions += state.fed - length + 1
        kept = [(last, node.full_depth)]
        for draft in drafts[: state.fed - length]:
            if draft != node.full_depth:
                break
            node = self._child(node, draft)
            kept.append((last, node.full_depth))
        state.fed = length + len(kept) - 1
        state.filled = [min(filled, state.fed) for filled in state.filled]
        return kept

    def _left_early(
        self, node: Node, config: DecodeConfig, state: _Decoding, ends: frozenset[int]
    ) -> list[tuple[int, int]]:
        """Return the drafts (exit, token) as `Engine._left_early` does."""
        drafts: list[tuple[int, int]] = []
        for _ in range(min(DRAFT_TOKENS, self._engine.max_positions - state.fed)):
            if drafts:
                node = self._child(node, drafts[-1][1])
                state.fed += 1
            drafts.append(self._decide(node, config, state))
            if drafts[-1][0] == len(self._widths) - 1 or drafts[-1][1] in ends:
                break
        return drafts

"""One prompt under any policy and threshold, for little more than the cost of one completion.

With exact KV (I1) what every exit would say at a position depends on the ids before it alone. So the
completions of one prompt form a tree keyed by the emitted ids: a node holds one full-depth pass, made when a completion
first comes by, and the engine's own decode loop runs over a `DecoderState` whose layers are the recorded ones.

Letters: S exits, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.cost import WorkLog
from greencode_lsp.engine.decode import Decoder, Limits, pick
from greencode_lsp.engine.engine import Engine, Model
from greencode_lsp.engine.policy import ExitPolicy, ExitState, GatedPolicy
from greencode_lsp.engine.state import DecoderState, Vector
from greencode_lsp.engine.stop import STOP_POLICIES, Picked, StopTracker
from greencode_lsp.preference import DEFAULT, stopping
from greencode_lsp.records import Constraint, DecodeConfig, FixedControl, Step, Work
from training.exits.served import Served

ORACLE = "oracle"
"""The policy that exits at the first exit whose token is the full model's, and pays no head to know it."""


@dataclass(slots=True)
class Node:
    """What every exit would say after the prompt and some emitted ids."""

    ids: tuple[int, ...]
    """Emitted so far."""
    states: Vector
    """[S, D] normalised, of every exit."""
    logits: Vector
    """[S, V]"""
    tokens: tuple[int, ...]
    """[S] each exit's likeliest token."""
    children: dict[int, Node] = field(default_factory=dict)
    exit_logits: dict[tuple[str, int, int], tuple[float, bool]] = field(default_factory=dict)
    """(policy, exit, pending) -> the exit logit, and whether the head was run for it."""
    gate_gaps: dict[tuple[str, int, int], float] = field(default_factory=dict)
    """The same -> how far a gate's logit was from where it opens."""

    @property
    def full_depth(self) -> int:
        """The full model's token."""
        return self.tokens[-1]


@dataclass(frozen=True, slots=True)
class ReplayedCompletion:
    """What `Engine.generate` would have yielded, and its work."""

    steps: tuple[Step, ...]
    agrees: tuple[bool, ...]
    """Whether each token that counts is the full model's after the same emitted tokens.

    As in an audit (greencode_lsp/guarantee.py), those that spell healed text again do not count, nor does a special
    token that ends a completion, unless there is no other.
    """
    work: Work
    shown: tuple[bool, ...] = ()
    """The same of what is shown where the stop rule of the default preference ends the completion."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The emitted ids, a stop id included."""
        return tuple(step.token_id for step in self.steps)

    @property
    def agreement(self) -> float:
        """Share of its tokens that agree: one less the loss that calibration bounds."""
        return sum(self.agrees) / len(self.agrees)

    @property
    def shown_agreement(self) -> float:
        """The same share of what is shown; NaN where nothing is."""
        return sum(self.shown) / len(self.shown) if self.shown else float("nan")


def shown_steps(steps: Sequence[Step], line_ends: Collection[int]) -> int:
    """Return how many steps come before the one that the stop rule of the default preference ends a completion at."""
    config, tracker = stopping(DecodeConfig(), DEFAULT), StopTracker(STOP_POLICIES, line_ends)
    for index, step in enumerate(steps):
        if tracker.ends_before(config, Picked(step.token_id, 0, step.confidence, _unasked)):
            return index
    return len(steps)


def _unasked() -> Vector:
    raise AssertionError("the rule goes by confidence alone")


class Grower(Protocol):
    """Makes nodes."""

    def node(self, prompt: Sequence[int], ids: tuple[int, ...]) -> Node:
        """Return the node after the prompt and the emitted ids."""
        ...


class Replayer:
    """A checkpoint's layers, run at full depth along the trees; the cache is cropped to the branch in question."""

    def __init__(self, model: Model, exits: tuple[int, ...]) -> None:
        self._model, self._state = model, DecoderState(model.open(), len(exits))

    def node(self, prompt: Sequence[int], ids: tuple[int, ...]) -> Node:
        """Feed what the cache lacks and run all segments over it."""
        state = self._state
        state.reuse([*prompt, *ids])
        for index in range(state.last + 1):
            state.advance(index, lambda: False, batch_invariant=True)
        normalised = np.stack([state.normalised(index) for index in range(state.last + 1)])  # [S, D]
        logits = self._model.head(normalised)  # [S, V]
        return Node(ids, normalised, logits, tuple(int(i) for i in logits.argmax(-1)))


class _Recorded:
    """See `Runner`: a sequence whose states are those of a tree's nodes; nothing is run."""

    def __init__(
        self, tree: Tree, max_positions: int, shortlist: NDArray[np.int64] | None = None, lone_rows: int = 1
    ) -> None:
        self._tree, self.max_positions = tree, max_positions
        self.shortlist, self.lone_rows = shortlist, lone_rows
        self._ids: list[int] = []
        self.constraint: Constraint | None = None
        """What rules the tokens after the prompt."""

    def embed(self, ids: Sequence[int], start: int) -> None:
        """See `Runner`."""
        self._ids[start:] = ids

    def bytes_at(self, positions: int) -> int:
        """See `Runner`: nothing of its own."""
        return 0

    def run(self, segment: int, start: int, stop: int, *, batch_invariant: bool) -> None:
        """See `Runner`."""

    def node(self) -> Node:
        """Return the node of the last position."""
        return self._tree.node(self._ids)

    def _nodes(self, start: int, stop: int) -> Iterator[Node]:
        """Yield the nodes of positions, up to the first draft that the last layer does not say as well.

        What stands behind it is never read (decode.py), and a model's run is saved for each.
        """
        for position in range(start, stop):
            node = self._tree.node(self._ids[: position + 1])
            yield node
            if position + 1 < stop and self._ids[position + 1] not in self._said(node):
                return

    def _said(self, node: Node) -> set[int]:
        """Return what the full head says, and the shortlist where there is one."""
        said = {pick(node.logits[-1], node.ids, self.constraint)[0]}
        if self.shortlist is not None:
            said.add(int(self.shortlist[node.logits[-1, self.shortlist].argmax()]))
        return said

    def normalised(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        return np.stack([node.states[segment] for node in self._nodes(start, stop)])

    def logits(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        read = np.stack([node.logits[segment] for node in self._nodes(start, stop)])
        return np.concatenate([read, np.full((stop - start - len(read), read.shape[1]), np.nan, read.dtype)])

    def shortlist_logits(self, segment: int, start: int, stop: int) -> Vector:
        """See `Runner`."""
        assert self.shortlist is not None, "asked of a model without a shortlist"
        return self.logits(segment, start, stop)[:, self.shortlist]


@dataclass(frozen=True, slots=True)
class _Remembered:
    """See `ExitPolicy`: another one, asked once for each state of the tree."""

    name: str
    policy: ExitPolicy | None
    """None is the oracle."""
    recorded: _Recorded

    def exit_logit(self, state: ExitState) -> float:
        """Return the logit; the head is run anew where the policy has it run, so that it is counted."""
        node, key = self.recorded.node(), (self.name, state.exit_index, state.pending)
        if key in node.exit_logits:
            logit, used_head = node.exit_logits[key]
            if used_head:
                state.logits()
            return logit
        used: list[bool] = []

        def logits() -> Vector:
            used.append(True)
            return state.logits()

        if self.policy is None:
            logit = 1.0 if node.tokens[state.exit_index] == node.full_depth else -1.0
        else:
            logit = self.policy.exit_logit(replace(state, logits=logits))
        if isinstance(self.policy, GatedPolicy):
            node.gate_gaps[key] = abs(self.policy.agent.exit_logit(state) - self.policy.gate)
        node.exit_logits[key] = logit, bool(used)
        return logit


class Tree:
    """All completions of one prompt."""

    def __init__(self, engine: Engine, grower: Grower, prompt: Sequence[int]) -> None:
        self._engine, self._grower, self._prompt = engine, grower, list(prompt)
        self.root = grower.node(prompt, ())

    def node(self, ids: Sequence[int]) -> Node:
        """Return the node at the last of the ids, which begin with the prompt; a new one runs the model."""
        node = self.root
        for token in ids[len(self._prompt) :]:
            if token not in node.children:
                node.children[token] = self._grower.node(self._prompt, (*node.ids, token))
            node = node.children[token]
        return node

    def complete(
        self,
        config: DecodeConfig,
        new_tokens: int,
        stop_ids: frozenset[int] = frozenset(),
        served: Served | None = None,
    ) -> ReplayedCompletion:
        """Return what `generate` yields under `config`, up to and with the first stop id, or the served end."""
        engine = self._engine
        rows = engine.state.runner.lone_rows
        recorded = _Recorded(self, engine.max_positions, engine.model.shortlist, rows)
        state = DecoderState(recorded, len(engine.exits))
        state.chunk_positions = engine.sequences.chunk_positions
        state.feed(self._prompt)
        log = WorkLog(engine.manifest, len(self._prompt), 0)
        policy = None if config.policy == ORACLE else engine.policies[config.policy]
        policies = {config.policy: _Remembered(config.policy, policy, recorded)}
        decoder = Decoder(state, engine.exits, policies, engine.stops, engine.drafter, log)
        steps, agrees, counts = list[Step](), list[bool](), list[bool]()
        limits = Limits(new_tokens, likely_last_ids=stop_ids)
        if served is not None:
            limits = Limits(new_tokens, likely_last_ids=served.likely_last_ids, constraint=served.constraint)
        recorded.constraint = limits.constraint
        with closing(decoder.steps(FixedControl(config), limits)) as generation:
            for step in generation:
                emitted = [done.token_id for done in steps]
                full, _ = pick(self.node([*self._prompt, *emitted]).logits[-1], emitted, limits.constraint)
                agrees.append(step.token_id == full)
                is_free = limits.constraint is None or limits.constraint(emitted) is None
                counts.append(is_free and not (served and step.token_id in served.tokenizer.special_ids))
                steps.append(step)
                if step.token_id in stop_ids or (served and served.is_over([*emitted, step.token_id])):
                    break
        counted = list(compress(agrees, counts)) or agrees[-1:]
        until = shown_steps(steps, limits.likely_last_ids)
        shown = compress(agrees[:until], counts)
        work = log.finish(len(state) - state.filled[-1])
        return ReplayedCompletion(tuple(steps), tuple(counted), work, tuple(shown))

    def serve(self, served: Served, config: DecodeConfig) -> ReplayedCompletion:
        """Return what the server generates under `config`; the tree is of the served prompt."""
        return self.complete(config, served.new_tokens, served=served)

    def margin(self, config: DecodeConfig, token_ids: Sequence[int], constraint: Constraint | None = None) -> float:
        """Return how near the completion was to another: the least gap between a logit and what it was compared with.

        Exit logits against the threshold, a gate's against the gate, and the two likeliest tokens of each exit, at the
        positions after the ids.
        """
        node, gaps = self.root, list[float]()
        for index, token in enumerate(token_ids):
            allowed = constraint(token_ids[:index]) if constraint else None
            considered = node.logits if allowed is None else node.logits[:, np.asarray(allowed)]
            exit_logits = [v for (policy, _, _), (v, _) in node.exit_logits.items() if policy == config.policy]
            gaps += [abs(logit - config.threshold) for logit in exit_logits]
            gaps += [gap for (policy, _, _), gap in node.gate_gaps.items() if policy == config.policy]
            if considered.shape[-1] > 1:
                top = np.partition(considered, -2, axis=-1)[:, -2:]  # [S, 2]
                gaps.append(float(np.diff(top).min()))
            node = node.children.get(token, node)
        return min(gaps, default=float("inf"))

"""The decode loop: decode a token, draft, verify. Written once, over a `DecoderState`; knows token ids only.

Letters: V vocabulary, k drafts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.cost import WorkLog
from greencode_lsp.engine.drafts import Drafter
from greencode_lsp.engine.policy import ExitPolicy, PolicyRule, log_odds
from greencode_lsp.engine.state import DecoderState, ExitDecision, Vector
from greencode_lsp.engine.stop import Picked, StopPolicy, StopTracker
from greencode_lsp.records import NEVER, Constraint, Control, DecodeConfig, Step

DRAFT_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a generation ends, and what it may emit."""

    max_new_tokens: int
    stop_ids: frozenset[int] = frozenset()
    """End it, and are not yielded."""
    likely_last_ids: frozenset[int] = frozenset()
    """They end lines, after which the caller often closes the generator: nothing is drafted beyond them."""
    constraint: Constraint | None = None

    @property
    def ends(self) -> frozenset[int]:
        """Ids that no draft goes beyond."""
        return self.stop_ids | self.likely_last_ids

    def rules(self, emitted: Sequence[int]) -> bool:
        """Return whether the next token is constrained."""
        return self.constraint is not None and self.constraint(emitted) is not None


@dataclass(slots=True)
class Decoder:
    """Greedy tokens after what a state was fed; counts in `log` what runs."""

    state: DecoderState
    exits: tuple[int, ...]
    policies: Mapping[str, ExitPolicy]
    stops: Mapping[str, StopPolicy]
    drafter: Drafter
    log: WorkLog

    def steps(self, control: Control, limits: Limits) -> Generator[Step, None, None]:
        """Yield greedily decoded tokens until a limit, the last position or the stop policy's word.

        A token that the stop policy ends the completion before is the last one yielded, and says so.
        """
        emitted: list[int] = []
        stop = StopTracker(self.stops, limits.likely_last_ids)
        self.state.recorder = self.log
        while len(emitted) < limits.max_new_tokens and len(self.state) < self.state.runner.max_positions:
            config = control.config()
            if config.is_batch_invariant and self.state.rerun_lone():
                self.log.reused_tokens = min(self.log.reused_tokens, self.state.filled[0])
            tokens = self._next(config, control, emitted, limits)
            for token in tokens[: limits.max_new_tokens - len(emitted)]:
                emitted.append(token.token_id)
                self.log.emitted_tokens += 1
                if token.token_id in limits.stop_ids:
                    return
                is_stop = stop.ends_before(config, token)
                yield Step(token.token_id, self.exits[token.exit_index], token.confidence, is_stop)
                if is_stop:
                    return
            self.state.feed(emitted[-1:], decoded=True)

    def _next(self, config: DecodeConfig, control: Control, emitted: list[int], limits: Limits) -> list[Picked]:
        """Return the next tokens: drafts that the last layer says as well, else decoded ones."""
        drafts = self._drafted(emitted, limits) if config.is_copying else []
        if drafts:
            length = len(self.state)
            self.state.feed(drafts, decoded=True)
            return self._verified(drafts, length, config, control, emitted, limits)
        decode = self._decode_self_speculative if config.self_speculative else self._decode
        return decode(config, control, emitted, limits)

    def _decode(self, config: DecodeConfig, control: Control, emitted: list[int], limits: Limits) -> list[Picked]:
        """Advance segment by segment until the policy says exit; pick among the ids the constraint allows."""
        rule = PolicyRule(
            self.policies[config.policy],
            config.threshold,
            self.exits,
            self.log.prompt_tokens,
            len(emitted),
            NEVER if limits.rules(emitted) else config.shortlist,  # a constraint may allow ids that are not on it
            config.self_speculative,
        )
        decision: ExitDecision = self.state.advance_until(
            rule, control.cancelled, batch_invariant=config.is_batch_invariant
        )
        if decision.is_short:
            token_id, confidence = self._on_shortlist(decision.logits)
        else:
            token_id, confidence = pick(decision.logits, emitted, limits.constraint)
        return [Picked(token_id, decision.exit_index, confidence, self._hidden(decision.exit_index, len(self.state)))]

    def _hidden(self, index: int, stop: int) -> Callable[[], Vector]:
        """Return what asks for the state that made the token at position `stop`."""
        return lambda: self.state.runner.normalised(index, stop - 1, stop)[0]

    def _decode_self_speculative(
        self, config: DecodeConfig, control: Control, emitted: list[int], limits: Limits
    ) -> list[Picked]:
        """Draft by early exits, and verify."""
        length = len(self.state)
        tokens = self._from_exits(config, control, emitted, limits)
        if tokens[0].exit_index == self.state.last:
            return tokens
        return self._verified([token.token_id for token in tokens], length, config, control, emitted, limits)

    def _verified(
        self,
        drafts: list[int],
        length: int,
        config: DecodeConfig,
        control: Control,
        emitted: list[int],
        limits: Limits,
    ) -> list[Picked]:
        """Run the rest of the layers over the drafts in one batch, keep what the last one says as well.

        The full head speaks for it; for copies the shortlist too, where it may and is sure.

        With drafts d_1 .. d_k after `length` positions, of which all or all but the last were fed, and full-depth
        tokens t_1, t_2, .. at their positions and the one after the last that was fed (Leviathan et al.; LayerSkip):
        emit t_1 .. t_a while d_i = t_i, then t_{a+1}, and crop to what was emitted.
        """
        self.state.advance_all(control.cancelled, batch_invariant=config.is_batch_invariant)
        is_short = config.shortlist < NEVER and not config.self_speculative and self.state.runner.shortlist is not None
        said = partial(self._shortlisted, threshold=config.shortlist) if is_short else self._full_depth
        kept: list[Picked] = []
        for i, (token_id, confidence) in enumerate(said(drafts, length - 1, emitted, limits)):
            kept.append(Picked(token_id, self.state.last, confidence, self._hidden(self.state.last, length + i)))
            if drafts[i : i + 1] != [token_id]:
                break
        self.state.crop(length + len(kept) - 1)
        return kept

    def _full_depth(
        self, drafts: list[int], start: int, emitted: list[int], limits: Limits
    ) -> Iterator[tuple[int, float]]:
        """Yield what the full head says at each position from `start`, and how sure it is."""
        for i, logits in enumerate(self.state.last_logits(start, len(self.state))):
            yield pick(logits, emitted + drafts[:i], limits.constraint)

    def _shortlisted(
        self, drafts: list[int], start: int, emitted: list[int], limits: Limits, *, threshold: float
    ) -> Iterator[tuple[int, float]]:
        """Yield the same, where the shortlist says it if it is sure: most copies are as easily said as found."""
        for i, logits in enumerate(self.state.last_shortlist_logits(start, len(self.state))):
            context = emitted + drafts[:i]
            if log_odds(logits) > threshold and not limits.rules(context):
                yield self._on_shortlist(logits)
            else:
                (full,) = self.state.last_logits(start + i, start + i + 1)
                yield pick(full, context, limits.constraint)

    def _on_shortlist(self, logits: Vector) -> tuple[int, float]:
        """Return the shortlist's likeliest id, and its share of the softmax over the shortlist."""
        assert self.state.runner.shortlist is not None, "asked of a model without a shortlist"
        place, confidence = pick(logits, (), None)
        return int(self.state.runner.shortlist[place]), confidence

    def _drafted(self, emitted: list[int], limits: Limits) -> list[int]:
        """Return drafts from the text and the table, to be fed all; none where a constraint rules the next token."""
        if self.drafter.is_in_vain or limits.rules(emitted):
            return []
        tokens = self.state.tokens
        room = min(self.state.runner.max_positions - len(tokens), limits.max_new_tokens - len(emitted))
        room -= 1  # the token after the drafts is fed as well, and is the last that is wanted
        return self.drafter.propose(tokens, room, limits.ends)

    def _from_exits(self, config: DecodeConfig, control: Control, emitted: list[int], limits: Limits) -> list[Picked]:
        """Return drafts from early exits, all but the last fed; the first at full depth ends them."""
        drafts: list[Picked] = []
        room = min(self.state.runner.max_positions - len(self.state), limits.max_new_tokens - len(emitted))
        for _ in range(min(DRAFT_TOKENS, room)):
            if drafts:
                self.state.feed([drafts[-1].token_id], decoded=True)
            drafts += self._decode(config, control, emitted + [d.token_id for d in drafts], limits)
            if drafts[-1].exit_index == self.state.last or drafts[-1].token_id in limits.ends:
                break
        return drafts


def considered(
    logits: Vector, emitted: Sequence[int], constraint: Constraint | None
) -> tuple[NDArray[np.int64] | None, Vector]:
    """Return the ids that the constraint allows, None for all, and their part of logits [V]."""
    allowed = constraint(emitted) if constraint else None
    ids = None if allowed is None else np.asarray(allowed)
    return ids, logits if ids is None else logits[ids]


def pick(logits: Vector, emitted: Sequence[int], constraint: Constraint | None) -> tuple[int, float]:
    """Return the likeliest id of logits [V] among those that the constraint allows, and its share of their softmax."""
    ids, allowed = considered(logits, emitted, constraint)
    best = int(allowed.argmax())
    return best if ids is None else int(ids[best]), float(1 / np.exp(allowed - allowed[best]).sum())

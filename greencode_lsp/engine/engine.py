"""The decode loop: prefill, decode a token, verify drafts. Knows token ids only.

Letters: S segments, D hidden size, V vocabulary, k drafts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from greencode_lsp.engine.cost import WorkLog, verifying_cost
from greencode_lsp.engine.drafts import draft_lengths, propose
from greencode_lsp.engine.family import Family
from greencode_lsp.engine.policy import ExitPolicy, Vector
from greencode_lsp.engine.rule import PolicyRule
from greencode_lsp.engine.segments import ExitRule, Segments
from greencode_lsp.engine.sequences import KVMode, Sequences
from greencode_lsp.errors import SettingError
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.records import Constraint, Control, DecodeConfig, Step, Work

DRAFT_TOKENS = 4


@dataclass(frozen=True, slots=True)
class _Token:
    """A token to be emitted, and the exit it left at."""

    token_id: int
    exit_index: int
    confidence: float


class Engine:
    """One model, the cached sequences of some documents, one generation at a time."""

    def __init__(
        self,
        family: Family[Any],
        manifest: Manifest,
        policies: dict[str, ExitPolicy],
        numeric: str,
        kv: KVMode = "exact",
    ) -> None:
        self.manifest, self.policies, self.device, self.numeric = manifest, policies, family.device.type, numeric
        self.max_positions = family.kv_shape[1]
        self.exits, self.layers = manifest.exits, manifest.exits[-1]
        self.family = family
        with torch.inference_mode():
            self.sequences = Sequences(family, self.exits, kv)
        self._log = WorkLog(manifest, 0, 0)
        self.draft_lengths = draft_lengths(partial(verifying_cost, manifest))
        self._ends: frozenset[int] = frozenset()
        self.work: Work = Work()

    @property
    def segments(self) -> Segments:
        """The sequence being generated, or generated last."""
        return self.sequences.latest

    @torch.inference_mode()
    def _prefill(self, prompt_ids: Sequence[int]) -> None:
        """Reuse the cached prefix and feed the rest; segments run when a token needs them."""
        self.work = Work()
        if not 0 < len(prompt_ids) < self.max_positions:
            raise SettingError(
                f"The prompt has {len(prompt_ids)} tokens, the model takes 1 to {self.max_positions - 1}; "
                "lower greencode.maxPromptTokens."
            )
        reused = self.sequences.choose(prompt_ids).reuse(prompt_ids)
        self._log = WorkLog(self.manifest, len(prompt_ids), reused)

    def _advance_until(self, rule: ExitRule, control: Control) -> int:
        """Advance the segments until the rule says leave; book what ran; return the index of the segment left after."""
        segments = self.segments
        before = [segments[s].filled for s in range(len(segments))]
        try:
            return segments.advance_until(rule, control.cancelled)
        finally:
            for s, start in enumerate(before):
                segment = segments[s]
                self._log.count_run(s, len(segment.layers), start, segment.filled - start)

    def _rule(self, config: DecodeConfig, position: int) -> PolicyRule:
        policy, prompt_tokens = self.policies[config.policy], self._log.prompt_tokens
        return PolicyRule(policy, config.threshold, prompt_tokens, position, self.family.normalise, self._head)

    def _head(self, normalised: Tensor) -> Tensor:
        """Return logits [k, V] for [k, D] and book them."""
        self._log.head_positions += len(normalised)
        return self.family.head(normalised)

    def _decode_one(self, config: DecodeConfig, control: Control, position: int) -> tuple[int, Vector]:
        """Advance segment by segment until the policy says exit; return the exit's index and its logits [V]."""
        rule = self._rule(config, position)
        index = self._advance_until(rule, control)
        if rule.logits is None or index == len(self.segments) - 1:
            return index, self._head(self.family.normalise(self.segments.outputs(index)))[0].float().cpu().numpy()
        return index, rule.logits

    @torch.inference_mode()
    def _decode(
        self, config: DecodeConfig, control: Control, emitted: list[int], constraint: Constraint | None
    ) -> list[_Token]:
        """Decode one token greedily, among the ids the constraint allows."""
        index, logits = self._decode_one(config, control, len(emitted))
        token_id, confidence = pick(logits, emitted, constraint)
        return [_Token(token_id, index, confidence)]

    @torch.inference_mode()
    def _decode_verified(
        self, config: DecodeConfig, control: Control, emitted: list[int], constraint: Constraint | None
    ) -> list[_Token]:
        """Draft, run the rest of the layers over the drafts in one batch, keep what the full model says as well.

        With drafts d_1 .. d_k and full-depth tokens t_1, t_2, .. at their positions and the one after the last that was
        fed (Leviathan et al.; LayerSkip): emit t_1 .. t_a while d_i = t_i, then t_{a+1}, and crop to what was emitted.
        """
        length, last = len(self.segments.ids), len(self.segments) - 1
        drafts = self._copied(emitted, constraint)
        if drafts:
            self.segments.feed(drafts)
        else:
            tokens = self._left_early(config, control, emitted, constraint)
            if tokens[0].exit_index == last:
                return tokens
            drafts = [token.token_id for token in tokens]
        self._advance_until(self._rule(DecodeConfig(), 0), control)
        states = self.segments.outputs(last, len(self.segments.ids) - length + 1)  # [k, D]
        full = self._head(self.family.normalise(states)).float().cpu().numpy()  # [k, V]
        kept: list[_Token] = []
        for i, logits in enumerate(full):
            token_id, confidence = pick(logits, emitted + drafts[:i], constraint)
            kept.append(_Token(token_id, last, confidence))
            if drafts[i : i + 1] != [kept[-1].token_id]:
                break
        self.segments.crop(length + len(kept) - 1)
        return kept

    def _copied(self, emitted: list[int], constraint: Constraint | None) -> list[int]:
        """Return drafts copied from the text, to be fed all; none where a constraint rules the next token."""
        if not any(self.draft_lengths) or (constraint and constraint(emitted) is not None):
            return []
        tokens = self.segments.tokens
        return propose(tokens, self.draft_lengths, self.max_positions - len(tokens), self._ends)

    def _left_early(
        self, config: DecodeConfig, control: Control, emitted: list[int], constraint: Constraint | None
    ) -> list[_Token]:
        """Return drafts that left early by the policy, all but the last fed; the first at full depth ends them."""
        drafts: list[_Token] = []
        for _ in range(min(DRAFT_TOKENS, self.max_positions - len(self.segments.ids))):
            if drafts:
                self.segments.feed([drafts[-1].token_id])
            drafts += self._decode(config, control, emitted + [d.token_id for d in drafts], constraint)
            if drafts[-1].exit_index == len(self.segments) - 1 or drafts[-1].token_id in self._ends:
                break
        return drafts

    def generate(
        self,
        prompt_ids: Sequence[int],
        control: Control,
        *,
        max_new_tokens: int,
        stop_ids: frozenset[int] = frozenset(),
        likely_last_ids: frozenset[int] = frozenset(),
        constraint: Constraint | None = None,
    ) -> Iterator[Step]:
        """Yield greedily decoded tokens until a stop id (not yielded), `max_new_tokens`, or the last position.

        `likely_last_ids` are those after which the caller often closes the generator: nothing is drafted beyond them.

        Raises CancelledError when `control` says so, and SettingError where the prompt does not fit. `work` is
        complete once the generator ended, was closed or raised.
        """
        self._prefill(prompt_ids)
        self._ends = stop_ids | likely_last_ids
        emitted: list[int] = []
        try:
            while len(emitted) < max_new_tokens and len(self.segments.ids) < self.max_positions:
                config = control.config()
                decode = self._decode_verified if config.verified else self._decode
                tokens = decode(config, control, emitted, constraint)
                for token in tokens[: max_new_tokens - len(emitted)]:
                    emitted.append(token.token_id)
                    self._log.emitted_tokens += 1
                    if token.token_id in stop_ids:
                        return
                    yield Step(token.token_id, self.exits[token.exit_index], token.confidence)
                with torch.inference_mode():
                    self.segments.feed(emitted[-1:])
        finally:
            self.work = self._log.finish(len(self.segments.ids) - self.segments[-1].filled)

    @torch.inference_mode()
    def full_depth_argmax(self, prompt_ids: Sequence[int], emitted_ids: Sequence[int], control: Control) -> list[int]:
        """Return the full-depth token for each emitted position, given the emitted tokens before it.

        For calibration and audits; `work` counts every position run as the prompt's.
        """
        self.segments.crop(len(prompt_ids) - 1)  # the rows asked for must be run, not found in the cache
        self._prefill([*prompt_ids, *emitted_ids[:-1]])
        try:
            index = self._advance_until(self._rule(DecodeConfig(), 0), control)
            normalised = self.family.normalise(self.segments.outputs(index, len(emitted_ids)))  # [T, D]
            return [int(i) for i in self._head(normalised).argmax(-1)]
        finally:
            self.work = self._log.finish(0)


def pick(logits: Vector, emitted: Sequence[int], constraint: Constraint | None) -> tuple[int, float]:
    """Return the likeliest id of logits [V] among those that the constraint allows, and its share of their softmax."""
    allowed = constraint(emitted) if constraint else None
    ids = None if allowed is None else np.asarray(allowed)
    found = logits if ids is None else logits[ids]
    best = int(found.argmax())
    return best if ids is None else int(ids[best]), float(1 / np.exp(found - found[best]).sum())

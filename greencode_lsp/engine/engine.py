"""The decode loop: prefill, decode a token, verify drafts. Knows token ids only.

Letters: S segments, D hidden size, V vocabulary, k drafts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from greencode_lsp.engine.cost import WorkLog
from greencode_lsp.engine.family import Family
from greencode_lsp.engine.policy import ExitPolicy, ExitState, Vector
from greencode_lsp.engine.segments import Segments
from greencode_lsp.errors import SettingError
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.records import Constraint, Control, DecodeConfig, Step, Work

DRAFT_TOKENS = 4


@dataclass(frozen=True, slots=True)
class _Draft:
    """A token before it is emitted: the exit it left at, and the ids the constraint allowed."""

    token_id: int
    exit_index: int
    allowed: Sequence[int] | None


class Engine:
    """One model, one cached sequence, one generation at a time."""

    def __init__(
        self, family: Family, manifest: Manifest, policies: dict[str, ExitPolicy], device: str, max_positions: int
    ) -> None:
        self.manifest, self.policies, self.device, self.max_positions = manifest, policies, device, max_positions
        self.exits, self.layers = manifest.exits, manifest.exits[-1]
        self._family = family
        with torch.inference_mode():
            self._segments = Segments(family, self.exits)
        self._log = WorkLog(manifest, 0, 0)
        self.work: Work = Work()

    @torch.inference_mode()
    def _prefill(self, prompt_ids: Sequence[int]) -> None:
        """Reuse the cached prefix and feed the rest; segments run when a token needs them."""
        self.work = Work()
        if not 0 < len(prompt_ids) < self.max_positions:
            raise SettingError(
                f"The prompt has {len(prompt_ids)} tokens, the model takes 1 to {self.max_positions - 1}; "
                "lower greencode.maxPromptTokens."
            )
        reused = self._segments.reuse(prompt_ids)
        self._log = WorkLog(self.manifest, len(prompt_ids), reused)

    def _advance(self, index: int, control: Control) -> Tensor:
        """Advance one segment and book its cost; returns [P, D]."""
        segment = self._segments[index]
        start = segment.filled
        try:
            return self._segments.advance(index, control.cancelled)
        finally:
            self._log.count_run(index, len(segment.layers), start, segment.filled - start)

    def _head(self, normalised: Tensor) -> Tensor:
        """Return logits [k, V] for [k, D] and book them."""
        self._log.head_positions += len(normalised)
        return self._family.head(normalised)

    def _decode_one(self, config: DecodeConfig, control: Control, position: int) -> tuple[int, Vector, Tensor]:
        """Advance segment by segment until the policy says exit; return exit index, logits [V], outputs [P, D]."""
        policy = self.policies[config.policy]
        for index in range(len(self._segments)):
            outputs = self._advance(index, control)
            normalised = self._family.normalise(outputs[-1:])  # [1, D]
            logits: list[Vector] = []

            def head(state: Tensor = normalised, computed: list[Vector] = logits) -> Vector:
                if not computed:
                    computed.append(self._head(state)[0].float().cpu().numpy())
                return computed[0]

            if index + 1 < len(self._segments):
                pending = len(self._segments.ids) - max(self._segments[index + 1].filled, self._log.prompt_tokens - 1)
                hidden = normalised[0].float().cpu().numpy()
                state = ExitState(hidden, index, self.exits, pending, position, head)
                if policy.exit_logit(state) <= config.threshold:
                    continue
            return index, head(), outputs
        raise AssertionError("a model has at least one segment")

    @torch.inference_mode()
    def _decode(
        self, config: DecodeConfig, control: Control, emitted: list[int], constraint: Constraint | None
    ) -> _Draft:
        """Decode one token greedily, among the ids the constraint allows."""
        index, logits, _ = self._decode_one(config, control, len(emitted))
        allowed = constraint(emitted) if constraint else None
        return _Draft(pick(logits, allowed), index, allowed)

    @torch.inference_mode()
    def _decode_verified(
        self, config: DecodeConfig, control: Control, emitted: list[int], constraint: Constraint | None
    ) -> list[_Draft]:
        """Draft up to k tokens early, run the rest of the layers over them in one batch, keep the agreeing prefix.

        With drafts d_1 .. d_k and full-depth tokens t_1 .. t_k at the same positions (Leviathan et al.; LayerSkip):
        emit d_1 .. d_a while d_i = t_i, then t_{a+1} if a < k, and crop to what was emitted.
        """
        length, last = len(self._segments.ids), len(self._segments) - 1
        drafts: list[_Draft] = []
        while len(drafts) < DRAFT_TOKENS and length + len(drafts) < self.max_positions:
            if drafts:
                self._segments.feed([drafts[-1].token_id])
            so_far = emitted + [d.token_id for d in drafts]
            index, logits, outputs = self._decode_one(config, control, len(so_far))
            allowed = constraint(so_far) if constraint else None
            drafts.append(_Draft(pick(logits, allowed), index, allowed))
            if index == last:
                break
        for index in range(drafts[-1].exit_index + 1, last + 1):
            outputs = self._advance(index, control)
        full = self._head(self._family.normalise(outputs[-len(drafts) :])).float().cpu().numpy()  # [k, V]
        kept: list[_Draft] = []
        for draft, logits in zip(drafts, full, strict=True):
            kept.append(_Draft(pick(logits, draft.allowed), last, draft.allowed))
            if kept[-1].token_id != draft.token_id:
                break
        self._segments.crop(length + len(kept) - 1)
        return kept

    def generate(
        self,
        prompt_ids: Sequence[int],
        control: Control,
        *,
        max_new_tokens: int,
        stop_ids: frozenset[int] = frozenset(),
        constraint: Constraint | None = None,
    ) -> Iterator[Step]:
        """Yield greedily decoded tokens until a stop id (not yielded), `max_new_tokens`, or the last position.

        Raises CancelledError when `control` says so, and SettingError where the prompt does not fit. `work` is
        complete once the generator ended, was closed or raised.
        """
        self._prefill(prompt_ids)
        emitted: list[int] = []
        try:
            while len(emitted) < max_new_tokens and len(self._segments.ids) < self.max_positions:
                config = control.config()
                if config.verified:
                    drafts = self._decode_verified(config, control, emitted, constraint)
                else:
                    drafts = [self._decode(config, control, emitted, constraint)]
                for draft in drafts[: max_new_tokens - len(emitted)]:
                    emitted.append(draft.token_id)
                    self._log.emitted_tokens += 1
                    if draft.token_id in stop_ids:
                        return
                    yield Step(draft.token_id, self.exits[draft.exit_index])
                with torch.inference_mode():
                    self._segments.feed(emitted[-1:])
        finally:
            self.work = self._log.finish(len(self._segments.ids) - self._segments[-1].filled)

    @torch.inference_mode()
    def full_depth_argmax(self, prompt_ids: Sequence[int], emitted_ids: Sequence[int], control: Control) -> list[int]:
        """Return the full-depth token for each emitted position, given the emitted tokens before it (calibration)."""
        self._segments.crop(len(prompt_ids) - 1)  # the rows asked for must be run, not found in the cache
        self._prefill([*prompt_ids, *emitted_ids[:-1]])
        for index in range(len(self._segments)):
            outputs = self._advance(index, control)
        normalised = self._family.normalise(outputs[-len(emitted_ids) :])  # [T, D]
        return [int(i) for i in self._head(normalised).argmax(-1)]


def pick(logits: Vector, allowed: Sequence[int] | None) -> int:
    """Return the likeliest id of logits [V], among the allowed ones."""
    if allowed is None:
        return int(logits.argmax())
    ids = np.asarray(allowed)
    return int(ids[logits[ids].argmax()])

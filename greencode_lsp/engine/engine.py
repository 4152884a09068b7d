"""One model, the cached sequences of some documents, one generation at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.architecture import Architecture
from greencode_lsp.engine.cost import WorkLog, relative_cost
from greencode_lsp.engine.decode import Decoder, Limits
from greencode_lsp.engine.drafts import Drafter
from greencode_lsp.engine.policy import ExitPolicy
from greencode_lsp.engine.sequences import Sequences
from greencode_lsp.engine.state import DecoderState, Runner, Vector
from greencode_lsp.engine.stop import STOP_POLICIES, StopPolicy
from greencode_lsp.errors import EngineError, SettingError
from greencode_lsp.models.draft_table import DraftTable
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.records import Constraint, Control, Step, Work


class Model(Protocol):
    """A loaded decoder on some device."""

    architecture: Architecture
    exits: tuple[int, ...]
    threads: int
    shortlist: NDArray[np.int64] | None
    """See `Runner`."""

    def open(self) -> Runner:
        """Return an empty sequence."""
        ...

    def head(self, normalised: Vector) -> Vector:
        """Return logits [T, V] of normalised states [T, D]."""
        ...

    def wait(self) -> None:
        """Return when all that was begun on the device is done."""
        ...


class Engine:
    """Completes token ids; see the module."""

    def __init__(
        self,
        model: Model,
        manifest: Manifest,
        policies: dict[str, ExitPolicy],
        device: str,
        precision: str,
        drafts: DraftTable | None = None,
    ) -> None:
        self.model, self.manifest, self.policies, self.device, self.precision = (
            model,
            manifest,
            policies,
            device,
            precision,
        )
        self.stops: dict[str, StopPolicy] = dict(STOP_POLICIES)
        self.max_positions = model.architecture.max_positions
        self.exits, self.layers = manifest.exits, manifest.exits[-1]
        self.sequences = Sequences(lambda: DecoderState(model.open(), len(manifest.exits)))
        self.drafter = Drafter.of(partial(relative_cost, manifest.cost_curve), drafts)
        self.work: Work = Work()

    @property
    def state(self) -> DecoderState:
        """The sequence being generated, or generated last."""
        return self.sequences.latest

    def use_costs(self, cost_curve: Mapping[int, float], head_layers: float, shortlist_layers: float = 0.0) -> None:
        """Let what was timed on this device stand in for the checkpoint's own curve: in counts and drafts.

        A shortlist that was not timed costs its share of the head's rows.
        """
        if self.model.shortlist is not None and not shortlist_layers:
            shortlist_layers = head_layers * len(self.model.shortlist) / self.model.architecture.vocabulary
        self.manifest = replace(
            self.manifest, cost_curve=dict(cost_curve), head_layers=head_layers, shortlist_layers=shortlist_layers
        )
        self.drafter = Drafter.of(partial(relative_cost, self.manifest.cost_curve), self.drafter.table)

    def _prefill(self, prompt_ids: Sequence[int], reusable: int) -> WorkLog:
        """Reuse at most so many ids of the cached prefix and feed the rest; segments run when a token needs them."""
        self.work = Work()
        if not 0 < len(prompt_ids) < self.max_positions:
            raise SettingError(
                f"The prompt has {len(prompt_ids)} tokens, the model takes 1 to {self.max_positions - 1}; "
                "lower greencode.maxPromptTokens."
            )
        if min(prompt_ids) < 0 or max(prompt_ids) >= self.model.architecture.vocabulary:
            raise EngineError("The prompt has tokens that the model does not know; ask again.")
        state = self.sequences.choose(prompt_ids)
        state.crop(reusable)
        return WorkLog(self.manifest, len(prompt_ids), state.reuse(prompt_ids))

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

        Or until the stop policy's word: the last step then says that it is not to be shown. `likely_last_ids` end
        lines, after which the caller often closes the generator: nothing is drafted beyond them.

        Raises CancelledError when `control` says so, SettingError where the prompt does not fit, and EngineError where
        its ids are not the model's. `work` is complete once the generator ended, was closed or raised.
        """
        log = self._prefill(prompt_ids, len(prompt_ids))
        decoder = Decoder(self.state, self.exits, self.policies, self.stops, self.drafter, log)
        try:
            yield from decoder.steps(control, Limits(max_new_tokens, stop_ids, likely_last_ids, constraint))
        finally:
            self.state.let_go(log.prompt_tokens + max(0, log.emitted_tokens - 1))
            self.work = log.finish(len(self.state) - self.state.filled[-1])

    def full_depth_argmax(self, prompt_ids: Sequence[int], emitted_ids: Sequence[int], control: Control) -> list[int]:
        """Return the full-depth token for each emitted position, given the emitted tokens before it.

        For threshold tables and audits; `work` counts every position run as the prompt's.
        """
        # the rows asked for must be run, not found in the cache
        log = self._prefill([*prompt_ids, *emitted_ids[:-1]], len(prompt_ids) - 1)
        self.state.recorder = log
        self.state.rerun_lone()
        try:
            logits = self.state.full_depth_logits(len(emitted_ids), control.cancelled, batch_invariant=True)
            return [int(i) for i in logits.argmax(-1)]
        finally:
            self.work = log.finish(0)

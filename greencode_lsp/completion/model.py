"""A model that completes: in this process, or behind a socket. The seam between the service and whatever computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.pipeline import CompletionControl, complete
from greencode_lsp.completion.request import Request
from greencode_lsp.energy.meter import Meter
from greencode_lsp.errors import CancelledError
from greencode_lsp.guarantee import agreement
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.prompt.heal import spelling
from greencode_lsp.records import Completion, Control, EnergyReading, FixedControl, Work

AnsweredBy = Literal["server", "shared", "team"]
"""This process, the user's shared engine, or a team's."""
NO_ENERGY = EnergyReading(0.0, "modelled", ())


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a loaded model."""

    manifest: Manifest
    device: str
    precision: str
    layers: int
    note: str = ""
    """A sentence for the user on what was loaded; empty where it is what the settings name."""


@dataclass(frozen=True, slots=True)
class ModelAudit:
    """What catching a completion up to full depth has found and taken."""

    agreed: int | None
    """Tokens that are the full model's; None where a request cut the audit short."""
    tokens: int
    energy: EnergyReading
    elapsed_ms: float


class CompletingModel(Protocol):
    """A loaded model. Blocking; one call at a time."""

    @property
    def facts(self) -> ModelFacts:
        """What is known of it."""
        ...

    @property
    def answered_by(self) -> AnsweredBy:
        """Who has answered last."""
        ...

    def complete(self, request: Request, control: CompletionControl, said: Callable[[str], None]) -> Completion:
        """Complete at the cursor, as `pipeline.complete` does."""
        ...

    def audit(self, completion: Completion, cancelled: Callable[[], bool]) -> ModelAudit:
        """Catch a completion up to full depth."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


def nothing_made(facts: ModelFacts) -> Completion:
    """Return the completion that was cancelled before anything was spent on it."""
    return Completion("", (), Work(), facts.layers, NO_ENERGY, 0.0, facts.manifest.name, facts.device)


class LoadedModel:
    """A model in this process."""

    answered_by: AnsweredBy = "server"

    def __init__(self, backend: Backend, meter: Meter) -> None:
        self.backend, self._meter = backend, meter
        engine = backend.engine
        self.facts = ModelFacts(backend.manifest, engine.device, engine.precision, engine.layers, backend.note)

    def complete(self, request: Request, control: CompletionControl, said: Callable[[str], None]) -> Completion:
        """See `CompletingModel`."""
        return complete(self.backend, request, control, self._meter, said)

    def audit(self, completion: Completion, cancelled: Callable[[], bool]) -> ModelAudit:
        """See `CompletingModel`."""
        start_s, window = time.perf_counter(), self._meter.open()
        ids = [step.token_id for step in completion.steps]
        control: Control = FixedControl(is_cancelled=cancelled)
        full: list[int] | None = None
        try:
            full = self.backend.engine.full_depth_argmax(completion.prompt_ids, ids, control)
        except CancelledError:
            pass
        finally:
            energy = window.close(self.backend.engine.work)
        elapsed_ms = (time.perf_counter() - start_s) * 1000
        if full is None:
            return ModelAudit(None, 0, energy, elapsed_ms)
        constraint = spelling(self.backend.tokenizer, completion.dropped) if completion.dropped else None
        return ModelAudit(*agreement(ids, full, constraint), energy, elapsed_ms)

    def close(self) -> None:
        """See `CompletingModel`: the last reference lets it go."""

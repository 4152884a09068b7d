"""What the completion service is made of besides itself, and what it holds of a generation and a model."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from greencode_lsp.completion.backend import Backend, load_backend
from greencode_lsp.completion.notifier import Notify
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.suggestions import Suggestion
from greencode_lsp.energy.checkpoint import Checkpoint
from greencode_lsp.energy.ledger import Ledger
from greencode_lsp.energy.meter import Meter
from greencode_lsp.models.store import ledger_path
from greencode_lsp.power import Power
from greencode_lsp.settings import Settings


def _detect(device: str, notify: Notify, checkpoint: Checkpoint) -> Meter:
    from greencode_lsp.energy.detect import detect  # with numpy, which the server's start does without

    return detect(device, notify, checkpoint)


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What the service is made of besides itself; tests put their own in."""

    load: Callable[[Settings], Backend] = load_backend
    meter: Callable[[str, Notify, Checkpoint], Meter] = _detect
    ledger: Callable[[Notify], Ledger] = lambda notify: Ledger(ledger_path(), notify)
    power: Power = field(default_factory=Power)
    rng: random.Random = field(default_factory=random.Random)
    """Draws the completions that are audited."""


@dataclass(slots=True)
class RunningCompletion:
    """A generation that is queued or runs, and how far it is."""

    number: int
    request: Request
    seen: int = 10**9
    """Characters on either side of the cursor that the model sees, at most."""
    text: str = ""
    joined: Request | None = None
    """The newer request that waits for it."""
    more_numbers: tuple[int, ...] = ()
    """Of alternatives, where the user asked."""
    document: str = ""
    is_ahead: bool = False
    """Whether nobody has asked for it yet."""

    def may_serve(self, request: Request) -> bool:
        """Return whether what it has said so far does not rule out that it fits another request."""
        return Suggestion.of(self.number, self.request, self.text, self.seen).is_on_the_way_to(request)

    @property
    def is_contradicted(self) -> bool:
        """Whether who waits for it can make no use of it any more."""
        return self.joined is not None and not self.may_serve(self.joined)


@dataclass(slots=True)
class LoadedModel:
    """A model and what measures it."""

    backend: Backend
    meter: Meter

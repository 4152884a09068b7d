"""What the completion service is made of besides itself, and what it holds of a generation and a model."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from greencode_lsp.completion.backend import Backend, load_backend
from greencode_lsp.completion.model import CompletingModel, LoadedModel
from greencode_lsp.completion.notifier import Notify
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.resting import RestingModel
from greencode_lsp.completion.suggestions import Suggestion
from greencode_lsp.energy.checkpoint import Checkpoint
from greencode_lsp.energy.ledger import Ledger
from greencode_lsp.energy.meter import Meter
from greencode_lsp.models.store import ledger_path
from greencode_lsp.power import Power
from greencode_lsp.priority import then_give_way
from greencode_lsp.settings import Settings


def _detect(device: str, notify: Notify, checkpoint: Checkpoint) -> Meter:
    from greencode_lsp.energy.detect import detect  # with numpy, which the server's start does without

    return detect(device, notify, checkpoint)


def _load_behind_editor(settings: Settings) -> Backend:
    """Load, and compute from then on behind what the user does, unless on a GPU."""
    return then_give_way(lambda: load_backend(settings), lambda backend: backend.engine.device == "cpu")


def _in_this_process(settings: Settings, notify: Notify, load: Callable[[], CompletingModel]) -> CompletingModel:
    return RestingModel(load, settings.unload_after_s)


PlaceModel = Callable[[Settings, Notify, Callable[[], CompletingModel]], CompletingModel]
"""Puts a model where the settings want it; the last argument loads it into this process."""


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What the service is made of besides itself; tests put their own in."""

    load: Callable[[Settings], Backend] = _load_behind_editor
    meter: Callable[[str, Notify, Checkpoint], Meter] = _detect
    ledger: Callable[[Notify], Ledger] = lambda notify: Ledger(ledger_path(), notify)
    power: Power = field(default_factory=Power)
    rng: random.Random = field(default_factory=random.Random)
    """Draws the completions that are audited."""
    place: PlaceModel = _in_this_process

    def open(self, settings: Settings, notify: Notify) -> CompletingModel:
        """Return the model that the settings name, where they want it; raises what loading it raises."""

        def load() -> CompletingModel:
            backend = self.load(settings)
            return LoadedModel(backend, self.meter(backend.engine.device, notify, backend.checkpoint))

        return self.place(settings, notify, load)


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

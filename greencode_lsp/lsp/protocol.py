"""What the server says beyond the protocol, `greencode/status`, and what it leaves unsaid."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lsprotocol.types import ResponseError
from pygls.protocol import LanguageServerProtocol

from greencode_lsp.completion.service import Status
from greencode_lsp.records import EnergyTier


class QuietProtocol(LanguageServerProtocol):
    """The protocol without pygls' tracebacks in the `data` of an error response: they quote the user's text."""

    def _send_response(self, msg_id: Any, result: Any = None, error: ResponseError | None = None) -> None:  # noqa: ANN401 - pygls' own signature
        if error is not None:
            error.data = None
        super()._send_response(msg_id, result, error)


STATUS_METHOD = "greencode/status"


@dataclass(frozen=True, slots=True)
class LastCompletion:
    """The completion that was computed last, shown or not."""

    energy_j: float
    energy_tier: EnergyTier
    exit_layers: tuple[int, ...]
    """Layers run for each token."""
    layers: int
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class Today:
    """Sums since the local midnight, over every editor of this user."""

    energy_j: float
    saved_j: float


@dataclass(frozen=True, slots=True)
class StatusParams:
    """The payload of `greencode/status`."""

    state: str
    """`loading`, `ready` or `failed`."""
    model: str
    preference: float
    last: LastCompletion | None
    today: Today


def status_params(status: Status) -> dict[str, Any]:
    """Return the payload as plain JSON values."""
    last = status.last
    shown = None
    if last is not None:
        energy = last.energy
        shown = LastCompletion(energy.energy_j, energy.energy_tier, last.exit_layers, last.layers, last.elapsed_ms)
    today = Today(status.today.energy_j, status.today.saved_j)
    return asdict(StatusParams(status.state, status.model, status.preference, shown, today))

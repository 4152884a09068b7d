"""What the server says beyond the protocol, `greencode/status`, and what it leaves unsaid."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol

from greencode_lsp.completion.status import Status
from greencode_lsp.energy.ledger import Totals
from greencode_lsp.preference import Choice
from greencode_lsp.records import EnergyTier


class QuietProtocol(LanguageServerProtocol):
    """The protocol without what pygls keeps and tells too much of, and with the answers it leaves out."""

    def structure_message(self, data: dict[str, Any]) -> Any:  # noqa: ANN401 - pygls' own signature
        """Read a message; a request that cannot be read is answered too."""
        try:
            return super().structure_message(data)
        except JsonRpcException as error:
            if "method" in data and isinstance(data.get("id"), (int, str)):
                code, message = types.ErrorCodes.InvalidParams, "The parameters are not those of the method."
                self._send_response(data["id"], error=types.ResponseError(code, message))
            raise error from None  # what it says of its cause quotes the message

    def _execute_handler(self, msg_id: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - pygls' own signature
        """Run a handler; pygls would keep the future of each notification for good."""
        super()._execute_handler(msg_id, *args, **kwargs)
        future = self._request_futures.get(msg_id)
        if future is not None:
            future.add_done_callback(lambda _: self._request_futures.pop(msg_id, None))

    # pygls puts a traceback, which quotes the user's text, into the data of an error
    def _send_response(self, msg_id: Any, result: Any = None, error: types.ResponseError | None = None) -> None:  # noqa: ANN401 - pygls' own signature
        if error is not None:
            error.data = None
        super()._send_response(msg_id, result, error)


STATUS_METHOD = "greencode/status"
REPORT_METHOD = "greencode/report"


@dataclass(frozen=True, slots=True)
class LastCompletion:
    """The completion that was computed last, shown or not."""

    energy_j: float
    energy_tier: EnergyTier
    full_depth_j: float
    """What its tokens would have taken at full depth; modelled, and so is the difference."""
    saved_j: float
    exit_layers: tuple[int, ...]
    """Layers run for each token."""
    layers: int
    tokens: int
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class StatusParams:
    """The payload of `greencode/status`."""

    state: str
    """`loading`, `ready`, `paused` or `failed`."""
    reason: str | None
    model: str
    device: str
    preference: float
    power: str
    """`mains`, `battery` or `unknown`."""
    last: LastCompletion | None
    today: Totals
    """Sums since the local midnight, over every editor of this user."""
    choices: tuple[Choice, ...]


def status_params(status: Status) -> dict[str, Any]:
    """Return the payload as plain JSON values."""
    last = status.last
    shown = None
    if last is not None:
        energy = last.energy
        shown = LastCompletion(
            energy_j=energy.energy_j,
            energy_tier=energy.energy_tier,
            full_depth_j=energy.full_depth_j,
            saved_j=energy.saved_j,
            exit_layers=last.exit_layers,
            layers=last.layers,
            tokens=len(last.steps),
            elapsed_ms=last.elapsed_ms,
        )
    params = StatusParams(
        state=status.state,
        reason=status.reason,
        model=status.model,
        device=status.device,
        preference=status.preference,
        power=status.power,
        last=shown,
        today=status.today,
        choices=status.choices,
    )
    return asdict(params)

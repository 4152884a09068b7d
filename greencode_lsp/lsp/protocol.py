"""What the server says beyond the protocol, `greencode/status`, and what it leaves unsaid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol, lsp_method

from greencode_lsp.completion.status import Status
from greencode_lsp.energy.ledger import Totals
from greencode_lsp.limits import ID_CHARACTERS, NESTING
from greencode_lsp.preference import Choice
from greencode_lsp.records import EnergyTier

CHANGED = {
    types.TEXT_DOCUMENT_DID_CHANGE: "textDocument",
    types.NOTEBOOK_DOCUMENT_DID_CHANGE: "notebookDocument",
}
"""Notifications after which a text is another -> where they name it."""


class QuietProtocol(LanguageServerProtocol):
    """The protocol in its order (initialize, shutdown, exit), with every request answered that has an id.

    And without pygls' logging, which would quote messages.
    """

    _server: Any

    def __init__(self, server: Any, converter: Any) -> None:  # noqa: ANN401 - pygls' own signature
        super().__init__(server, converter)
        self.noted: Callable[[str], None] = lambda sentence: None
        """Takes a line for the editor's log."""
        self.lost: Callable[[str], None] = lambda uri: None
        """Takes the URI of a document a change of which could not be read."""
        self.is_initialized = False

    def structure_message(self, data: dict[str, Any]) -> Any:  # noqa: ANN401 - pygls' own signature
        """Leave each object of a message as it is: the message is read as a whole, by `handle_message`."""
        return data

    def handle_message(self, message: Any) -> None:  # noqa: ANN401 - whatever JSON the client has sent
        """Check a message and hand it over; a request is answered whatever is wrong with it."""
        if not isinstance(message, dict) or message.get("jsonrpc") != self.VERSION or is_too_deep(message):
            self.noted("A message of the editor was none of the protocol; it was passed over.")
            return
        call_id, method = message.get("id"), message.get("method")
        if "id" in message and not is_id(call_id):
            if "method" in message:
                self._answer_error(None, types.ErrorCodes.InvalidRequest, "An id is a text or a whole number.")
            self.noted("A message of the editor had an id that is none; it was passed over.")
            return
        if "method" in message and not isinstance(method, str):
            self._answer_error(call_id, types.ErrorCodes.InvalidRequest, "A method is a text.")
            return
        code = self._out_of_order(method) if isinstance(method, str) else None
        if code is None:
            self._hand_over(message)
        elif "id" in message:
            self._answer_error(call_id, code, f"{method} is not what the server waits for now.")

    def _out_of_order(self, method: str) -> types.ErrorCodes | None:
        """Return why a method is not taken now, or None; `exit` always is."""
        if method == types.EXIT:
            return None
        if self._shutdown:
            return types.ErrorCodes.InvalidRequest
        if method == types.INITIALIZE:
            return types.ErrorCodes.InvalidRequest if self.is_initialized else None
        return None if self.is_initialized else types.ErrorCodes.ServerNotInitialized

    def _hand_over(self, message: dict[str, Any]) -> None:
        try:
            read = super().structure_message(message)
        except JsonRpcException as error:
            self._not_read(message)
            raise error from None  # what it says of its cause quotes the message
        if message.get("method") == types.INITIALIZE:
            self.is_initialized = True
        super().handle_message(read)

    def _not_read(self, message: dict[str, Any]) -> None:
        """Make up for a message whose values are not those of its method: no request waits for ever."""
        call_id, method = message.get("id"), message.get("method")
        if method is None:
            future = self._request_futures.pop(call_id, None)  # type: ignore[arg-type]  # an id, or nothing is found
            if future is not None and not future.done():
                future.set_exception(JsonRpcException("The answer is not what was asked for."))
        elif "id" in message:
            self._answer_error(call_id, types.ErrorCodes.InvalidParams, "The parameters are not those of the method.")
        elif method in CHANGED:
            params = message.get("params")
            document = params.get(CHANGED[method]) if isinstance(params, dict) else None
            uri = document.get("uri") if isinstance(document, dict) else None
            if isinstance(uri, str):
                self.lost(uri)

    def _answer_error(self, call_id: Any, code: types.ErrorCodes, sentence: str) -> None:  # noqa: ANN401 - an id or null
        self._send_response(call_id, error=types.ResponseError(code, sentence))

    @lsp_method(types.EXIT)
    def lsp_exit(self, *args: object) -> Any:  # noqa: ANN401 - pygls' is a generator
        """End: with 0 after a shutdown, with 1 without."""
        self._server.exit(0 if self._shutdown else 1)

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


def is_id(value: object) -> bool:
    """Return whether a value may be a request's id."""
    if isinstance(value, str):
        return len(value) <= ID_CHARACTERS
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_too_deep(message: object) -> bool:
    """Return whether objects and lists are nested beyond the limit."""
    level: list[Any] = [message]
    for _ in range(NESTING):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


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
    answered_by: str | None
    """`server`, `shared` or `team`."""
    exit_policy: str
    """As in the settings; `auto` is shown as what it means for this model."""
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
        answered_by=status.answered_by,
        exit_policy=status.exit_policy,
        preference=status.preference,
        power=status.power,
        last=shown,
        today=status.today,
        choices=status.choices,
    )
    return asdict(params)

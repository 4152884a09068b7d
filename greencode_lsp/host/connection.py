"""One editor at the shared engine: its requests become turns, its answers messages. Trusts nothing that it reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from greencode_lsp import __version__
from greencode_lsp.completion.model import CompletingModel
from greencode_lsp.errors import CancelledError, GreenCodeError
from greencode_lsp.host import messages
from greencode_lsp.host.messages import BadMessageError, Message, ModelChoice, from_editor
from greencode_lsp.host.turns import Turn, Turns
from greencode_lsp.host.wire import Wire, WireLostError
from greencode_lsp.limits import HELLO_S, HOST_MESSAGES, HOST_MESSAGES_S
from greencode_lsp.records import Completion, DecodeConfig, EnergyReading, Step, Work
from greencode_lsp.settings import Settings

PENDING = 2
"""Requests of one editor at once: one that somebody waits for, and an audit."""


class Host(Protocol):
    """What a connection needs of the engine's process."""

    turns: Turns

    def model_of(self, connection: Connection) -> CompletingModel:
        """Return the editor's model, loaded where it is not in memory; on the thread that computes."""
        ...

    def drain(self) -> None:
        """Take no new editors."""
        ...


def settings_of(choice: ModelChoice) -> Settings:
    """Return the settings that name a model."""
    return replace(
        Settings(),
        model=choice.model,
        device=choice.device,
        precision=choice.precision,
        latency_target_ms=choice.latency_target_ms,
    )


@dataclass(slots=True)
class _LiveControl:
    """What rules a running completion, as its editor has said last."""

    spending: messages.Spending
    decode_config: DecodeConfig
    stop: threading.Event
    is_to_give_way: Callable[[], bool]
    _settings: Settings | None = None

    def settings(self) -> Settings:
        """Return what the completion goes by."""
        if self._settings is None:
            spending = self.spending
            self._settings = replace(
                Settings(),
                preference=spending.preference,
                max_new_tokens=spending.max_new_tokens,
                max_prompt_tokens=spending.max_prompt_tokens,
                multiline=spending.multiline,
            )
        return self._settings

    def config(self) -> DecodeConfig:
        """Return the configuration for the next token."""
        return self.decode_config

    def cancelled(self) -> bool:
        """Tell whether the editor has said stop or is gone, or another waits for more than this one."""
        return self.stop.is_set() or self.is_to_give_way()


class Connection:
    """One editor's end; `serve` runs on a thread of its own, the turns on the one that computes."""

    def __init__(self, wire: Wire, host: Host) -> None:
        self._wire, self._host = wire, host
        self.choice: ModelChoice | None = None
        self.key: Hashable = None
        """By which the model is known that the editor has chosen; the thread that computes sets it."""
        self.unload_after_s: float | None = None
        self._pending: dict[int, Turn] = {}
        self._controls: dict[int, _LiveControl] = {}
        self._lock = threading.Lock()
        self._messages, self._since_s = 0, time.monotonic()

    def serve(self) -> None:
        """Serve the editor until it hangs up or breaks the protocol."""
        try:
            hello = self._wire.receive(from_editor, HELLO_S)
            if not isinstance(hello, messages.Hello):
                raise BadMessageError("no greeting")
            self._wire.send(messages.Welcome(messages.PROTOCOL, __version__))
            while True:
                message = self._wire.receive(from_editor)
                self._check_pace()
                self._handle(message, is_of_our_protocol=hello.protocol == messages.PROTOCOL)
        except WireLostError:
            pass
        except BadMessageError as error:
            with suppress(WireLostError):
                self._wire.send(messages.Refused(f"The shared engine was sent what is no message ({error})."))
        finally:
            self.close()

    def close(self) -> None:
        """Hang up, and stop all that the editor has asked for."""
        self._wire.close()
        for turn in self._turns():
            self._host.turns.cancel(turn)

    def notify(self, sentence: str) -> None:
        """Tell the user a sentence."""
        self._give(messages.Notice(messages.clean(sentence)))

    def _turns(self) -> list[Turn]:
        with self._lock:
            return list(self._pending.values())

    def _check_pace(self) -> None:
        """Raise BadMessageError where an editor floods."""
        now_s = time.monotonic()
        if now_s - self._since_s > HOST_MESSAGES_S:
            self._messages, self._since_s = 0, now_s
        self._messages += 1
        if self._messages > HOST_MESSAGES:
            raise BadMessageError("too many messages")

    def _handle(self, message: messages.FromEditor, *, is_of_our_protocol: bool) -> None:
        if isinstance(message, messages.Drain):
            self._host.drain()
        elif not is_of_our_protocol or isinstance(message, messages.Hello):
            raise BadMessageError("another protocol")
        elif isinstance(message, messages.Cancel):
            with self._lock:
                turn = self._pending.get(message.number)
            if turn is not None:
                self._host.turns.cancel(turn)
        elif isinstance(message, messages.Reconfigure):
            with self._lock:
                control = self._controls.get(message.number)
            if control is not None:
                control.decode_config = message.config
        elif isinstance(message, messages.Open):
            self._queue(message.number, lambda turn: self._open(message))
        elif isinstance(message, messages.Complete):
            is_background = message.request.unasked
            self._queue(
                message.number, lambda turn: self._complete(message), is_background=is_background, config=message
            )
        else:
            self._queue(message.number, lambda turn: self._audit(message, turn), is_background=True)

    def _queue(
        self,
        number: int,
        work: Callable[[Turn], Message],
        *,
        is_background: bool = False,
        config: messages.Complete | None = None,
    ) -> None:
        """Let a request wait for its turn, and answer it then; `config` may be changed from now on."""

        def run() -> None:
            self._answer(number, self._worked(number, lambda: work(turn)))

        def refuse() -> None:
            self._answer(number, messages.Failed(number, CancelledError.__name__, "It was cancelled."))

        turn = Turn(run, refuse, is_background)
        with self._lock:
            if number in self._pending or len(self._pending) >= PENDING:
                raise BadMessageError("too many requests at once")
            self._pending[number] = turn
            if config is not None:
                waiting = self._is_somebody_waiting if is_background else lambda: False
                self._controls[number] = _LiveControl(config.spending, config.config, turn.cancelled, waiting)
        self._host.turns.add(turn)

    def _worked(self, number: int, work: Callable[[], Message]) -> Message:
        """Return what comes of a request; on the thread that computes, which nothing ends."""
        try:
            return work()
        except GreenCodeError as error:
            return messages.Failed(number, type(error).__name__, messages.clean(str(error)))
        except Exception as error:  # noqa: BLE001 - the boundary: its message may quote the user's text, its type does not
            return messages.Failed(number, type(error).__name__, "")

    def _answer(self, number: int, message: Message) -> None:
        with self._lock:
            self._pending.pop(number, None)
            self._controls.pop(number, None)
        try:
            self._give(message)
        except Exception as error:  # noqa: BLE001 - MessagePack has no lone surrogates, and no numbers beyond 64 bits
            self._give(messages.Failed(number, type(error).__name__, ""))

    def _give(self, message: Message) -> None:
        """Send without ever waiting for an editor that does not read: it is taken for gone."""
        if not self._wire.has_room():
            self._wire.close()
            return
        with suppress(WireLostError):
            self._wire.send(message)

    def _open(self, message: messages.Open) -> Message:
        self.choice, self.key, self.unload_after_s = message.choice, None, message.unload_after_s
        facts = self._host.model_of(self).facts
        manifest = replace(facts.manifest, training={}, files={})  # for people to read
        return messages.Opened(message.number, manifest, facts.device, facts.precision, facts.layers, facts.note)

    def _complete(self, message: messages.Complete) -> Message:
        with self._lock:
            control = self._controls[message.number]

        def said(text: str) -> None:
            if self._wire.has_room():
                with suppress(WireLostError):
                    self._wire.send(messages.Said(message.number, text))

        completion = self._model().complete(message.request, control, said)
        return completed(message.number, completion)

    def _audit(self, message: messages.AuditRequest, turn: Turn) -> Message:
        completion = Completion(
            text="",
            steps=tuple(Step(token_id, 0) for token_id in message.emitted_ids),
            work=Work(),
            layers=0,
            energy=EnergyReading(0.0, "modelled", ()),
            elapsed_ms=0.0,
            model="",
            device="",
            prompt_ids=message.prompt_ids,
            dropped=message.dropped,
        )
        audit = self._model().audit(completion, lambda: turn.cancelled.is_set() or self._is_somebody_waiting())
        return messages.Audited(message.number, audit.agreed, audit.tokens, audit.energy, audit.elapsed_ms)

    def _is_somebody_waiting(self) -> bool:
        return self._host.turns.is_somebody_waiting

    def _model(self) -> CompletingModel:
        if self.choice is None:
            raise BadMessageError("no model was chosen")
        return self._host.model_of(self)


def completed(number: int, completion: Completion) -> messages.Completed:
    """Return the message of a completion."""
    return messages.Completed(
        number=number,
        text=completion.text,
        steps=completion.steps,
        work=completion.work,
        layers=completion.layers,
        energy=completion.energy,
        elapsed_ms=completion.elapsed_ms,
        model=completion.model,
        device=completion.device,
        prompt_ids=completion.prompt_ids,
        dropped=completion.dropped,
        seen_characters=completion.seen_characters,
        branches=completion.branches,
    )

"""The shared engine as an editor's server sees it: a model behind a socket, found again when it was lost."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from greencode_lsp import errors
from greencode_lsp.completion.model import NO_ENERGY, AnsweredBy, CompletingModel, ModelAudit, ModelFacts, nothing_made
from greencode_lsp.completion.pipeline import CompletionControl
from greencode_lsp.completion.request import LOOKED_AT, Request
from greencode_lsp.errors import CancelledError, EngineError, GreenCodeError, HostError
from greencode_lsp.host import messages
from greencode_lsp.host.messages import BadMessageError, ModelChoice, clean, from_engine
from greencode_lsp.host.wire import Wire, WireLostError
from greencode_lsp.limits import CANCEL_HEARD_S, OPEN_MODEL_S
from greencode_lsp.prompt.context import CHARACTERS_PER_TOKEN
from greencode_lsp.prompt.other_files import Chunk
from greencode_lsp.records import Completion, DecodeConfig
from greencode_lsp.settings import Settings

LISTEN_S = 0.005
"""Between two looks at what the user wants meanwhile; the engine's own words are heard at once."""
TRIES = 2
"""An engine that is gone is replaced once for a request: one that a request ends would end again."""

Reply = TypeVar("Reply")


def choice_of(settings: Settings) -> ModelChoice:
    """Return the settings that name a model."""
    return ModelChoice(settings.model, settings.device, settings.precision, settings.latency_target_ms)


def spending_of(settings: Settings) -> messages.Spending:
    """Return the settings that one completion goes by."""
    return messages.Spending(
        preference=settings.preference,
        max_new_tokens=settings.max_new_tokens,
        max_prompt_tokens=settings.max_prompt_tokens,
        multiline=settings.multiline,
    )


def within_reach(request: Request, max_prompt_tokens: int) -> Request:
    """Return the request with no more of its document than a completion looks at, in characters that UTF-8 has."""
    reach = 2 + max(LOOKED_AT, max_prompt_tokens * CHARACTERS_PER_TOKEN)
    start = max(0, request.offset - reach)
    text = clean(request.text[start : request.offset + reach])
    others = tuple(Chunk(clean(chunk.name), clean(chunk.text)) for chunk in request.others)
    return replace(
        request,
        text=text,
        offset=request.offset - start,
        path=clean(request.path),
        others=others,
        repository=clean(request.repository),
    )


@dataclass(frozen=True, slots=True)
class Means:
    """How a shared model comes by its engine, and by a model of its own where there is none."""

    join: Callable[[], Wire]
    """Raises HostError."""
    load: Callable[[], CompletingModel]
    """Loads the model in this process."""
    notify: Callable[[str], None]
    """Tells the user a sentence."""


class SharedModel:
    """A model in the user's engine; in this process instead from when the engine cannot be had.

    Blocking; belongs to the worker's thread, but for `close`.
    """

    def __init__(self, settings: Settings, means: Means) -> None:
        """Have the model ready; raises what loading it raises."""
        self._choice, self._unload_after_s, self._means = choice_of(settings), settings.unload_after_s, means
        self._numbers = itertools.count(1)
        self._wire: Wire | None = None
        self._facts: ModelFacts | None = None
        self._own: CompletingModel | None = None
        """The model in this process."""
        self._is_closed = False
        try:
            self._with_engine(lambda wire: None, lambda own: None)
        except BaseException:  # the engine need not wait for what nobody has
            self._hang_up()
            raise

    @property
    def facts(self) -> ModelFacts:
        """See `CompletingModel`."""
        if self._own is not None:
            return self._own.facts
        assert self._facts is not None
        return self._facts

    @property
    def answered_by(self) -> AnsweredBy:
        """See `CompletingModel`."""
        return "shared" if self._own is None else self._own.answered_by

    def complete(self, request: Request, control: CompletionControl, said: Callable[[str], None]) -> Completion:
        """See `CompletingModel`."""

        def ask(wire: Wire) -> Completion:
            settings, number = control.settings(), next(self._numbers)
            near = within_reach(request, settings.max_prompt_tokens)
            config = control.config()
            wire.send(messages.Complete(number, near, spending_of(settings), config))
            listening = _Listening(control, config, said)  # a change since then is passed on
            return completion_of(self._reply(wire, number, messages.Completed, listening))

        try:
            return self._with_engine(ask, lambda own: own.complete(request, control, said))
        except CancelledError:  # before its turn
            return nothing_made(self.facts)

    def audit(self, completion: Completion, cancelled: Callable[[], bool]) -> ModelAudit:
        """See `CompletingModel`."""

        def ask(wire: Wire) -> ModelAudit:
            number = next(self._numbers)
            ids = tuple(step.token_id for step in completion.steps)
            wire.send(messages.AuditRequest(number, completion.prompt_ids, ids, completion.dropped))
            reply = self._reply(wire, number, messages.Audited, _Listening(_Cancelled(cancelled), None))
            return ModelAudit(reply.agreed, reply.tokens, reply.energy, reply.elapsed_ms)

        try:
            return self._with_engine(ask, lambda own: own.audit(completion, cancelled))
        except CancelledError:
            return ModelAudit(None, 0, NO_ENERGY, 0.0)

    def close(self) -> None:
        """See `CompletingModel`; from any thread."""
        self._is_closed = True
        wire, own = self._wire, self._own
        if wire is not None:
            wire.close()
        if own is not None:
            own.close()

    def _with_engine(self, ask: Callable[[Wire], Reply], instead: Callable[[CompletingModel], Reply]) -> Reply:
        """Ask the engine, a new one where it is lost; without one ask the model in this process."""
        for _ in range(TRIES):
            if self._own is not None:
                return instead(self._own)
            try:
                return ask(self._connected())
            except (WireLostError, BadMessageError):
                self._hang_up()
                if self._is_closed:
                    raise CancelledError("The editor has ended.") from None
            except HostError as error:
                self._means.notify(str(error))
                self._own = self._means.load()
        if self._own is not None:
            return instead(self._own)
        raise EngineError("The shared engine has ended twice over one request; later requests are still answered.")

    def _connected(self) -> Wire:
        if self._wire is not None and self._wire.has_news(0):
            self._hear_idle(self._wire)
        if self._wire is None:
            wire, number = self._means.join(), next(self._numbers)
            self._wire = wire
            wire.send(messages.Open(number, self._choice, self._unload_after_s))
            opened = self._reply(wire, number, messages.Opened, None)
            known = ModelFacts(opened.manifest, opened.device, opened.precision, opened.layers, opened.note)
            self._facts = known
        return self._wire

    def _hear_idle(self, wire: Wire) -> None:
        """Take what the engine said while nobody asked: a sentence, or its end."""
        try:
            while wire.has_news(0):
                message = wire.receive(from_engine)
                if isinstance(message, messages.Notice):
                    self._means.notify(message.sentence)
        except (WireLostError, BadMessageError):
            self._hang_up()

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _reply(self, wire: Wire, number: int, kind: type[Reply], listening: _Listening | None) -> Reply:
        """Return the answer to a request; meanwhile pass on what the engine says, and what the user wants instead."""
        end_s = time.monotonic() + OPEN_MODEL_S if listening is None else None
        while True:
            if listening is not None:
                end_s = listening.pass_on(wire, number)
            if not wire.has_news(OPEN_MODEL_S if listening is None else LISTEN_S):
                if end_s is not None and time.monotonic() > end_s:
                    raise WireLostError("The engine hangs.")
                continue
            message: Any = wire.receive(from_engine)
            if isinstance(message, messages.Notice):
                self._means.notify(message.sentence)
            elif isinstance(message, messages.Said) and message.number == number and listening is not None:
                listening.said(message.text)
            elif isinstance(message, messages.Failed) and message.number == number:
                raise _error(message)
            elif isinstance(message, kind) and message.number == number:  # type: ignore[attr-defined]  # all answers have one
                return message
            elif isinstance(message, messages.Refused):
                raise WireLostError(message.sentence)


class _Cancelled:
    """Of a control only whether to stop."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self.cancelled = cancelled


class _Listening:
    """What a request's user wants while it runs."""

    def __init__(
        self,
        control: CompletionControl | _Cancelled,
        config: DecodeConfig | None,
        said: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Take what was sent already: `config`."""
        self._control, self._config, self.said = control, config, said
        self._cancelled_s: float | None = None

    def pass_on(self, wire: Wire, number: int) -> float | None:
        """Send what is new; return by when the engine must have answered, None where it may take its time."""
        if self._cancelled_s is None and self._control.cancelled():
            self._cancelled_s = time.monotonic()
            wire.send(messages.Cancel(number))
        elif not isinstance(self._control, _Cancelled):
            config = self._control.config()
            if config != self._config:
                self._config = config
                wire.send(messages.Reconfigure(number, config))
        return None if self._cancelled_s is None else self._cancelled_s + CANCEL_HEARD_S


def completion_of(message: messages.Completed) -> Completion:
    """Return the completion that a message carries."""
    return Completion(
        text=message.text,
        steps=message.steps,
        work=message.work,
        layers=message.layers,
        energy=message.energy,
        elapsed_ms=message.elapsed_ms,
        model=message.model,
        device=message.device,
        prompt_ids=message.prompt_ids,
        dropped=message.dropped,
        seen_characters=message.seen_characters,
        branches=message.branches,
    )


def _error(message: messages.Failed) -> GreenCodeError:
    """Return the engine's error as the user would have had it from this process."""
    kind = getattr(errors, message.kind, None)
    if isinstance(kind, type) and issubclass(kind, GreenCodeError) and kind is not HostError and message.sentence:
        return kind(message.sentence)
    name = message.kind if message.kind.isidentifier() else "an error"
    return EngineError(f"The completion failed ({name} inside the shared engine); later requests are still answered.")

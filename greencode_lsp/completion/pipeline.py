"""One completion from text to text: prompt, heal, decode, stop, filter, meter. Blocking; knows no editor."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from greencode_lsp.completion import filters
from greencode_lsp.completion.alternatives import branched, branches
from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.progress import AFTER_TOKEN, BEFORE_TOKEN, Progress, first_end
from greencode_lsp.completion.request import Request, cursor_of
from greencode_lsp.energy.meter import Meter
from greencode_lsp.errors import CancelledError, PositionError
from greencode_lsp.guarantee import cheapest
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.preference import Choose, completion_budget, decode_config, stopping
from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.fim import document_name
from greencode_lsp.prompt.heal import Healed, heal
from greencode_lsp.prompt.other_files import NONE, Written, comment_mark, token_budget, write
from greencode_lsp.records import Completion, Control, DecodeConfig, Step, Work
from greencode_lsp.settings import Settings

HEALED = 64
"""Characters of a last token that was dropped from the prompt, at most."""


class CompletionControl(Control, Protocol):
    """What a running completion asks its caller."""

    def settings(self) -> Settings:
        """Return the settings as they are now."""
        ...


@dataclass(slots=True)
class LiveControl:
    """Lets a changed setting rule the next token; works the configuration out only when a setting changed."""

    settings: Callable[[], Settings]
    cancelled: Callable[[], bool]
    manifest: Manifest
    language: str
    choose: Choose = cheapest
    _seen: Settings | None = None
    _config: DecodeConfig = field(default_factory=DecodeConfig)

    @classmethod
    def of(cls, settings: Settings, manifest: Manifest, language: str) -> LiveControl:
        """Return a control that never changes its mind and is never cancelled."""
        return cls(lambda: settings, lambda: False, manifest, language)

    def config(self) -> DecodeConfig:
        """Return the configuration for the next token."""
        settings = self.settings()
        if settings is not self._seen:
            self._seen = settings
            config = decode_config(settings, self.manifest, self.language, self.choose)
            self._config = stopping(config, settings.preference)
        return self._config


def complete(
    backend: Backend,
    request: Request,
    control: CompletionControl,
    meter: Meter,
    said: Callable[[str], None] = lambda text: None,
) -> Completion:
    """Complete at the cursor; the control's settings are asked again for every token.

    `said` is given the text so far after each token. A cancelled completion has no text but its work and energy: they
    were spent. Raises PositionError where the cursor is outside the text, and what the engine raises.
    """
    if not 0 <= request.offset <= len(request.text):
        raise PositionError(
            f"Offset {request.offset} is outside the document, which has {len(request.text)} characters."
        )
    started_s = time.perf_counter()
    window = meter.open()
    steps: list[Step] = []
    text, work, healed = "", Work(), Healed(())
    try:
        settings = control.settings()
        healed, max_new_tokens = _prompt(backend, request, settings)
        max_new_tokens = min(1, max_new_tokens) if request.unasked else max_new_tokens
        if healed.prompt_ids and max_new_tokens > 0:
            kept = request.branch.token_ids
            healed = branched(healed, request.branch, backend)
            generation = _Generation(backend, request, healed, settings, said)
            try:
                text = generation.run(control, max_new_tokens - len(kept), steps, kept)
            except CancelledError:
                text = ""
            finally:
                work = backend.engine.work
    finally:
        energy = window.close(work)
    return Completion(
        text=text,
        steps=tuple(steps),
        work=work,
        layers=backend.engine.layers,
        energy=energy,
        elapsed_ms=(time.perf_counter() - started_s) * 1000,
        model=backend.manifest.name,
        device=backend.engine.device,
        prompt_ids=healed.prompt_ids,
        dropped=healed.dropped,
        seen_characters=_seen_characters(backend, healed.prompt_ids),
        branches=branches(backend, request, healed, steps, text),
    )


def _prompt(backend: Backend, request: Request, settings: Settings) -> tuple[Healed, int]:
    """Return the healed prompt and the number of tokens that may follow it."""
    room = backend.engine.max_positions
    share = 1.0 if request.invoked else completion_budget(settings.preference).new_tokens
    max_new_tokens = min(max(1, round(settings.max_new_tokens * share)), room // 2)
    max_prompt_tokens = min(settings.max_prompt_tokens, room - max_new_tokens - 1)
    name = document_name(request.path, request.language)
    others = _others(backend, request, settings, room - max_new_tokens - 1 - max_prompt_tokens)
    ids = build_prompt(request.text, request.offset, backend.tokenizer, backend.fim, max_prompt_tokens, name, others)
    healed = heal(ids, backend.tokenizer)
    return healed, max_new_tokens + len(ids) - len(healed.prompt_ids)


def _others(backend: Backend, request: Request, settings: Settings, room: int) -> Written:
    """Return the text of other files that the preference is worth and the model has room for."""
    budget = min(token_budget(settings.preference), room)
    if not request.others or budget <= 0:
        return NONE
    comment = comment_mark(request.language)
    return write(request.others, backend.tokenizer, backend.fim, budget, request.repository, comment)


def _seen_characters(backend: Backend, prompt_ids: Sequence[int]) -> int:
    """Return how many characters on either side of the cursor the model has seen, at most."""
    text = backend.tokenizer.decode(prompt_ids)
    return len(text) + text.count("\n") + HEALED  # Windows' line ends are two characters


@dataclass(frozen=True, slots=True)
class _Whole:
    """See `Control`: another one, under which nothing ends early, since the user asked."""

    control: Control

    def config(self) -> DecodeConfig:
        """Return the configuration for the next token."""
        return replace(self.control.config(), stop="never")

    def cancelled(self) -> bool:
        """Ask the other."""
        return self.control.cancelled()


class _Generation:
    """Tokens to text, until the text is whole or no longer worth going on with."""

    def __init__(
        self, backend: Backend, request: Request, healed: Healed, settings: Settings, said: Callable[[str], None]
    ) -> None:
        self._backend, self._request, self._healed, self._said = backend, request, healed, said
        self._fim = backend.fim
        self._cursor = replace(cursor_of(request), special_tokens=tuple(self._fim.marks.values()))
        shape = filters.shape(self._cursor, settings.multiline)
        self._progress = Progress(self._cursor, shape, dropped=len(healed.dropped))

    def run(self, control: Control, max_new_tokens: int, steps: list[Step], kept: Sequence[int] = ()) -> str:
        """Generate behind the tokens kept; append each token to `steps` and return the cleaned text."""
        progress = self._progress
        for token_id in kept:
            progress.offer(self._backend.tokenizer.token_bytes(token_id), is_stop=False)
            progress.take()
        with closing(self._tokens(control, max_new_tokens)) as tokens:
            for step in tokens:
                steps.append(step)
                progress.offer(self._backend.tokenizer.token_bytes(step.token_id), is_stop=step.is_stop)
                text = first_end(BEFORE_TOKEN, progress)
                if text is None:
                    progress.take()
                    self._said(progress.text)
                    text = first_end(AFTER_TOKEN, progress)
                if text is not None:
                    return self._shown(text)
        is_finished = len(steps) < max_new_tokens
        self._cursor = replace(self._cursor, is_finished=is_finished)
        return self._shown(progress.text if is_finished else progress.whole_lines())

    def _tokens(self, control: Control, max_new_tokens: int) -> Generator[Step, None, None]:
        tokenizer = self._backend.tokenizer
        generation = self._backend.engine.generate(
            self._healed.prompt_ids,
            _Whole(control) if self._request.invoked else control,
            max_new_tokens=max_new_tokens,
            stop_ids=self._fim.stop_ids,
            likely_last_ids=tokenizer.line_end_ids,
            constraint=self._healed.constraint,
        )
        return cast("Generator[Step, None, None]", generation)

    def _shown(self, text: str) -> str:
        text = filters.clean(text, self._cursor)
        return text if self._request.invoked or filters.is_readable(text) else ""

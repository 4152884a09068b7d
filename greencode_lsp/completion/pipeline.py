"""One completion from text to text: prompt, heal, decode, stop, filter, meter. Blocking; knows no editor."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol, cast

from greencode_lsp.completion import filters
from greencode_lsp.energy.meter import Meter
from greencode_lsp.errors import CancelledError, PositionError
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.models.store import resolve
from greencode_lsp.preference import decode_config
from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.heal import Healed, heal
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import Completion, Constraint, Control, DecodeConfig, Step, Work
from greencode_lsp.settings import Settings


class Engine(Protocol):
    """What a completion needs of the engine; `greencode_lsp.engine` provides it."""

    @property
    def layers(self) -> int:
        """Depth of the model."""
        ...

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        ...

    @property
    def max_positions(self) -> int:
        """Prompt and generated tokens together."""
        ...

    @property
    def work(self) -> Work:
        """Counts of the latest generation."""
        ...

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
        """Yield tokens greedily; raises CancelledError when the control says so."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """A loaded checkpoint."""

    engine: Engine
    tokenizer: CodeTokenizer
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Request:
    """Where to complete."""

    text: str
    """The whole document."""
    offset: int
    """The cursor, in code points from the start of `text`."""
    language: str
    """The editor's language id, e.g. `python`."""


def load_backend(settings: Settings) -> Backend:
    """Load the checkpoint that the settings name; raises GreenCodeError with a sentence for the user."""
    folder = resolve(settings.model)
    tokenizer = CodeTokenizer.from_folder(folder)
    from greencode_lsp.engine.load import load_engine  # imports torch: seconds, and not before `initialize`

    engine = load_engine(folder, settings.device, settings.numeric)
    return Backend(engine, tokenizer, engine.manifest)


@dataclass(slots=True)
class _LiveControl:
    """Lets a changed setting rule the next token; works the configuration out only when a setting changed."""

    settings: Callable[[], Settings]
    cancelled: Callable[[], bool]
    manifest: Manifest
    language: str
    _seen: Settings | None = None
    _config: DecodeConfig = field(default_factory=DecodeConfig)

    def config(self) -> DecodeConfig:
        settings = self.settings()
        if settings is not self._seen:
            self._seen, self._config = settings, decode_config(settings, self.manifest, self.language)
        return self._config


def complete(
    backend: Backend,
    request: Request,
    settings: Callable[[], Settings],
    meter: Meter,
    cancelled: Callable[[], bool],
) -> Completion:
    """Complete at the cursor. `settings` is asked again for every token.

    A cancelled completion has no text but its work and energy: they were spent. Raises PositionError where the cursor
    is outside the text, and what the engine raises.
    """
    if not 0 <= request.offset <= len(request.text):
        raise PositionError(
            f"Offset {request.offset} is outside the document, which has {len(request.text)} characters."
        )
    started_s = time.perf_counter()
    window = meter.open()
    steps: list[Step] = []
    text, work = "", Work()
    try:
        healed, max_new_tokens = _prompt(backend, request, settings())
        if healed.prompt_ids and max_new_tokens > 0:
            control = _LiveControl(settings, cancelled, backend.manifest, request.language)
            try:
                text = _decode(backend, request, healed, control, max_new_tokens, steps)
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
    )


def _prompt(backend: Backend, request: Request, settings: Settings) -> tuple[Healed, int]:
    """Return the healed prompt and the number of tokens that may follow it."""
    room = backend.engine.max_positions
    max_new_tokens = min(settings.max_new_tokens, room // 2)
    max_prompt_tokens = min(settings.max_prompt_tokens, room - max_new_tokens - 1)
    ids = build_prompt(request.text, request.offset, backend.tokenizer, backend.manifest.fim, max_prompt_tokens)
    healed = heal(ids, backend.tokenizer)
    return healed, max_new_tokens + len(ids) - len(healed.prompt_ids)


def _decode(
    backend: Backend, request: Request, healed: Healed, control: Control, max_new_tokens: int, steps: list[Step]
) -> str:
    """Generate until the text is whole; append each token to `steps` and return the cleaned text."""
    tokenizer = backend.tokenizer
    before, after = (side.replace("\r\n", "\n") for side in _sides(request))
    wanted = filters.shape(before, after)
    generated, text, end = b"", "", None
    generation = backend.engine.generate(
        healed.prompt_ids,
        control,
        max_new_tokens=max_new_tokens,
        stop_ids=tokenizer.special_ids,
        likely_last_ids=tokenizer.line_end_ids,
        constraint=healed.constraint,
    )
    with closing(cast("Generator[Step, None, None]", generation)) as tokens:
        for step in tokens:
            steps.append(step)
            generated += tokenizer.token_bytes(step.token_id)
            text = whole_characters(generated[len(healed.dropped) :])
            end = filters.stop_index(text, before, wanted)
            if end is not None or filters.cut_repetition(text) != text:
                break
    if end is None and len(steps) == max_new_tokens and text.strip().count("\n"):
        end = text.rindex("\n")  # the budget ended inside a line of a block: show whole lines
    return filters.clean(text[:end], after, backend.manifest.fim.values())


def whole_characters(data: bytes) -> str:
    """Return the text of `data`, leaving out a character that is not complete yet."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


def _sides(request: Request) -> tuple[str, str]:
    return request.text[: request.offset], request.text[request.offset :]

"""One completion from text to text: prompt, heal, decode, stop, filter, meter. Blocking; knows no editor."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

from greencode_lsp.completion import filters, gate
from greencode_lsp.completion.scan import LONGEST_LOOK
from greencode_lsp.completion.selection import checkpoints
from greencode_lsp.energy.checkpoint import Checkpoint
from greencode_lsp.energy.meter import Meter
from greencode_lsp.errors import CancelledError, GreenCodeError, ModelDamagedError, PositionError
from greencode_lsp.guarantee import cheapest
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.preference import Choose, completion_budget, decode_config
from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.fim import Fim, document_name
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
    def precision(self) -> str:
        """How it computes, e.g. `int8`."""
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

    def full_depth_argmax(self, prompt_ids: Sequence[int], emitted_ids: Sequence[int], control: Control) -> list[int]:
        """Return the full-depth token for each emitted position, given the emitted tokens before it."""
        ...


LOOKED_AT = LONGEST_LOOK
"""Characters on either side of the cursor that the filters look at."""


HEALED = 64
"""Characters of a last token that was dropped from the prompt, at most."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A loaded checkpoint."""

    engine: Engine
    tokenizer: CodeTokenizer
    manifest: Manifest
    note: str = ""
    """A sentence for the user on what was loaded; empty where it is what the settings name."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What may have been calibrated."""
        return Checkpoint(self.manifest.name, self.manifest.exits, self.engine.precision)

    @property
    def fim(self) -> Fim:
        """How the model reads the text around a cursor."""
        return self.tokenizer.fim(self.manifest.fim)


@dataclass(frozen=True, slots=True)
class Request:
    """Where to complete."""

    text: str
    """The whole document."""
    offset: int
    """The cursor, in code points from the start of `text`."""
    language: str
    """The editor's language id, e.g. `python`."""
    path: str = ""
    """Of the document's file; empty where it has none."""
    invoked: bool = False
    """Whether the user asked, and not the editor by itself."""
    tab_size: int = 0
    """Columns of a tab as the editor has it; 0 where it does not say."""
    insert_spaces: bool = True
    """Whether the editor indents by spaces."""
    previewed: bool = False
    """Whether `text` holds an item that is selected in the editor's popup, and not yet in the document."""

    @property
    def line(self) -> int:
        """The cursor's line, from 0."""
        return self.text.count("\n", 0, self.offset)


def cursor_of(request: Request, looked_at: int = LOOKED_AT) -> filters.Cursor:
    """Return what the filters look at; of a long document the surroundings, from a line's start on."""
    start = max(0, request.offset - looked_at)
    if start:
        start = request.text.find("\n", start, request.offset) + 1 or start
    before, after = request.text[start : request.offset], request.text[request.offset : request.offset + looked_at]
    style = filters.Style.of_client(request.tab_size, insert_spaces=request.insert_spaces)
    return filters.Cursor.at(before, after, request.language, is_whole=start == 0, style=style)


def load_backend(settings: Settings) -> Backend:
    """Load the checkpoint that the settings name; raises GreenCodeError with a sentence for the user.

    Of `auto` the best one that loads and, once it is profiled here, is in time.
    """
    tried: set[Path] = set()
    note = ""
    while True:
        first, *others = [path for path in checkpoints(settings) if path not in tried]
        tried.add(first)
        try:
            backend = _load(first, settings)
        except GreenCodeError as error:
            if not others:
                raise
            note = note or f"{first.stem} cannot be used, so that another model serves. {error}"
            continue
        if not others or first in checkpoints(settings):  # loading has profiled it
            return replace(backend, note=note)


def _load(checkpoint: Path, settings: Settings) -> Backend:
    tokenizer = CodeTokenizer.of(checkpoint)
    from greencode_lsp.engine.load import load_engine
    from greencode_lsp.engine.timing import use_this_device  # imports numpy and more: not before `initialize`

    engine = load_engine(checkpoint, settings.device, settings.precision)
    rows, needed = engine.model.architecture.vocabulary, tokenizer.needed_rows(engine.manifest.fim.values())
    if needed > rows:
        raise ModelDamagedError(
            f"The tokenizer in {checkpoint} has {needed} tokens and the model knows {rows}; fetch or export it again."
        )
    use_this_device(engine)
    return Backend(engine, tokenizer, engine.manifest)


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
            self._config = decode_config(settings, self.manifest, self.language, self.choose)
        return self._config


def complete(
    backend: Backend,
    request: Request,
    control: LiveControl,
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
        if healed.prompt_ids and max_new_tokens > 0:
            generation = _Generation(backend, request, healed, settings, said)
            try:
                text = generation.run(control, max_new_tokens, steps)
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
        constraint=healed.constraint,
    )


def _prompt(backend: Backend, request: Request, settings: Settings) -> tuple[Healed, int]:
    """Return the healed prompt and the number of tokens that may follow it."""
    room = backend.engine.max_positions
    share = 1.0 if request.invoked else completion_budget(settings.preference).new_tokens
    max_new_tokens = min(max(1, round(settings.max_new_tokens * share)), room // 2)
    max_prompt_tokens = min(settings.max_prompt_tokens, room - max_new_tokens - 1)
    name = document_name(request.path, request.language)
    ids = build_prompt(request.text, request.offset, backend.tokenizer, backend.fim, max_prompt_tokens, name)
    healed = heal(ids, backend.tokenizer)
    return healed, max_new_tokens + len(ids) - len(healed.prompt_ids)


def seen_characters(backend: Backend, completion: Completion) -> int:
    """Return how many characters on either side of the cursor the model has seen, at most."""
    text = backend.tokenizer.decode(completion.prompt_ids)
    return len(text) + text.count("\n") + HEALED  # Windows' line ends are two characters


class _Generation:
    """Tokens to text, until the text is whole or no longer worth going on with."""

    def __init__(
        self, backend: Backend, request: Request, healed: Healed, settings: Settings, said: Callable[[str], None]
    ) -> None:
        self._backend, self._request, self._healed, self._said = backend, request, healed, said
        self._fim = backend.fim
        self._cursor = replace(cursor_of(request), special_tokens=tuple(self._fim.marks.values()))
        self._shape = filters.shape(self._cursor, settings.multiline)
        self._budget = completion_budget(settings.preference)
        self._generated = b""
        self._probability = 1.0
        self._text = ""

    def run(self, control: Control, max_new_tokens: int, steps: list[Step]) -> str:
        """Generate; append each token to `steps` and return the cleaned text."""
        end = None
        with closing(self._tokens(control, max_new_tokens)) as tokens:
            for step in tokens:
                steps.append(step)
                if not self._goes_on(step):
                    break
                end = filters.stop_index(self._text, self._cursor, self._shape)
                if end is not None or filters.repeats(self._text, self._cursor):
                    break
            else:
                is_finished = len(steps) < max_new_tokens
                self._cursor = replace(self._cursor, is_finished=is_finished)
                if not is_finished and self._text.strip().count("\n"):
                    end = self._text.rindex("\n")  # the budget ended inside a line of a block: show whole lines
        return self._shown(self._text[:end])

    def _tokens(self, control: Control, max_new_tokens: int) -> Generator[Step, None, None]:
        tokenizer = self._backend.tokenizer
        generation = self._backend.engine.generate(
            self._healed.prompt_ids,
            control,
            max_new_tokens=max_new_tokens,
            stop_ids=self._fim.stop_ids,
            likely_last_ids=tokenizer.line_end_ids,
            constraint=self._healed.constraint,
        )
        return cast("Generator[Step, None, None]", generation)

    def _goes_on(self, step: Step) -> bool:
        """Take a token; return False where it makes its line too doubtful, which then ends before it."""
        token = self._backend.tokenizer.token_bytes(step.token_id)
        self._probability *= step.confidence
        if not self._request.invoked and gate.is_doubtful(self._probability, self._budget):
            head, newline, line = self._text.rpartition("\n")
            good = gate.good_prefix(line, token.decode("utf-8", "replace"))
            self._text = head if newline and head.strip() else head + newline + good  # of a block whole lines
            return False
        self._generated += token
        self._text = whole_characters(self._generated[len(self._healed.dropped) :])
        if b"\n" in token:
            self._probability = 1.0
        self._said(self._text)
        return True

    def _shown(self, text: str) -> str:
        text = filters.clean(text, self._cursor)
        return text if self._request.invoked or filters.is_readable(text) else ""


def whole_characters(data: bytes) -> str:
    """Return the text of `data`, leaving out a character that is not complete yet."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)

"""A loaded checkpoint, what a completion needs of its engine, and how it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from greencode_lsp.completion.selection import checkpoints
from greencode_lsp.energy.checkpoint import Checkpoint
from greencode_lsp.errors import GreenCodeError, ModelDamagedError
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.prompt.fim import Fim
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import Constraint, Control, Step, Work
from greencode_lsp.settings import Settings


class CompletionEngine(Protocol):
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


@dataclass(frozen=True, slots=True)
class Backend:
    """A loaded checkpoint."""

    engine: CompletionEngine
    tokenizer: CodeTokenizer
    manifest: Manifest
    note: str = ""
    """A sentence for the user on what was loaded; empty where it is what the settings name."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What a device profile is of."""
        return Checkpoint(self.manifest.name, self.manifest.exits, self.engine.precision)

    @property
    def fim(self) -> Fim:
        """How the model reads the text around a cursor."""
        return self.tokenizer.fim(self.manifest.fim)


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

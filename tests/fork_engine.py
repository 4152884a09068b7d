"""A model that is less sure where its texts part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from greencode_lsp.errors import CancelledError
from greencode_lsp.records import Constraint, Control, Step, Work
from tests.fakes import FakeEngine, tokenizer


@dataclass
class ForkEngine(FakeEngine):
    """Goes on with the likeliest of its texts that the constraint allows; is sure where all of them agree."""

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
        self.prompts.append(tuple(prompt_ids))
        emitted: list[int] = []
        prefix = self._prefix(prompt_ids)
        while len(emitted) < max_new_tokens:
            if control.cancelled():
                raise CancelledError
            said = prefix + tokenizer().decode(emitted)
            rests = [text[len(said) :] for text in self.texts if text.startswith(said)]
            tokens = [tokenizer().encode(rest)[0] for rest in rests if rest]
            allowed = constraint(emitted) if constraint else None
            tokens = [token for token in tokens if allowed is None or token in allowed]
            if not tokens:
                return
            emitted.append(tokens[0])
            self.work = Work(prompt_tokens=len(prompt_ids), emitted_tokens=len(emitted))
            yield Step(tokens[0], 2, 0.6 if len(set(tokens)) > 1 else 0.99)


@dataclass
class SometimesForkEngine(ForkEngine):
    """That only in texts about forks; elsewhere it has memorised its texts."""

    def generate(self, prompt_ids: Sequence[int], control: Control, **limits: Any) -> Iterator[Step]:
        kind = ForkEngine if "fork" in self._prefix(prompt_ids) else FakeEngine
        return kind.generate(self, prompt_ids, control, **limits)

"""A cursor as the server completes it: prompt, healing, lengths and the rule that ends a completion are the server's.

What is calibrated and scored goes through here, so that it is what is shown. One rule is left out: the server also ends
a completion that has become doubtful, which depends on the user's preference. A table's bound holds for what that
leaves as well (`shown` in exits/replay.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from greencode_lsp.completion import filters
from greencode_lsp.completion.filters import Shape
from greencode_lsp.completion.progress import whole_characters
from greencode_lsp.completion.request import Request, cursor_of
from greencode_lsp.engine.engine import Engine
from greencode_lsp.prompt.context import build_prompt
from greencode_lsp.prompt.fim import document_name
from greencode_lsp.prompt.heal import Healed, heal
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import Constraint
from greencode_lsp.settings import Settings
from training.data.cursors import SourcePosition

PROMPT_TOKENS = Settings().max_prompt_tokens
"""Prefix and suffix together; the suffix has a quarter at most."""


@dataclass(frozen=True, slots=True)
class Served:
    """What to generate from, and when it is enough."""

    healed: Healed
    new_tokens: int
    """At most, those that spell the healed bytes again included."""
    cursor: filters.Cursor
    shape: Shape
    tokenizer: CodeTokenizer

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The healed prompt."""
        return self.healed.prompt_ids

    @property
    def constraint(self) -> Constraint | None:
        """What the first tokens must spell."""
        return self.healed.constraint

    @property
    def likely_last_ids(self) -> frozenset[int]:
        """Ids that no draft goes beyond."""
        return self.tokenizer.special_ids | self.tokenizer.line_end_ids

    def text(self, token_ids: Sequence[int]) -> str:
        """Return what the tokens add to the document, special tokens left out."""
        kept = (token for token in token_ids if token not in self.tokenizer.special_ids)
        generated = b"".join(self.tokenizer.token_bytes(token) for token in kept)
        return whole_characters(generated[len(self.healed.dropped) :])

    def is_over(self, token_ids: Sequence[int]) -> bool:
        """Say whether the server would generate no more."""
        text = self.text(token_ids)
        if token_ids[-1] in self.tokenizer.special_ids or filters.stop_index(text, self.cursor, self.shape) is not None:
            return True
        return filters.repeats(text, self.cursor)

    def first_line(self, token_ids: Sequence[int]) -> str:
        """Return the text up to the end of its first line."""
        return self.text(token_ids).split("\n", 1)[0].rstrip()


def serve(
    engine: Engine, tokenizer: CodeTokenizer, position: SourcePosition, new_tokens: int, shape: Shape | None = None
) -> Served:
    """Return what the server does at a position; `shape` is the server's choice unless given."""
    request = Request(position.document, position.offset, position.language, position.path)
    cursor = cursor_of(request)
    new_tokens = min(new_tokens, engine.max_positions // 2)
    budget = min(PROMPT_TOKENS, engine.max_positions - new_tokens - 1)
    fim = tokenizer.fim(engine.manifest.fim)
    name = document_name(request.path, request.language)
    ids = build_prompt(request.text, request.offset, tokenizer, fim, budget, name)
    healed = heal(ids, tokenizer)
    respelled = len(ids) - len(healed.prompt_ids)
    return Served(healed, new_tokens + respelled, cursor, shape or filters.shape(cursor), tokenizer)


def prompt_ids(engine: Engine, tokenizer: CodeTokenizer, position: SourcePosition, new_tokens: int) -> list[int]:
    """Return the prompt the server would build, within a small budget that leaves room for `new_tokens`.

    The last token is not healed: what is measured in time goes by ids alone. `serve` heals.
    """
    budget = min(PROMPT_TOKENS, engine.max_positions - new_tokens - 1)
    name = document_name(position.path, position.language)
    fim = tokenizer.fim(engine.manifest.fim)
    return build_prompt(position.document, position.offset, tokenizer, fim, budget, name)

"""From a document and a cursor to prompt ids.

The suffix stands before the prefix (SPM order), so that typing only appends ids, and the prefix begins at a line whose
number is a multiple of `START_EVERY_LINES` where the budget allows: between two such steps the ids of one keystroke
begin with those of the keystroke before, and the engine's cache is reused.
"""

from __future__ import annotations

from collections.abc import Mapping

from greencode_lsp.prompt.tokenizer import CodeTokenizer

PREFIX_SHARE = 0.75
"""The prefix's share of the budget where both sides would fill it."""
START_EVERY_LINES = 8
SPECIAL_TOKENS = 3
"""Document, suffix and prefix marks, kept free in the budget."""
CHARACTERS_PER_TOKEN = 16
"""No more text than this per token of the budget is looked at; code has three to five."""


def build_prompt(
    text: str, offset: int, tokenizer: CodeTokenizer, fim: Mapping[str, str], max_prompt_tokens: int
) -> list[int]:
    """Return at most `max_prompt_tokens` ids for completing `text` at the code point `offset`.

    `fim` maps the roles `document`, `suffix` and `prefix` to token texts; without `suffix` and `prefix`, or with
    nothing but blanks after the cursor, the prompt is the plain prefix.
    """
    marks = {role: tokenizer.token_id(token) for role, token in fim.items()}
    document, suffix_mark, prefix_mark = (marks.get(role) for role in ("document", "suffix", "prefix"))
    budget = max(1, max_prompt_tokens - SPECIAL_TOKENS)
    prefix, suffix = text[:offset].replace("\r\n", "\n"), text[offset:].replace("\r\n", "\n")
    suffix_ids: list[int] = []
    if suffix_mark is not None and prefix_mark is not None and suffix.strip():
        suffix_ids = _head(suffix, tokenizer, budget - int(budget * PREFIX_SHARE))
    prefix_ids = _tail(prefix, tokenizer, budget - len(suffix_ids))
    opening = [] if document is None else [document]
    if suffix_mark is None or prefix_mark is None or not suffix_ids:
        return opening + prefix_ids
    return [*opening, suffix_mark, *suffix_ids, prefix_mark, *prefix_ids]


def _head(text: str, tokenizer: CodeTokenizer, budget: int) -> list[int]:
    return tokenizer.encode(text[: budget * CHARACTERS_PER_TOKEN])[:budget]


def _tail(text: str, tokenizer: CodeTokenizer, budget: int) -> list[int]:
    """Return the ids of the end of `text`, from the earliest fitting line start on; of a longer line, its end."""
    lines = text.split("\n")
    lines = [line + "\n" for line in lines[:-1]] + lines[-1:]
    start, used = len(lines), 0
    while start:
        line = lines[start - 1]
        used += budget + 1 if len(line) > budget * CHARACTERS_PER_TOKEN else len(tokenizer.encode(line))
        if used > budget:
            break
        start -= 1
    stable = -(-start // START_EVERY_LINES) * START_EVERY_LINES
    if stable - start <= (len(lines) - start) // 4:  # a stable start may cost a quarter of the lines, not more
        start = stable
    kept = "".join(lines[min(start, len(lines) - 1) :])
    return tokenizer.encode(kept[-budget * CHARACTERS_PER_TOKEN :])[-budget:]

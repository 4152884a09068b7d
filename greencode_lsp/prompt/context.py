"""From a document and a cursor to prompt ids, such that a keystroke's prompt begins with the ids of the one before.

The suffix stands before the prefix (SPM order), so that typing only appends ids. What else would change the front of
the prompt is kept still by choice of what is shown, a function of the text and cursor alone:

- closing brackets and quotes right of the cursor are left out: editors insert them while one types;
- the prefix begins at a line chosen by its content, not by its number or its distance from the cursor: it stays while
  the text below it grows, until it no longer fits, and lines inserted above do not move it.

Not kept still is the suffix under a cursor that moves to another line. Hiding the lines right below the cursor would
do that, but they are what the suffix is read for.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence

from greencode_lsp.prompt.lines import encode_line, encode_lines, split_lines
from greencode_lsp.prompt.tokenizer import CodeTokenizer

SUFFIX_SHARE = 0.25
"""The suffix's share of the budget, at most."""
SLACK = 0.375
"""A prefix that is cut begins so that it fills its budget but for at most this share."""
NEIGHBOURS = 4
"""A line lasts as the start of a prefix if it suits better than as many lines on either side."""
SPECIAL_TOKENS = 3
"""Document, suffix and prefix marks, kept free in the budget."""
CHARACTERS_PER_TOKEN = 16
"""No more text than this per token of the budget is looked at; code has three to five."""
CLOSERS = re.compile(r"[)\]}>\"'`;:]+[ \t]*(?=\r?\n|\Z)")
"""The rest of a line that an editor may have put there by itself."""


def skip_closers(text: str, offset: int) -> int:
    """Return where the text after the cursor begins for us: behind the closers that an editor may have put there."""
    closers = CLOSERS.match(text, offset)
    return closers.end() if closers else offset


def build_prompt(
    text: str, offset: int, tokenizer: CodeTokenizer, fim: Mapping[str, str], max_prompt_tokens: int
) -> list[int]:
    """Return at most `max_prompt_tokens` ids (two, if that is more) for completing `text` at the code point `offset`.

    `fim` maps the roles `document`, `suffix` and `prefix` to token texts; without `suffix` and `prefix`, or with
    nothing but blanks and closers after the cursor, the prompt is the plain prefix.
    """
    marks = {role: tokenizer.token_id(token) for role, token in fim.items()}
    document, suffix_mark, prefix_mark = (marks.get(role) for role in ("document", "suffix", "prefix"))
    budget = max(1, max_prompt_tokens - SPECIAL_TOKENS)
    opening = [] if document is None else [document]
    if suffix_mark is not None and prefix_mark is not None:
        suffix_ids = _suffix(text, offset, tokenizer, int(budget * SUFFIX_SHARE))
        if suffix_ids:
            prefix_ids = _prefix(text, offset, tokenizer, budget - len(suffix_ids))
            return [*opening, suffix_mark, *suffix_ids, prefix_mark, *prefix_ids]
    return opening + _prefix(text, offset, tokenizer, budget)


def _suffix(text: str, offset: int, tokenizer: CodeTokenizer, budget: int) -> list[int]:
    """Return the ids of the whole lines after the cursor that fit, of a longer rest of its line the beginning."""
    start = skip_closers(text, offset)
    after = text[start : start + budget * CHARACTERS_PER_TOKEN].replace("\r\n", "\n")
    if not after.strip():
        return []
    fitting: list[str] = []
    used = 0
    for line in split_lines(after):
        used += len(encode_line(tokenizer, line))
        if used > budget:
            break
        fitting.append(line)
    ids = encode_lines(tokenizer, fitting)
    return (ids or tokenizer.encode(after))[:budget]


def _prefix(text: str, offset: int, tokenizer: CodeTokenizer, budget: int) -> list[int]:
    """Return the ids of the lines before the cursor, from one that lasts on; of a longer line, those of its end."""
    window = max(0, offset - budget * CHARACTERS_PER_TOKEN)
    lines = split_lines(text[window:offset].replace("\r\n", "\n"))
    whole = 0 if window == 0 else 1  # the first line of a window is a part
    sizes: dict[int, int] = {}
    used = 0
    for index in range(len(lines) - 1, whole - 1, -1):
        used += len(encode_line(tokenizer, lines[index]))
        if used > budget:
            break
        sizes[index] = used
    if not sizes:
        return _end(text[text.rfind("\n", 0, offset) + 1 : offset], tokenizer, budget)
    near_full = sorted(index for index, size in sizes.items() if size > budget * (1 - SLACK))
    start = 0 if 0 in sizes else _lasting(lines, near_full or [min(sizes)])
    kept = [lines[start].removeprefix("\n"), *lines[start + 1 :]]
    return encode_lines(tokenizer, kept)[-budget:]


def _lasting(lines: Sequence[str], candidates: Sequence[int]) -> int:
    """Return the first candidate that is a better start than its neighbours, or else the best candidate.

    Whether a line is better than its neighbours does not depend on the cursor, so such a start stays the start until
    it no longer fits; then the next one follows, a function or a few lines further on.
    """
    ranks = [_rank(line) for line in lines]
    for index in candidates:
        around = ranks[max(0, index - NEIGHBOURS) : index] + ranks[index + 1 : index + 1 + NEIGHBOURS]
        if all(ranks[index] < other for other in around):
            return index
    return min(candidates, key=lambda index: ranks[index])


def _rank(line: str) -> tuple[bool, int, int]:
    """Order lines by how well a prompt begins with them: code before blanks and punctuation, then the outermost.

    Among equals a checksum decides: any order of the lines' contents does.
    """
    code = line.lstrip()
    return not re.match(r"[\w@]", code), len(line) - len(code), zlib.crc32(line.encode("utf-8", "replace"))


def _end(line: str, tokenizer: CodeTokenizer, budget: int) -> list[int]:
    """Return the ids of the end of a line that is longer than the budget; its beginning goes in steps."""
    step = budget * CHARACTERS_PER_TOKEN // 4
    ids = tokenizer.encode(line[_in_steps(len(line) - 4 * step, step) :])
    return ids[_in_steps(len(ids) - budget, max(1, budget // 4)) :]


def _in_steps(excess: int, step: int) -> int:
    """Return the multiple of `step` next above an excess, 0 for none."""
    return max(0, -(-excess // step)) * step

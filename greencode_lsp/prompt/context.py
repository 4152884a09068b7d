"""From a document and a cursor to prompt ids, such that a keystroke's prompt begins with the ids of the one before.

What a line gains stands last: in SPM order the suffix stands before the prefix, in PSM order the beginning of the
cursor's line behind the middle mark (prompt/fim.py). What else would change the front of the prompt is kept still by
choice of what is shown, a function of the text and cursor alone:

- closing brackets and quotes right of the cursor are left out: editors insert them while one types;
- the prefix begins at a line chosen by its content, not by its number or its distance from the cursor: it stays while
  the text below it grows, until it no longer fits, and lines inserted above do not move it;
- in PSM order what is above the cursor's line gets the same room whatever stands in that line.

Not kept still is the suffix under a cursor that moves to another line; in PSM order it is read again then, even if it
is the same, so it is shorter there. Hiding the lines right below the cursor would keep it in SPM order, but they are
what the suffix is read for.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

from greencode_lsp.prompt.fim import Fim
from greencode_lsp.prompt.lines import encode_line, encode_lines, split_lines
from greencode_lsp.prompt.other_files import NONE, Written
from greencode_lsp.prompt.tokenizer import CodeTokenizer

SUFFIX_SHARES = {"spm": 0.25, "psm": 0.2, "plain": 0.0}
"""The suffix's share of the budget, at most, by the format's order."""
LINE_SHARE = 0.125
"""What the cursor's line has for itself in PSM order, and more where less is above it."""
TITLE_SHARE = 0.125
"""A longer file name is left out."""
SLACK = 0.375
"""A prefix that is cut begins so that it fills its budget but for at most this share."""
NEIGHBOURS = 4
"""A line lasts as the start of a prefix if it suits better than as many lines on either side."""
SPECIAL_TOKENS = {"spm": 3, "psm": 4, "plain": 3}
"""Document and fill-in-the-middle marks, kept free in the budget."""
CHARACTERS_PER_TOKEN = 16
"""No more text than this per token of the budget is looked at; code has three to five."""
CLOSERS = re.compile(r"[)\]}>\"'`;:]+[ \t]*(?=\r?\n|\Z)")
"""The rest of a line that an editor may have put there by itself."""


def skip_closers(text: str, offset: int) -> int:
    """Return where the text after the cursor begins for us: behind the closers that an editor may have put there."""
    closers = CLOSERS.match(text, offset)
    return closers.end() if closers else offset


def build_prompt(  # noqa: PLR0913 - a place, how the model reads, and what else it is told
    text: str,
    offset: int,
    tokenizer: CodeTokenizer,
    fim: Fim,
    max_prompt_tokens: int,
    name: str = "",
    others: Written = NONE,
) -> list[int]:
    """Return at most `max_prompt_tokens` ids (two, if that is more) for completing `text` at the code point `offset`.

    `name` is the file's, for models that are given it; `others` are other files, which are not counted. Where `fim` is
    plain or goes on alone, or with nothing but blanks and closers after the cursor, the prompt is the plain prefix.
    """
    title = _title(name, tokenizer, fim, max_prompt_tokens)
    heading = len(title) + 1 if title else 0
    budget = max(1, max_prompt_tokens - SPECIAL_TOKENS[fim.order] - heading)
    suffix_room = 0 if fim.goes_on_alone and _is_begun(text, offset) else int(budget * SUFFIX_SHARES[fim.order])
    after = _suffix(text, offset, tokenizer, suffix_room) if suffix_room else []
    if not after:
        return fim.arrange_plain([*others.above, *_prefix(text, offset, tokenizer, budget)], title, others.front)
    if fim.order == "spm":
        above = [*others.above, *_prefix(text, offset, tokenizer, budget - len(after))]
        return fim.arrange(above, after, [], title, others.front)
    start = text.rfind("\n", 0, offset) + 1
    above_room = budget - suffix_room - int(budget * LINE_SHARE)
    above = _prefix(text, start, tokenizer, above_room) if start and above_room > 0 else []
    line = _line(text[start:offset], tokenizer, budget - len(after) - len(above))
    return fim.arrange([*others.above, *above], after, line, title, others.front)


def _is_begun(text: str, offset: int) -> bool:
    """Say whether the cursor's line has text before the cursor, and nothing but blanks and closers after it."""
    start, end = text.rfind("\n", 0, offset) + 1, text.find("\n", offset)
    rest = text[skip_closers(text, offset) : end if end >= 0 else len(text)]
    return not text[start:offset].isspace() and start < offset and not rest.strip()


def _title(name: str, tokenizer: CodeTokenizer, fim: Fim, max_prompt_tokens: int) -> list[int]:
    """Return the ids of the file's name and a newline, where the model takes it and it is not too long."""
    if not name or not fim.title or "file" not in fim.ids:
        return []
    ids = tokenizer.encode(name + "\n")
    return ids if len(ids) < max_prompt_tokens * TITLE_SHARE else []


def _line(line: str, tokenizer: CodeTokenizer, budget: int) -> list[int]:
    """Return the ids of the cursor's line up to the cursor; of a longer one, those of its end."""
    if len(line) <= budget * CHARACTERS_PER_TOKEN:
        ids = tokenizer.encode(line)
        if len(ids) <= budget:
            return ids
    return _end(line, tokenizer, budget)


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

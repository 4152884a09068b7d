"""From source files to rows of token ids: chunks, fill-in-the-middle, packing.

A sample is a run of whole lines that fits the row; half of them are rearranged for fill-in-the-middle as prompts are
(prompt/fim.py: suffix before prefix, so that typing extends the sequence; a base model in its own format):

    <|endoftext|> <|fim_suffix|> suffix <|fim_prefix|> prefix middle <|fim_end|>
    <|endoftext|> text                                   (also where the suffix came out empty)

Most cursors are the server's: anywhere in a line's code, the middle is the rest of that line or a few lines more, the
suffix short. Half of the middles are tokenised together with the prefix, as a healed prompt goes on, half apart from
it, as one that is not healed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from greencode_lsp.prompt.fim import Fim
from training.checkpoint.bpe import fim_marks

CHARS_PER_TOKEN = 3.0
FIM_SHARE = 0.5
LINE_SHARE = 0.8
"""Of the rearranged samples, those whose middle ends with a line; the others are cut at any two characters."""
MORE_LINES = (0, 0, 0, 0, 1, 2, 3)
"""Whole lines after the cursor's own in a middle: one is drawn."""
JOINT_SHARE = 0.5
"""Of the rearranged samples, those whose prefix and middle are tokenised as one text."""
MAX_MIDDLE_CHARS = 400
MAX_SUFFIX_LINES = 16


def chunks(text: str, context: int, rng: random.Random) -> Iterator[str]:
    """Cut a file at line starts into pieces of about a third of a row to a whole row of `context` tokens."""
    lines, piece, size = text.splitlines(keepends=True), [], 0
    limit = rng.uniform(0.33, 1.0) * context * CHARS_PER_TOKEN
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= limit:
            yield "".join(piece)
            piece, size, limit = [], 0, rng.uniform(0.33, 1.0) * context * CHARS_PER_TOKEN
    if size > 40:
        yield "".join(piece)


def parts(text: str, rng: random.Random) -> tuple[str, str, str]:
    """Return prefix, middle and suffix of a chunk, by lines or by characters."""
    lines = text.split("\n")
    drawn = [number for number, line in enumerate(lines) if line.strip()]
    if drawn and rng.random() < LINE_SHARE:
        return _parts_by_line(lines, rng.choice(drawn), rng)
    start = rng.randrange(len(text) + 1)
    # log-uniform in length, so that short ones are common
    length = int(math.exp(rng.uniform(0, math.log(MAX_MIDDLE_CHARS))))
    return text[:start], text[start : start + length], text[start + length :]


def _parts_by_line(lines: list[str], number: int, rng: random.Random) -> tuple[str, str, str]:
    """Return the parts for a cursor in a line's code; the suffix begins with the newline that ends the middle."""
    line = lines[number]
    column = rng.randrange(len(line) - len(line.lstrip()), len(line.rstrip()))
    last = min(len(lines), number + 1 + rng.choice(MORE_LINES))
    before, after = [*lines[:number], line[:column]], lines[last : last + rng.randint(1, MAX_SUFFIX_LINES)]
    return "\n".join(before), "\n".join([line[column:], *lines[number + 1 : last]]), "".join("\n" + a for a in after)


def encode_sample(text: str, tokenizer: Tokenizer, rng: random.Random) -> list[int]:
    """Return the ids of one chunk, plain or rearranged; a tokenizer without the special tokens has them plain."""
    fim = Fim.of(tokenizer.token_to_id, frozenset(), fim_marks(tokenizer.token_to_id))

    def encode(part: str) -> list[int]:
        return list(tokenizer.encode(part, add_special_tokens=False).ids)

    if fim.order == "plain":
        return encode(text)
    end = [fim.ids["end"]]
    closing = [] if fim.opening else end  # what lies between two documents is said once
    if rng.random() >= FIM_SHARE:
        return [*fim.opening, *encode(text), *closing]
    prefix, middle, suffix = parts(text, rng)
    if not suffix.strip():
        whole = encode(prefix + middle) if rng.random() < JOINT_SHARE else [*encode(prefix), *encode(middle)]
        return [*fim.opening, *whole, *closing]
    start = prefix.rfind("\n") + 1 if fim.order == "psm" else len(prefix)
    is_joint = rng.random() < JOINT_SHARE
    if fim.order == "psm":
        above, begun = prefix[:start], prefix[start:]
        line = encode(begun + middle) if is_joint else [*encode(begun), *encode(middle)]
        return [*fim.arrange(encode(above), encode(suffix), line), *end]
    body = encode(prefix + middle) if is_joint else [*encode(prefix), *encode(middle)]
    return [*fim.arrange([], encode(suffix), body), *end]


def samples_of(text: str, tokenizer: Tokenizer, context: int, rng: random.Random) -> Iterator[NDArray[Any]]:
    """Yield the samples [n] of one file, as uint16 where the vocabulary allows it."""
    dtype = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32
    return (np.array(encode_sample(chunk, tokenizer, rng), dtype) for chunk in chunks(text, context, rng))


def pack_sequences(samples: list[NDArray[Any]], context: int, max_tokens: int, rng: random.Random) -> NDArray[Any]:
    """Return rows [N, context + 1] of ids: shuffled samples laid end to end, at most `max_tokens` of them."""
    rng.shuffle(samples)
    flat = np.concatenate([np.empty(0, np.uint16), *samples])
    rows = min(len(flat), max_tokens + context) // (context + 1)
    return flat[: rows * (context + 1)].reshape(rows, context + 1)

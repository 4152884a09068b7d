"""Line by line to ids, remembered: a keystroke tokenises its own line, whatever the length of the file."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from greencode_lsp.prompt.tokenizer import CodeTokenizer

REMEMBERED_CHARACTERS = 200
"""Longer lines are tokenised each time."""
_MIXED_LINES = "class A:\n\n    def f(self):\n\tx = {\n        1: [],\n    }\n\n\n    f();  \n*/\ny = 'z'\n"
"""What tokenizers merge across line ends, where they do: punctuation, blank lines and indentation."""


def split_lines(text: str) -> list[str]:
    """Split so that the pieces join to `text`; each but the first begins with its newline, which indentation needs."""
    first, *others = text.split("\n")
    return [first, *("\n" + line for line in others)]


def encode_line(tokenizer: CodeTokenizer, line: str) -> Sequence[int]:
    """Return the ids of one piece of `split_lines`."""
    return tokenizer.encode_again(line) if len(line) <= REMEMBERED_CHARACTERS else tokenizer.encode(line)


def encode_lines(tokenizer: CodeTokenizer, lines: Sequence[str]) -> list[int]:
    """Return the ids of consecutive pieces of `split_lines`.

    They are those of the joined text. Where the tokenizer merges across line ends (`):` and the newline are one token
    of Llama 3's) that takes tokenising it whole; else each line stands alone, and editing one leaves the ids of the
    others as they are.
    """
    if lines_stand_alone(tokenizer):
        return [token_id for line in lines for token_id in encode_line(tokenizer, line)]
    return tokenizer.encode("".join(lines))


def lines_stand_alone(tokenizer: CodeTokenizer) -> bool:
    """Say whether the ids of a text are those of its lines, one after the other."""
    if tokenizer not in _STAND_ALONE:
        apart = [token_id for line in split_lines(_MIXED_LINES) for token_id in tokenizer.encode(line)]
        _STAND_ALONE[tokenizer] = apart == tokenizer.encode(_MIXED_LINES)
    return _STAND_ALONE[tokenizer]


_STAND_ALONE: WeakKeyDictionary[CodeTokenizer, bool] = WeakKeyDictionary()
"""A tokenizer of a model that was replaced is not kept."""

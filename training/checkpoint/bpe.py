"""Byte-level BPE fitted to code: newline is one token, indentation runs are tokens, any bytes round-trip.

The split keeps a newline apart from everything else, so that tokens never cross a line: an edit changes the ids of
its own line only, and "end of line" is one id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from greencode_lsp.errors import CorpusError
from greencode_lsp.prompt.fim import Fim

SPECIAL_TOKENS = {
    "document": "<|endoftext|>",
    "suffix": "<|fim_suffix|>",
    "prefix": "<|fim_prefix|>",
    "end": "<|fim_end|>",
}
# newline | indentation | word | digits | punctuation | other space (a run but the blank before a word; then any)
_SPLIT = r"\r?\n|(?<=\n)[ \t]+| ?[\p{L}_][\p{L}\p{N}_]*| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}_]+|[ \t]+(?=[ \t]\S)|\s"


def build(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Fit the tokenizer. Raises CorpusError where the text is too small for `vocab_size` entries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise CorpusError(f"The corpus yields {tokenizer.get_vocab_size()} tokens of {vocab_size}; name more sources.")
    return tokenizer


def fim_marks(find: Callable[[str], int | None]) -> dict[str, str]:
    """Return the fill-in-the-middle marks of a tokenizer by role, as a manifest states them.

    They are this project's own where the tokenizer has them all, else those of a published format, else what begins a
    document alone. `find` gives the id of a special token's text.
    """
    own = {role: mark for role, mark in SPECIAL_TOKENS.items() if find(mark) is not None}
    if len(own) == len(SPECIAL_TOKENS):
        return own
    published = Fim.of(find, frozenset(), {}).marks
    return dict(published) or {role: mark for role, mark in own.items() if role == "document"}


def load(folder: Path) -> Tokenizer:
    """Read `tokenizer.json` of a checkpoint or work folder."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))

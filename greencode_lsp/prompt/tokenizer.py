"""The checkpoint's byte-level tokenizer: text to ids, ids to the exact bytes they stand for."""

from __future__ import annotations

import bisect
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from greencode_lsp.errors import ModelDamagedError, UnsupportedModelError
from greencode_lsp.models.contents import MAX_TOKENIZER_BYTES, read_file
from greencode_lsp.prompt.fim import Fim

TOKENIZER_NAME = "tokenizer.json"
REMEMBERED_TEXTS = 2048
"""A line of code and its ids take about a fifth of a kilobyte; they go with the tokenizer."""
MAX_VOCABULARY = 1 << 20
"""A list of so many texts is made, whatever ids the file names."""
_MARK = re.compile(r"<[^\s<>]+>|\[[A-Z_]+\]|▁<[A-Z]+>")
"""What an added token is called that stands for no text, whatever its flag says: `<|fim_prefix|>`, `[SUFFIX]`."""


def _character_of_byte() -> dict[int, int]:
    """Return the byte-level alphabet backwards, as `str.translate` reads it, to the characters of Latin-1.

    Printable bytes stand for themselves, the others for code points from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {256 + index: byte for index, byte in enumerate(others)} | dict.fromkeys(others, 0x100)


class CodeTokenizer:
    """A byte-level BPE. Special tokens are found by name only: their text in a source file is ordinary text."""

    def __init__(self, tokenizer: Tokenizer, *, is_instruct: bool = False) -> None:
        self._tokenizer, self._is_instruct = tokenizer, is_instruct
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = tokenizer.get_added_tokens_decoder()
        marks = {i: token.content for i, token in added.items() if token.special or _MARK.fullmatch(token.content)}
        tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks.values()])
        self._tokenizer.encode_special_tokens = True
        self.special_ids = frozenset(marks)
        self._bytes = self._read_vocabulary({token_id: token.content for token_id, token in added.items()})
        self._again = lru_cache(REMEMBERED_TEXTS)(lambda text: array("I", self.encode(text)))

    @classmethod
    def of(cls, checkpoint: Path) -> CodeTokenizer:
        """Read the tokenizer of a GGUF file, or the `tokenizer.json` of a folder.

        Raises ModelNotFoundError where there is none, ModelDamagedError where it cannot be read and
        UnsupportedModelError where its vocabulary is not byte-level.
        """
        if not checkpoint.is_file():
            return cls.from_folder(checkpoint)
        from greencode_lsp.prompt.gguf_tokenizer import read_tokenizer  # with numpy, which starting does without

        tokenizer, is_instruct = read_tokenizer(checkpoint)
        return cls(tokenizer, is_instruct=is_instruct)

    @classmethod
    def from_folder(cls, folder: Path) -> CodeTokenizer:
        """Read a folder's `tokenizer.json`; raises as `of` does."""
        path = folder / TOKENIZER_NAME
        data = read_file(folder, TOKENIZER_NAME, MAX_TOKENIZER_BYTES)
        try:
            tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises bare Exception for every damage
            raise ModelDamagedError(f"{path} cannot be read ({error}); fetch or export the model again.") from error
        return cls(tokenizer)

    def fim(self, stated: Mapping[str, str]) -> Fim:
        """Return how the model reads the text around a cursor; `stated` is what its manifest says of it."""
        fim = replace(Fim.of(self.token_id, self.special_ids, stated), goes_on_alone=self._is_instruct)
        if stated or "document" in fim.ids or self._opening is None:
            return fim
        return fim.opened_by(self._opening)

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to below this."""
        return len(self._bytes)

    def needed_rows(self, specials: Iterable[str]) -> int:
        """Return how many rows an embedding must have for every ordinary id, and for the special tokens named."""
        ids = (self.token_id(special) for special in specials)
        return 1 + max([*self._sorted[1], *(i for i in ids if i is not None)], default=-1)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without any special token; lone surrogates are read as `?`."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self._tokenizer.encode(clean, add_special_tokens=False).ids
        return ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, on all processors; without the spans that `encode` works out and drops."""
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)]

    def encode_again(self, text: str) -> Sequence[int]:
        """Return the same, remembered: for short texts that come with every keystroke."""
        return self._again(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self._bytes[i] for i in ids).decode("utf-8", "replace")

    def token_id(self, special: str) -> int | None:
        """Return the id of a special token by its text, or None."""
        token_id: int | None = self._tokenizer.token_to_id(special)
        return token_id

    def token_bytes(self, token_id: int) -> bytes:
        """Return the exact bytes a token stands for; none for an id that pads the model's vocabulary."""
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    @cached_property
    def line_end_ids(self) -> frozenset[int]:
        """The ordinary ids whose bytes hold a newline."""
        return frozenset(token_id for token_id in self._sorted[1] if b"\n" in self._bytes[token_id])

    @cached_property
    def begins_lines(self) -> bool:
        """Whether each line begins a token: no token goes on behind a newline."""
        return all(self._bytes[token_id].endswith(b"\n") for token_id in self.line_end_ids)

    @cached_property
    def _sorted(self) -> tuple[list[bytes], list[int]]:
        """The bytes of the ordinary tokens in order, and their ids."""
        ids = [token_id for token_id, text in enumerate(self._bytes) if text and token_id not in self.special_ids]
        ids.sort(key=self._bytes.__getitem__)
        return [self._bytes[token_id] for token_id in ids], ids

    @cached_property
    def _opening(self) -> int | None:
        """The id that the tokenizer itself would put before every text, if it would put one."""
        with_special, plain = (self._tokenizer.encode("a", add_special_tokens=given).ids for given in (True, False))
        return with_special[0] if with_special[:1] != plain[:1] else None

    def continuing(self, start: bytes) -> Sequence[int]:
        """Return the ordinary ids whose bytes begin with `start` or are a non-empty beginning of it."""
        low, high = self._span(start)
        ids = self._sorted[1]
        allowed = ids[low:high]
        for length in range(1, len(start)):
            low, high = self._span_of_exactly(start[:length])
            allowed += ids[low:high]
        return allowed

    def _span(self, start: bytes) -> tuple[int, int]:
        texts = self._sorted[0]
        low = bisect.bisect_left(texts, start)
        return low, bisect.bisect_left(texts, True, lo=low, key=lambda text: not text.startswith(start))

    def _span_of_exactly(self, text: bytes) -> tuple[int, int]:
        texts = self._sorted[0]
        return bisect.bisect_left(texts, text), bisect.bisect_right(texts, text)

    def _read_vocabulary(self, added: dict[int, str]) -> list[bytes]:
        byte_of = _character_of_byte()
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        largest = max(vocabulary.values(), default=-1)
        if largest >= MAX_VOCABULARY:
            raise ModelDamagedError(
                f"The model's tokenizer has a token of id {largest}, and ids below {MAX_VOCABULARY} are supported; "
                "fetch or export the model again."
            )
        texts = [b""] * (largest + 1)
        try:
            for token, token_id in vocabulary.items():
                if token_id not in added:
                    texts[token_id] = token.translate(byte_of).encode("latin-1")
        except UnicodeEncodeError as error:
            raise UnsupportedModelError(
                "The model's tokenizer is not byte-level BPE; set greencode.model to a checkpoint whose tokenizer is."
            ) from error
        for token_id, content in added.items():
            texts[token_id] = content.encode("utf-8")
        return texts

"""The checkpoint's byte-level tokenizer: text to ids, ids to the exact bytes they stand for."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from greencode_lsp.errors import ModelDamagedError, UnsupportedModelError
from greencode_lsp.models.contents import MAX_TOKENIZER_BYTES, read_file

TOKENIZER_NAME = "tokenizer.json"
MAX_VOCABULARY = 1 << 20
"""A list of so many texts is made, whatever ids the file names."""


def _byte_of_character() -> dict[str, int]:
    """Return the byte-level alphabet: printable bytes stand for themselves, the others for code points from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


class CodeTokenizer:
    """A byte-level BPE. Special tokens are found by name only: their text in a source file is ordinary text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self._bytes = self._read_vocabulary({token_id: token.content for token_id, token in added.items()})
        ordinary = [(text, i) for i, text in enumerate(self._bytes) if text and i not in self.special_ids]
        ordinary.sort()
        self.line_end_ids = frozenset(token_id for text, token_id in ordinary if b"\n" in text)
        self._sorted_bytes = [text for text, _ in ordinary]
        self._sorted_ids = [token_id for _, token_id in ordinary]

    @classmethod
    def from_folder(cls, folder: Path) -> CodeTokenizer:
        """Read `tokenizer.json`.

        Raises ModelNotFoundError where there is none, ModelDamagedError where it cannot be read and
        UnsupportedModelError where its vocabulary is not byte-level.
        """
        path = folder / TOKENIZER_NAME
        data = read_file(folder, TOKENIZER_NAME, MAX_TOKENIZER_BYTES)
        try:
            tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises bare Exception for every damage
            raise ModelDamagedError(f"{path} cannot be read ({error}); fetch or export the model again.") from error
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to below this."""
        return len(self._bytes)

    def needed_rows(self, specials: Iterable[str]) -> int:
        """Return how many rows an embedding must have for every ordinary id, and for the special tokens named."""
        ids = (self.token_id(special) for special in specials)
        return 1 + max([*self._sorted_ids, *(i for i in ids if i is not None)], default=-1)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without any special token; lone surrogates are read as `?`."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self._tokenizer.encode(clean, add_special_tokens=False).ids
        return ids

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

    def continuing(self, start: bytes) -> Sequence[int]:
        """Return the ordinary ids whose bytes begin with `start` or are a non-empty beginning of it."""
        low, high = self._span(start)
        allowed = self._sorted_ids[low:high]
        for length in range(1, len(start)):
            low, high = self._span_of_exactly(start[:length])
            allowed += self._sorted_ids[low:high]
        return allowed

    def _span(self, start: bytes) -> tuple[int, int]:
        low = bisect.bisect_left(self._sorted_bytes, start)
        return low, bisect.bisect_left(self._sorted_bytes, True, lo=low, key=lambda text: not text.startswith(start))

    def _span_of_exactly(self, text: bytes) -> tuple[int, int]:
        return bisect.bisect_left(self._sorted_bytes, text), bisect.bisect_right(self._sorted_bytes, text)

    def _read_vocabulary(self, added: dict[int, str]) -> list[bytes]:
        byte_of = _byte_of_character()
        vocabulary = {i: token for token, i in self._tokenizer.get_vocab(with_added_tokens=True).items()}
        largest = max(vocabulary, default=-1)
        if largest >= MAX_VOCABULARY:
            raise ModelDamagedError(
                f"The model's tokenizer has a token of id {largest}, and ids below {MAX_VOCABULARY} are supported; "
                "fetch or export the model again."
            )
        texts = [b""] * (largest + 1)
        try:
            for token_id, token in vocabulary.items():
                is_added = token_id in added
                texts[token_id] = token.encode("utf-8") if is_added else bytes(byte_of[c] for c in token)
        except KeyError as error:
            raise UnsupportedModelError(
                "The model's tokenizer is not byte-level BPE; set greencode.model to a checkpoint whose tokenizer is."
            ) from error
        return texts

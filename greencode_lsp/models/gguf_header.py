"""The header of a GGUF file: metadata and tensor records, read within bounds.

The library's own reader makes an array of each string (six seconds for a vocabulary of 150,000) and believes every
count it reads; this one walks the same bytes once, remembers where lists of strings stand, and lets no number in the
file decide how long it runs or how much it holds. Types, block sizes and dequantisation are the library's.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError, UnsupportedModelError

SUFFIX = ".gguf"
MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
FIRST_READ = 16 << 20
"""Bytes read at first; the header of a model of 150,000 tokens takes 6 MB."""
MAX_HEADER = 256 << 20
MAX_KEYS, MAX_TENSORS, MAX_STRINGS = 10_000, 100_000, 4_000_000
"""Far above what is published; a file that states more is damaged."""
MAX_NAME, MAX_DIMENSIONS, MAX_ALIGNMENT = 1024, 4, 1 << 16
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_NUMBERS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
}
_LENGTH = struct.Struct("<Q").unpack_from
_TYPE = struct.Struct("<I").unpack_from


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """Where a tensor lies in the file."""

    name: str
    shape: tuple[int, ...]
    """Slowest axis first, as numpy has it; the file states the reverse."""
    kind: GGMLQuantizationType
    offset: int
    """Bytes from the start of the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Strings:
    """A list of strings that has been walked over, not decoded."""

    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Header:
    """All that a GGUF file says before its weights."""

    path: Path
    size: int
    """Bytes of the file."""
    metadata: dict[str, Any]
    """Numbers, strings, numpy arrays; lists of strings as `Strings`."""
    tensors: dict[str, TensorRecord]
    data: bytes
    """The header itself, padding left out."""

    def strings(self, key: str) -> list[str] | None:
        """Return a list of strings, or None where the metadata has none under the key; bad UTF-8 becomes U+FFFD."""
        value = self.metadata.get(key)
        return list(self._decoded(value)) if isinstance(value, Strings) else None

    def _decoded(self, strings: Strings) -> Iterator[str]:
        data, at = self.data, strings.start
        for _ in range(strings.count):
            (length,) = _LENGTH(data, at)
            at += 8 + length
            yield data[at - length : at].decode("utf-8", "replace")

    def number(self, key: str, default: float | None = None) -> float | None:
        """Return a number, or the default where the metadata has none under the key."""
        value = self.metadata.get(key, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise damaged(self.path, f"{key} is no number")
        if value is not None and not math.isfinite(value):
            raise damaged(self.path, f"{key} is {value}")
        return value

    def text(self, key: str) -> str | None:
        """Return a string, or None where the metadata has none under the key."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None


def damaged(path: Path, what: str) -> ModelDamagedError:
    """Return the error for a file that is not what a GGUF file must be."""
    return ModelDamagedError(f"{path} is damaged ({what}); fetch it again, or set greencode.model to another.")


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file and check it against the file's size.

    Raises ModelNotFoundError where there is no such file, ModelDamagedError where it is cut short or contradicts
    itself, UnsupportedModelError for what is whole but not read here: split files, other versions, unknown types.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelNotFoundError(f"{path} is no file; set greencode.model to a GGUF file.")
        with path.open("rb") as file:
            size = path.stat().st_size
            read = min(size, FIRST_READ)
            data = file.read(read)
            while True:
                try:
                    return _HeaderReader(path, size, data).header()
                except _ShortError:
                    if read >= min(size, MAX_HEADER):
                        what = "cut short" if size < MAX_HEADER else "its header does not end"
                        raise damaged(path, what) from None
                read = min(size, MAX_HEADER, 4 * read)
                data += file.read(read - len(data))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"{path} cannot be read ({error}); set greencode.model to a GGUF file.") from error


class _ShortError(Exception):
    """The header continues behind what was read of it."""


class _HeaderReader:
    """One pass over the bytes of a header."""

    def __init__(self, path: Path, size: int, data: bytes) -> None:
        self._path, self._size, self._data = path, size, data
        self._at = 0
        self._strings_left = MAX_STRINGS

    def header(self) -> Header:
        tensor_count, key_count = self._counts()
        metadata: dict[str, Any] = {}
        for _ in range(key_count):
            key = self._name("a key")
            if key in metadata:
                raise self._damaged(f"it states {key} twice")
            metadata[key] = self._value(key, self._kind(key))
        self._refuse_part(metadata)
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            raise self._damaged(f"its alignment is {alignment}")
        tensors = self._tensors(tensor_count, alignment)
        return Header(self._path, self._size, metadata, tensors, self._data[: self._at])

    def _damaged(self, what: str) -> ModelDamagedError:
        return damaged(self._path, what)

    def _take(self, count: int) -> int:
        """Step over `count` bytes; return where they begin."""
        start, self._at = self._at, self._at + count
        if self._at > self._size:
            raise self._damaged(f"cut short: {self._at:,} bytes are stated, {self._size:,} are there")
        if self._at > len(self._data):
            raise _ShortError
        return start

    def _uint32(self) -> int:
        return int(_TYPE(self._data, self._take(4))[0])

    def _uint64(self) -> int:
        return int(_LENGTH(self._data, self._take(8))[0])

    def _name(self, what: str) -> str:
        length = self._uint64()
        if length > MAX_NAME:
            raise self._damaged(f"the name of {what} takes {length:,} bytes")
        start = self._take(length)
        return self._data[start : self._at].decode("utf-8", "replace")

    def _counts(self) -> tuple[int, int]:
        if self._data[:4] != MAGIC:
            raise self._damaged("it does not begin as GGUF files do")
        self._take(4)
        version = self._uint32()
        if version and not version & 0xFFFF:
            raise UnsupportedModelError(f"{self._path} is big-endian; fetch the file for little-endian machines.")
        if version not in VERSIONS:
            fix = "update greencode-lsp" if version > max(VERSIONS) else "fetch a newer one"
            known = " and ".join(str(known) for known in VERSIONS)
            raise UnsupportedModelError(f"{self._path} has GGUF version {version}; {known} are read: {fix}.")
        tensor_count, key_count = self._uint64(), self._uint64()
        if tensor_count > MAX_TENSORS or key_count > MAX_KEYS:
            raise self._damaged(f"it states {tensor_count:,} tensors and {key_count:,} keys")
        return tensor_count, key_count

    def _refuse_part(self, metadata: dict[str, Any]) -> None:
        parts = metadata.get("split.count", 0)
        if (isinstance(parts, int) and parts > 1) or _SPLIT.search(self._path.name):
            raise UnsupportedModelError(
                f"{self._path} is one part of a model split over files; join them (`llama-gguf-split --merge`)."
            )

    def _kind(self, key: str) -> GGUFValueType:
        number = self._uint32()
        try:
            return GGUFValueType(number)
        except ValueError:
            raise self._damaged(f"{key} has the unknown type {number}") from None

    def _value(self, key: str, kind: GGUFValueType) -> Any:  # noqa: ANN401 - what the file holds
        if kind == GGUFValueType.STRING:
            length = self._uint64()
            start = self._take(length)
            return self._data[start : self._at].decode("utf-8", "replace")
        if kind == GGUFValueType.ARRAY:
            kind = self._kind(key)
            count = self._uint64()
            if kind == GGUFValueType.STRING:
                return self._skip_strings(key, count)
            if kind == GGUFValueType.ARRAY:
                raise UnsupportedModelError(f"{self._path} has lists inside the list {key}, which is not read.")
            return self._array(kind, count).copy()
        return self._array(kind, 1)[0].item()

    def _array(self, kind: GGUFValueType, count: int) -> np.ndarray[Any, Any]:
        dtype = np.dtype(_NUMBERS[kind])
        start = self._take(count * dtype.itemsize)
        return np.frombuffer(self._data, dtype, count, start)

    def _skip_strings(self, key: str, count: int) -> Strings:
        self._strings_left -= count
        if self._strings_left < 0:
            raise self._damaged(f"{key} states {count:,} strings")
        data, end, at = self._data, len(self._data) - 8, self._at
        start = at
        for _ in range(count):
            if at > end:
                self._take(at + 8 - self._at)
            at += 8 + _LENGTH(data, at)[0]
        self._take(at - self._at)
        return Strings(start, count)

    def _tensors(self, count: int, alignment: int) -> dict[str, TensorRecord]:
        stated = [self._tensor() for _ in range(count)]
        data_start = -(-self._at // alignment) * alignment
        expected = 0
        tensors: dict[str, TensorRecord] = {}
        for name, shape, kind, offset in stated:
            if name in tensors:
                raise self._damaged(f"it holds {name} twice")
            if offset != expected:  # one after the other, as llama.cpp demands
                raise self._damaged(f"{name} lies at {offset:,}, where {expected:,} is its place")
            size = self._bytes(name, shape, kind)
            start = data_start + offset
            if start + size > self._size:
                raise self._damaged(f"cut short: {name} ends at {start + size:,} of {self._size:,} bytes")
            tensors[name] = TensorRecord(name, shape, kind, start, size)
            expected += -(-size // alignment) * alignment
        return tensors

    def _tensor(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name = self._name("a tensor")
        dimensions = self._uint32()
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise self._damaged(f"{name} has {dimensions} dimensions")
        shape = tuple(self._uint64() for _ in range(dimensions))[::-1]
        number = self._uint32()
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise UnsupportedModelError(
                f"{self._path} holds {name} in the unknown type {number}; update greencode-lsp or fetch Q8_0."
            ) from None
        return name, shape, kind, self._uint64()

    def _bytes(self, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
        block, size = (int(number) for number in GGML_QUANT_SIZES[kind])
        count = 1
        for length in shape:
            count *= length  # Python's own integers: no count is too large to be refused
        if not count or shape[-1] % block:
            raise self._damaged(f"{name} has the shape {shape}, {kind.name} blocks of {block}")
        return count // block * size

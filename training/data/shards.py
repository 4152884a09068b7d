"""`python -m training corpus --pack`: the rows of a work folder as compressed shards, to be moved to a GPU machine.

    python -m training corpus --preset base --pack              # writes WORK/shards, at most 45 MB
    python -m training corpus --preset base --shards FOLDER     # there: makes the work folder from them

The steps after `export` draw cursors in the validation files, which stay where the corpus was made: bring the trained
folder back there.

A shard is a run of rows as little-endian uint16, compressed with xz: half a byte per token of source code. The manifest
(hashes, counts) is written last, so that its presence means complete.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.errors import CorpusError
from training.data.archives import disk_error
from training.whole_files import write_json

MANIFEST = "shards.json"
MAX_PACKED_BYTES = 45_000_000
TOKENS_PER_SHARD = 8_000_000
# tokens are two bytes wide: positions and literals are told apart by their parity
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 1, "pb": 1}]


@dataclass(frozen=True, slots=True)
class Shard:
    """One compressed file: rows of one array of the work folder, in order."""

    file: str
    array: str
    """`stage<i>.npy` or `validation.npy`."""
    rows: int
    width: int
    """Tokens per row: the context and one."""
    bytes: int
    sha256: str


def _arrays(work: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    for path in [*sorted(work.glob("stage*.npy")), work / "validation.npy"]:
        yield path.name, np.load(path, mmap_mode="r")


def _write_shards(work: Path, shards: Path) -> Iterator[Shard]:
    for name, rows in _arrays(work):
        if rows.dtype.itemsize > 2:
            raise CorpusError(f"{name} has a vocabulary above 65,536 entries; shards hold two bytes a token.")
        step = max(1, TOKENS_PER_SHARD // rows.shape[1])
        for number, start in enumerate(range(0, len(rows), step)):
            part = np.ascontiguousarray(rows[start : start + step], dtype="<u2")
            content = lzma.compress(part.tobytes(), lzma.FORMAT_XZ, filters=_FILTERS)
            file = f"{Path(name).stem}-{number:03}.xz"
            (shards / file).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            yield Shard(file, name, len(part), rows.shape[1], len(content), digest)


def pack_shards(work: Path, shards: Path) -> dict[str, Any]:
    """Write a complete work folder's rows, tokenizer and corpus manifest to `shards`; returns the shards' manifest.

    Raises CorpusError where the work folder is incomplete, the result is larger than 45 MB, or the disk is full.
    """
    corpus = work / "corpus.json"
    if not corpus.exists():
        raise CorpusError(f"{work} holds no complete corpus; run `python -m training corpus` first.")
    try:
        shutil.rmtree(shards, ignore_errors=True)
        shards.mkdir(parents=True)
        shutil.copy(work / "tokenizer.json", shards)
        written = list(_write_shards(work, shards))
        total = sum(shard.bytes for shard in written)
        if total > MAX_PACKED_BYTES:
            raise CorpusError(
                f"The shards take {total / 1e6:.1f} MB of {MAX_PACKED_BYTES / 1e6:.0f}; lower the preset's tokens per "
                "stage or bytes per package."
            )
        manifest = {
            "tokens": sum(shard.rows * shard.width for shard in written),
            "bytes": total,
            "tokenizer_sha256": hashlib.sha256((shards / "tokenizer.json").read_bytes()).hexdigest(),
            "shards": [asdict(shard) for shard in written],
            "corpus": json.loads(corpus.read_text(encoding="utf8")),
        }
        write_json(shards / MANIFEST, manifest)
    except OSError as error:
        raise disk_error(error, str(shards)) from error
    return manifest


def unpack(shards: Path, work: Path) -> dict[str, Any]:
    """Make the work folder's `stage*.npy`, `validation.npy`, `tokenizer.json` and (last) `corpus.json` from shards.

    Returns the corpus manifest. Raises CorpusError where a shard is missing or not what the manifest says.
    """
    path = shards / MANIFEST
    if not path.exists():
        raise CorpusError(f"There is no {path}; run `python -m training corpus --pack` and move its whole folder.")
    manifest = json.loads(path.read_text(encoding="utf8"))
    tokenizer = _checked(shards / "tokenizer.json", manifest["tokenizer_sha256"])
    listed = [Shard(**shard) for shard in manifest["shards"]]
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / "corpus.json").unlink(missing_ok=True)  # incomplete from here on
        for name in dict.fromkeys(shard.array for shard in listed):
            np.save(work / name, np.concatenate([_rows(shards, s) for s in listed if s.array == name]))
        (work / "tokenizer.json").write_bytes(tokenizer)
        write_json(work / "corpus.json", manifest["corpus"])
    except OSError as error:
        raise disk_error(error, str(work)) from error
    corpus: dict[str, Any] = manifest["corpus"]
    return corpus


def _checked(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"The shard {path} is missing; move the whole folder again.") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise CorpusError(f"The shard {path} is not what {MANIFEST} says; move the folder again.")
    return content


def _rows(shards: Path, shard: Shard) -> NDArray[np.uint16]:
    content = lzma.decompress(_checked(shards / shard.file, shard.sha256))
    return np.frombuffer(content, dtype="<u2").astype(np.uint16).reshape(shard.rows, shard.width)

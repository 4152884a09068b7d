"""Exit packs: what makes a public checkpoint exit early, a few megabytes beside weights that are never copied.

A pack is a folder NAME with `greencode.json` (exits, kinds of exit heads, threshold tables, costs; `weights` names the
checkpoint it belongs to by SHA-256), `exits.safetensors` and, where it has one, `agent.safetensors`. Packs are package
data, or lie in the folder `packs` of the user's data. A trained folder may hold `exits.safetensors` as well.

An early exit's head maps the state u [D] after its layers, scaled to a mean square of one, to a state that the model's
own final norm and LM head read:

    none      u
    affine    W u + b                                     `exit.N.map.weight` [D, D], `.map.bias` [D]
    low-rank  u + U (V u) + b                             `.down.weight` V [R, D], `.up.weight` U [D, R], `.up.bias`
    mlp       W u + b + U silu(V u + c)                   `.map.*`, `.down.weight`, `.down.bias` c [R], `.up.weight`

N counts early exits from 0. `shortlist` [n] holds the ids, ascending, of the rows that a shortlist head reads, and
`drafts.*` what usually follows a few tokens (models/draft_table.py).
No exit has keys and values of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from greencode_lsp.cache_folder import CacheFolder
from greencode_lsp.errors import CacheError, ModelDamagedError, ModelNotFoundError
from greencode_lsp.files import atomic_write, read_regular
from greencode_lsp.models.contents import model_file, read_object
from greencode_lsp.models.draft_table import DraftTable
from greencode_lsp.models.exit_checks import (
    DRAFTS,
    MAX_EXITS_BYTES,
    SHORTLIST,
    check_drafts,
    check_exit_heads,
    check_numbers,
    check_shortlist,
)
from greencode_lsp.models.manifest import MANIFEST_NAME, Manifest, read_manifest
from greencode_lsp.models.store import data_home
from greencode_lsp.models.weights import QuantizedBlocks, WeightSource

logger = logging.getLogger(__name__)

PACK_VERSION = 1
EXITS_FILE = "exits.safetensors"
PACKS = "packs"
DIGESTS = "digests"
REMEMBERED_DIGESTS = 64
UNIT_EPS = 1e-6
"""Added to a state's mean square before an exit head reads it."""
_DIGEST_FILE = "sha256"


@dataclass(frozen=True, slots=True)
class ExitHeads:
    """What `exits.safetensors` adds to a model; empty for one whose exits speak through its own head."""

    kinds: tuple[str, ...] = ()
    """By early exit; empty where all are `none`."""
    tensors: dict[str, NDArray[np.float32]] | None = None
    """By the names of the file, shortlist and draft table left out."""
    shortlist: NDArray[np.int64] | None = None
    """Ids in ascending order."""
    drafts: DraftTable | None = None
    digest: str = ""
    """SHA-256 of the file; names what is built from it."""

    def of_exit(self, index: int) -> dict[str, NDArray[np.float32]]:
        """Return the tensors of an early exit's head by their names below `exit.<index>.`; empty where it has none."""
        at = f"exit.{index}."
        return {name.removeprefix(at): tensor for name, tensor in (self.tensors or {}).items() if name.startswith(at)}

    def __bool__(self) -> bool:
        return bool(self.digest)


@dataclass(frozen=True, slots=True)
class Pack:
    """An exit pack that has been found for some weights."""

    folder: Path
    manifest: Manifest


def folders() -> list[Path]:
    """Return where packs lie: in the package, then in the user's data, each in a folder of its own."""
    return [Path(__file__).with_name(PACKS), data_home() / PACKS]


def known() -> Iterator[Path]:
    """Yield the folder of every pack that is here."""
    for parent in folders():
        if parent.is_dir():
            yield from sorted(path.parent for path in parent.glob(f"*/{MANIFEST_NAME}"))


def find(source: WeightSource) -> Pack | None:
    """Return the pack that belongs to some weights, by their SHA-256; None where there is none.

    Raises as `read_pack` where the pack that belongs to them cannot be used; others are not looked at.
    """
    digest = ""
    for folder in known():
        try:
            stated = read_object(folder, MANIFEST_NAME).get("weights")
        except (ModelDamagedError, ModelNotFoundError) as error:
            logger.warning("An exit pack is passed over: %s", error)
            continue
        digest = digest or digest_of(source)
        if stated == digest:
            return Pack(folder, read_pack(folder, digest))
    return None


def read_pack(folder: Path, digest: str) -> Manifest:
    """Return the manifest of a pack for weights of this SHA-256.

    Raises ModelDamagedError where it is of another format version, belongs to other weights or is damaged, and
    ModelNotFoundError where it is incomplete.
    """
    version = read_object(folder, MANIFEST_NAME).get("pack_version")
    if version != PACK_VERSION:
        raise ModelDamagedError(
            f"The exit pack {folder} has the format {str(version)[:20]}, and {PACK_VERSION} is read; make it again "
            "with `python -m training exits`, or update greencode-lsp."
        )
    manifest = read_manifest(folder)
    assert manifest is not None, "its manifest was read above"
    if manifest.weights != digest:
        raise ModelDamagedError(
            f"The exit pack {folder} belongs to weights with the SHA-256 {manifest.weights[:16]}.., these have "
            f"{digest[:16]}..; use it with its own model, or make one with `python -m training exits`."
        )
    return manifest


def digest_of(source: WeightSource) -> str:
    """Return the SHA-256 of some weights, remembered in the cache by what tells them apart in milliseconds."""
    cache, key = CacheFolder(DIGESTS, keep=REMEMBERED_DIGESTS), source.fingerprint()
    try:
        folder = cache.build(key, lambda part: atomic_write(part / _DIGEST_FILE, source.digest().encode()))
        return read_regular(folder, _DIGEST_FILE, max_bytes=64).decode("ascii")
    except (CacheError, OSError, UnicodeDecodeError):
        return source.digest()  # a second instead of nothing


def read_exit_heads(folder: Path, manifest: Manifest, hidden_size: int, vocabulary: int) -> ExitHeads:
    """Return the exit heads, shortlist and draft table of a pack or a trained folder; empty where it has none.

    Raises ModelDamagedError or UnsupportedModelError where they do not fit the model, are damaged or not finite.
    """
    if EXITS_FILE not in manifest.files:
        if any(kind != "none" for kind in manifest.exit_heads):
            raise ModelDamagedError(f"{folder} states exit heads and lacks {EXITS_FILE}; export it again.")
        return ExitHeads()
    kinds = manifest.exit_heads or ("none",) * (len(manifest.exits) - 1)
    if len(kinds) != len(manifest.exits) - 1:
        raise ModelDamagedError(f"{folder} states {len(kinds)} exit heads for exits {manifest.exits}; export it again.")
    path = model_file(folder, EXITS_FILE, MAX_EXITS_BYTES)
    try:
        with safe_open(str(path), "np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # not a dict
            check_exit_heads(kinds, shapes, hidden_size, vocabulary)
            stored: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelDamagedError(f"{path} cannot be read ({error}); fetch or export it again.") from error
    shortlist = stored.pop(SHORTLIST, None)
    if shortlist is not None:
        if shortlist.dtype.kind != "i":
            raise ModelDamagedError(f"{path} holds a shortlist of {shortlist.dtype}; fetch or export it again.")
        shortlist = shortlist.astype(np.int64)
        check_shortlist(shortlist, vocabulary)
    table = {name: stored.pop(name) for name in DRAFTS if name in stored}
    if table:
        check_drafts(table, vocabulary)
    tensors = {name: tensor.astype(np.float32) for name, tensor in stored.items()}
    for name, tensor in tensors.items():
        check_numbers(name, tensor)
    drafts = DraftTable(*(table[name] for name in DRAFTS)) if table else None
    return ExitHeads(kinds, tensors, shortlist, drafts, manifest.files[EXITS_FILE])


class HeadSource:
    """The tensors of exit heads as a `WeightSource`; others that are asked for by name are the model's own."""

    def __init__(self, heads: ExitHeads, source: WeightSource) -> None:
        self.config: dict[str, Any] = {}
        self._tensors, self._digest, self._source = heads.tensors or {}, heads.digest, source

    def digest(self) -> str:
        """See `WeightSource`."""
        return self._digest

    def fingerprint(self) -> str:
        """See `WeightSource`."""
        return self._digest

    def names(self) -> Iterable[str]:
        """See `WeightSource`."""
        return self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource`."""
        return self._tensors[name].shape if name in self._tensors else self._source.shape(name)

    def float32(self, name: str) -> NDArray[np.float32]:
        """See `WeightSource`."""
        return self._tensors[name] if name in self._tensors else self._source.float32(name)

    def blocks(self, name: str, bits: int = 8) -> QuantizedBlocks | None:
        """See `WeightSource`: none are stored."""
        return None


class ShortlistSource:
    """A `WeightSource` whose LM head has a shortlist's rows alone."""

    def __init__(self, source: WeightSource, head: str, ids: NDArray[np.int64]) -> None:
        self.config, self._source, self._head, self._ids = source.config, source, head, ids

    def digest(self) -> str:
        """See `WeightSource`."""
        return self._source.digest()

    def fingerprint(self) -> str:
        """See `WeightSource`."""
        return self._source.fingerprint()

    def names(self) -> Iterable[str]:
        """See `WeightSource`."""
        return self._source.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource`."""
        shape = self._source.shape(name)
        return (len(self._ids), *shape[1:]) if name == self._head else shape

    def float32(self, name: str) -> NDArray[np.float32]:
        """See `WeightSource`."""
        matrix = self._source.float32(name)
        return matrix[self._ids] if name == self._head else matrix

    def blocks(self, name: str, bits: int = 8) -> QuantizedBlocks | None:
        """See `WeightSource`."""
        blocks = self._source.blocks(name, bits)
        if blocks is None or name != self._head:
            return blocks
        ids = self._ids
        return QuantizedBlocks(blocks.values[ids], blocks.scale[ids], blocks.zero[ids], blocks.bits)

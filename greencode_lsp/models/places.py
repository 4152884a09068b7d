"""Models that other programs keep on this disk: Ollama, llama.cpp, LM Studio, the hub's cache. Used where they lie.

Looking is bounded in time, depth and number, follows no folder twice, and opens regular files only, four bytes of each.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.files import open_regular, read_regular
from greencode_lsp.models.catalogue import CatalogueModel, by_hash

OLLAMA = "ollama:"
MAGIC = b"GGUF"
MAX_DEPTH = 8
MAX_ENTRIES = 20_000
MAX_SECONDS = 3.0
MAX_MANIFEST_BYTES = 1 << 20
MAX_MODEL_BYTES = 1 << 40
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_IS_NO_MODEL = re.compile(r"mmproj|-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
"""Projectors of pictures, and pieces of split files."""
_DEFAULT_HOST, _DEFAULT_OWNER = "registry.ollama.ai", "library"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that lies on this disk."""

    setting: str
    """What `greencode.model` is to be."""
    where: str
    path: Path
    size_bytes: int
    catalogue_name: str = ""
    """Where the file is one of the catalogue's, by its hash."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where other programs keep models."""

    ollama: tuple[Path, ...]
    folders: Mapping[str, tuple[Path, ...]]
    """Program -> folders to look through."""
    hub: Path

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ, home: Path | None = None) -> Places:
        """Return this user's; an environment variable takes a default's place, and none need exist."""
        home = home or Path.home()
        cache = home / "Library/Caches" if sys.platform == "darwin" else home / ".cache"
        cache = Path(environment.get("LOCALAPPDATA") or environment.get("XDG_CACHE_HOME") or cache)
        hub_home = Path(environment.get("HF_HOME") or home / ".cache/huggingface").expanduser()
        hub = Path(environment.get("HF_HUB_CACHE") or hub_home / "hub").expanduser()
        own = [Path(environment["OLLAMA_MODELS"]).expanduser()] if environment.get("OLLAMA_MODELS") else []
        ollama = (*own, home / ".ollama/models", Path("/usr/share/ollama/.ollama/models"))
        llama = Path(environment.get("LLAMA_CACHE") or cache / "llama.cpp").expanduser()
        studio = (home / ".lmstudio/models", home / ".cache/lm-studio/models")
        return cls(ollama, {"llama.cpp": (llama,), "LM Studio": studio, "the hub's cache": (hub,)}, hub)

    def file_of(self, model: CatalogueModel) -> Path | None:
        """Return the file of a catalogue's model that another program keeps under its hash; looks at few places."""
        blobs = [folder / "blobs" / f"sha256-{model.sha256}" for folder in self.ollama]
        if model.hub is not None:
            folder = "models--" + model.hub.repository.replace("/", "--")
            blobs.append(self.hub / folder / "blobs" / model.sha256)
        return next((blob for blob in blobs if _size(blob) == model.size_bytes and is_gguf(blob)), None)

    def resolve_ollama(self, name: str) -> Path:
        """Return the file of Ollama's model NAME[:TAG]; raises ModelNotFoundError with what to do."""
        model, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
        parts = model.split("/")
        if not all(part and part not in (".", "..") and part.isprintable() for part in (*parts, tag)):
            raise ModelNotFoundError(f"{name!r} is no name of an Ollama model; write it as `ollama list` shows it.")
        defaults = [_DEFAULT_HOST, _DEFAULT_OWNER]
        parts = defaults[: max(0, 3 - len(parts))] + parts if len(parts) < 3 else parts
        for folder in self.ollama:
            manifest = folder.joinpath("manifests", *parts, tag)
            if os.path.lexists(manifest):
                return _blob_of(manifest, folder, name)
        known = ", ".join(sorted(model.setting for model in self._ollama_models(_Budget()))) or "none"
        raise ModelNotFoundError(f"Ollama has no model {name!r} on this disk; there is {known}.")

    def look(self, clock_s: Callable[[], float] = time.monotonic) -> Iterator[LocalModel]:
        """Yield the models of all places; ends after MAX_SECONDS, MAX_ENTRIES or when everything was looked at."""
        budget = _Budget(clock_s)
        yield from self._ollama_models(budget)
        seen: set[Path] = set()
        for where, folders in self.folders.items():
            for path in (path for folder in folders for path in _ggufs(folder, budget)):
                real = Path(os.path.realpath(path))
                if real not in seen:
                    seen.add(real)
                    known = by_hash(real.name)
                    yield LocalModel(str(path), where, path, _size(real) or 0, known.name if known else "")

    def _ollama_models(self, budget: _Budget) -> Iterator[LocalModel]:
        for folder in self.ollama:
            root = folder / "manifests"
            for manifest in _files(root, budget):
                *parts, tag = manifest.relative_to(root).parts
                if len(parts) < 2:
                    continue
                if parts[0] == _DEFAULT_HOST:
                    parts = parts[1:]
                    parts = parts[1:] if parts[0] == _DEFAULT_OWNER else parts
                name = f"{'/'.join(parts)}:{tag}"
                try:
                    blob = _blob_of(manifest, folder, name)
                except ModelNotFoundError:
                    continue  # named by whoever asks for it
                known = by_hash(blob.name.removeprefix("sha256-"))
                yield LocalModel(OLLAMA + name, "Ollama", blob, _size(blob) or 0, known.name if known else "")


class _Budget:
    """How much is looked at before the search ends."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s, self._end_s, self._left = clock_s, clock_s() + MAX_SECONDS, MAX_ENTRIES

    def is_spent(self) -> bool:
        """Count one entry; return whether it is one too many."""
        self._left -= 1
        return self._left < 0 or self._clock_s() > self._end_s


def is_gguf(path: Path) -> bool:
    """Return True where a regular file, or a link to one, begins as GGUF does; never blocks on a pipe or a device."""
    real = Path(os.path.realpath(path))
    try:
        with open_regular(real.parent, real.name, max_bytes=MAX_MODEL_BYTES) as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def _size(path: Path) -> int | None:
    """Return a regular file's bytes, else None."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _blob_of(manifest: Path, folder: Path, name: str) -> Path:
    """Return the weights that an Ollama manifest points to."""
    again = f"fetch it again (`ollama pull {name}`), or set greencode.model to another model"
    try:
        data = json.loads(read_regular(manifest.parent, manifest.name, max_bytes=MAX_MANIFEST_BYTES))
        layers = data["layers"]
        [digest] = [layer["digest"] for layer in layers if layer["mediaType"] == "application/vnd.ollama.image.model"]
        match = _DIGEST.fullmatch(digest)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelNotFoundError(
            f"Ollama's manifest of {name!r} cannot be read ({type(error).__name__}); {again}."
        ) from error
    if match is None:
        raise ModelNotFoundError(f"Ollama's manifest of {name!r} names no file; {again}.")
    blob = folder / "blobs" / f"sha256-{match[1]}"
    if not is_gguf(blob):
        raise ModelNotFoundError(
            f"Ollama's manifest of {name!r} points to {blob}, which is no GGUF file here; {again}."
        )
    return blob


def _ggufs(folder: Path, budget: _Budget) -> Iterator[Path]:
    for path in _files(folder, budget):
        if path.suffix.lower() == ".gguf" and not _IS_NO_MODEL.search(path.name) and is_gguf(path):
            yield path


def _files(root: Path, budget: _Budget) -> Iterator[Path]:
    """Yield what is no folder below a folder, in order; each folder once, however many links lead to it."""
    waiting, seen = [(root, 0)], set[tuple[int, int]]()
    while waiting:
        folder, depth = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen or not stat.S_ISDIR(status.st_mode):
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if budget.is_spent():
                        return
                    if not entry.is_dir():
                        yield Path(entry.path)
                    elif depth < MAX_DEPTH:
                        waiting.append((Path(entry.path), depth + 1))
        except (OSError, ValueError):
            continue

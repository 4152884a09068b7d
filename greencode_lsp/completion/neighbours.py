"""Which text of other files goes with a request, as `greencode.context` says; kept while the user types.

    file      none
    open      documents that are open in the editor, the last used first
    project   these, and files of the disk near the document: imports, its test, its folder

A selection stays the same until a document that may be in it is changed, opened or closed, a file of the disk is
another, a rule forbids one, or the cursor is far from where it was: so the prompt's beginning stays too, and the model
keeps what it has computed of it. It is part of what a suggestion is remembered by.

Never in it: files outside the workspace's folders, files that are secret or ignored under any name or link (I6),
documents without a file, and those of another family of languages.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from greencode_lsp.files import read_regular
from greencode_lsp.limits import OTHER_FILE_BYTES, OTHER_FILES, OTHER_TOUCHED, OTHERS_FRESH_S, OTHERS_S
from greencode_lsp.prompt.fim import EXTENSIONS, NOTEBOOK
from greencode_lsp.prompt.ignore import Rules
from greencode_lsp.prompt.nearby import family, near, root_of
from greencode_lsp.prompt.other_files import (
    CHARACTERS_PER_TOKEN,
    Chunk,
    OtherFile,
    choose,
    chunks_of,
    surroundings,
    token_budget,
)
from greencode_lsp.settings import Settings

if TYPE_CHECKING:
    from greencode_lsp.completion.request import Request

THREADS = 2
"""A dead network folder is not to hold up the others."""
FAR_LINES = 32
"""From there on the cursor is elsewhere, and other chunks may fit better."""


@dataclass(frozen=True, slots=True)
class Known:
    """An open document, as far as it may stand in another one's prompt."""

    path: str
    text: Callable[[], str]
    """Asked for on the event loop's thread only."""
    revision: int
    """Another after each change, and after each time the document is opened."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a selection depends on besides the text around the cursor."""

    path: str
    mode: str
    characters: int
    roots: tuple[str, ...]
    exclude: tuple[str, ...]
    documents: tuple[tuple[str, int], ...]
    """The open ones that may be in it, the last used first, and their revisions."""


@dataclass(frozen=True, slots=True)
class ChosenChunks:
    """Chosen chunks, and what they hold for."""

    wanted: Wanted
    line: int
    """The cursor's when they were chosen."""
    chunks: tuple[Chunk, ...]
    files: tuple[tuple[str, int, int], ...]
    """Path, time of change and size of each file of the disk that was read or looked for."""
    paths: tuple[str, ...]
    """Of the files that the chunks are from."""
    looked_s: float
    """When files and rules were looked at."""


class Neighbours:
    """Follows the open documents and chooses among them, and among files of the disk, on a thread of its own."""

    def __init__(self, rules: Rules | None = None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._rules, self._clock_s = rules or Rules(), clock_s
        self.wait_s = OTHERS_S
        self._known: OrderedDict[str, Known] = OrderedDict()
        """By the document's identity, the last used last."""
        self._revisions = itertools.count()
        self._selections: OrderedDict[str, ChosenChunks] = OrderedDict()
        self._looking: dict[str, tuple[Future[ChosenChunks], float]] = {}
        """What is being read for a document, and since when."""
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="greencode-others")

    def opened(self, document: str, path: str, text: Callable[[], str]) -> None:
        """Take a document that the editor has opened."""
        self._known[document] = Known(path, text, next(self._revisions))
        self._forget_oldest(self._known)

    def touched(self, document: str) -> None:
        """Note that a document was changed or saved: its chunks are others, and it was used last."""
        known = self._known.get(document)
        if known is not None:
            self._known[document] = replace(known, revision=next(self._revisions))
            self._known.move_to_end(document)

    def closed(self, document: str) -> None:
        """Forget a document."""
        self._known.pop(document, None)
        self._selections.pop(document, None)

    def close(self) -> None:
        """Take no more requests."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def choose(
        self, document: str, request: Request, settings: Settings, roots: Sequence[str]
    ) -> tuple[Chunk, ...]:
        """Return what goes with a request; none where finding out takes longer than `wait_s`."""
        if settings.context == "file" or not request.path or not roots:
            return ()
        wanted = self._wanted(document, request, settings, roots)
        self._take(document)
        selection = self._selections.get(document)
        fits = selection is not None and selection.wanted == wanted and abs(request.line - selection.line) <= FAR_LINES
        if selection is not None and fits and self._clock_s() - selection.looked_s < OTHERS_FRESH_S:
            return selection.chunks
        if document not in self._looking:
            job = self._again if fits else self._select
            future = self._executor.submit(job, request, wanted, selection, self._texts(wanted))
            self._looking[document] = future, time.monotonic()
        future, started_s = self._looking[document]
        left_s = started_s + self.wait_s - time.monotonic()
        if left_s > 0:
            await asyncio.wait([asyncio.wrap_future(future)], timeout=left_s)
        self._take(document)
        selection = self._selections.get(document)
        return selection.chunks if selection is not None and selection.wanted == wanted else ()

    def _take(self, document: str) -> None:
        """Take the selection of a document that is done."""
        looking = self._looking.get(document)
        if looking is None or not looking[0].done():
            return
        del self._looking[document]
        self._selections.pop(document, None)
        if not looking[0].cancelled() and looking[0].exception() is None:
            self._selections[document] = looking[0].result()
            self._forget_oldest(self._selections)

    def _wanted(self, document: str, request: Request, settings: Settings, roots: Sequence[str]) -> Wanted:
        extensions = family(extension_of(request.path, request.language))
        documents = [
            (key, known.revision)
            for key, known in reversed(self._known.items())
            if key != document and known.path != request.path and Path(known.path).suffix.lower() in extensions
        ]
        return Wanted(
            path=request.path,
            mode=settings.context,
            characters=token_budget(settings.preference) * CHARACTERS_PER_TOKEN,
            roots=tuple(roots),
            exclude=settings.exclude,
            documents=tuple(documents[:OTHER_FILES]),
        )

    def _texts(self, wanted: Wanted) -> dict[str, str]:
        """Return path -> text of the open documents, as they are now."""
        known = (self._known[key] for key, _ in wanted.documents)
        return {one.path: text for one in known if len(text := one.text()) <= OTHER_FILE_BYTES}

    # ---- on the thread of its own

    def _again(
        self, request: Request, wanted: Wanted, before: ChosenChunks | None, texts: dict[str, str]
    ) -> ChosenChunks:
        """Return the same selection where files and rules are as they were, else another one."""
        if before is not None:
            is_same = all(_state(path) == (modified_ns, size) for path, modified_ns, size in before.files)
            if is_same and all(self._may_be_used(path, wanted) for path in before.paths):
                return replace(before, looked_s=self._clock_s())
        return self._select(request, wanted, before, texts)

    def _select(
        self, request: Request, wanted: Wanted, before: ChosenChunks | None, texts: dict[str, str]
    ) -> ChosenChunks:
        sources, files = self._sources(request, wanted, texts)
        around = surroundings(request.text, request.offset)
        chunks = [chunk for source in sources.values() for chunk in chunks_of(source)]
        chosen = choose(chunks, around, wanted.characters, before.chunks if before else ())
        names = {chunk.name for chunk in chosen}
        paths = tuple(path for path, source in sources.items() if source.name in names)
        return ChosenChunks(wanted, request.line, chosen, files, paths, self._clock_s())

    def _sources(
        self, request: Request, wanted: Wanted, texts: dict[str, str]
    ) -> tuple[dict[str, OtherFile], tuple[tuple[str, int, int], ...]]:
        """Return path -> what may be used, and the state of the files of the disk among them."""
        sources: dict[str, OtherFile] = {}
        itself = _identity(request.path)
        for path, text in texts.items():
            if _identity(path) != itself and self._may_be_used(path, wanted):
                sources[path] = OtherFile(_name(path, wanted.roots), text)
        if wanted.mode != "project":
            return sources, ()
        files = []
        seen = {os.path.realpath(path) for path in texts} | {os.path.realpath(request.path)}
        for file in near(request.path, request.text, wanted.roots, extension_of(request.path, request.language)):
            path = str(file)
            files.append((path, *_state(path)))
            if path in seen or len(sources) >= OTHER_FILES or _identity(path) == itself:
                continue
            content = _read(file) if self._may_be_used(path, wanted) else None
            if content is not None:
                sources[path] = OtherFile(_name(path, wanted.roots), content)
        return sources, tuple(files)

    def _may_be_used(self, path: str, wanted: Wanted) -> bool:
        """Tell whether a file lies in the workspace's folders and no rule forbids it."""
        if root_of(path, wanted.roots) is None:
            return False
        return self._rules.denied(path, wanted.roots, wanted.exclude) is None

    @staticmethod
    def _forget_oldest(kept: OrderedDict[str, Known] | OrderedDict[str, ChosenChunks]) -> None:
        if len(kept) > OTHER_TOUCHED:
            kept.popitem(last=False)


def extension_of(path: str, language: str) -> str:
    """Return a file's extension; of a notebook that of its code."""
    suffix = Path(path).suffix
    return f".{EXTENSIONS[language]}" if suffix.lower() == NOTEBOOK and language in EXTENSIONS else suffix


def repository(path: str, roots: Sequence[str]) -> str:
    """Return the name of the workspace's folder that a file lies in."""
    inside = [root for root in roots if Path(path).is_relative_to(root)]
    return Path(max(inside, key=len)).name if inside else ""


def _read(file: Path) -> str | None:
    """Return a small file's text; None where it cannot be read, or is none."""
    try:
        text = read_regular(file.parent, file.name, max_bytes=OTHER_FILE_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\0" in text else text


def _state(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return 0, -1
    return status.st_mtime_ns, status.st_size


def _identity(path: str) -> tuple[int, int] | str:
    """Return what two names of one file have in common."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return os.path.realpath(path) if "\0" not in path else path
    return status.st_dev, status.st_ino


def _name(path: str, roots: Sequence[str]) -> str:
    root = root_of(path, roots)
    return Path(os.path.realpath(path)).relative_to(root).as_posix() if root else Path(path).name

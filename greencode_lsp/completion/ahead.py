"""What is computed that nobody has asked for: the suggestion after the one that is shown, and a prompt read in advance.

The next suggestion only where it is likely to be taken: the model is sure of it and the user has not rejected the one
before. A prompt only of a document that the user turns to again, for the place where he wrote last, for so long. Both
only where the preference is for accuracy and the machine is not on its battery. Whatever it takes counts as wasted
until it is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from greencode_lsp.completion.request import Request
from greencode_lsp.completion.status import Suggested
from greencode_lsp.power import PowerState
from greencode_lsp.records import NO_BRANCH
from greencode_lsp.settings import Settings

AHEAD, READING = "\0ahead", "\0reading"
"""The worker's names for the two, which are no document's."""
LEAST_PREFERENCE = 0.75
"""Half of the way from `balanced`, where nothing is computed that nobody has asked for, to `accuracy`."""
LIKELY = 0.5
"""Probability of a whole suggestion, by the model's own confidence, from which it is likely to be taken."""

SETTLED_S = 0.3
"""A prompt is read once the user has stayed with a document for so long: turning pages costs nothing."""
READING_S = 1.0
"""It is read for no longer, and what was read by then stays."""


class Ahead:
    """What runs without being asked for."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let something run that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a request took its place

    def stop(self) -> None:
        """Stop what runs, but for what a request waits for by now."""
        for task in tuple(self._tasks):
            task.cancel()


def is_allowed(settings: Settings, power: PowerState) -> bool:
    """Return whether anything is computed that nobody has asked for."""
    return settings.preference >= LEAST_PREFERENCE and power != "battery"


def is_likely(suggested: Suggested, request: Request) -> bool:
    """Return whether a suggestion that is shown will be taken, so that what follows it is wanted."""
    return bool(suggested.text) and suggested.probability >= LIKELY and not request.previewed


def may_read(settings: Settings) -> bool:
    """Return whether a prompt may be read: not by a team's engine, which has others to serve, nor where one asks."""
    return not settings.remote and settings.trigger == "automatic"


def request_again(asked: Request, text: str) -> Request | None:
    """Return the request for the place asked for last in a document whose text is now this; None where it is gone."""
    before, after = asked.text[: asked.offset], asked.text[asked.offset :]
    is_begun, is_ended = text.startswith(before), text.endswith(after)
    if is_ended and (is_begun or after.strip()):  # nothing stands behind the end, and so says nothing
        offset = len(text) - len(after)
    elif is_begun:
        offset = len(before)
    else:
        return None
    return replace(asked, text=text, offset=offset, invoked=False, previewed=False, branch=NO_BRANCH, unasked=True)


def request_after(request: Request, text: str, asked: Request) -> Request:
    """Return what an editor asks by itself once a suggestion is taken, with the other files of what was asked."""
    first_end = request.text.find("\n")
    is_windows = first_end > 0 and request.text[first_end - 1] == "\r"
    inserted = text.replace("\n", "\r\n") if is_windows else text
    taken = request.text[: request.offset] + inserted + request.text[request.offset :]
    after = replace(request, text=taken, offset=request.offset + len(inserted), invoked=False)
    return replace(after, others=asked.others, repository=asked.repository)

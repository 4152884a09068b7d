"""The suggestion after the one that is shown, computed while that one is looked at.

Only where it is likely to be taken: the model is sure of it, the user has not rejected the one before, the preference
is for accuracy, and the machine is not on its battery. Whatever it takes counts as wasted until it is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from greencode_lsp.completion.request import Request
from greencode_lsp.completion.status import Suggested
from greencode_lsp.power import PowerState

AHEAD = "\0ahead"
"""The worker's name for it, which is no document's."""
LEAST_PREFERENCE = 0.75
"""Half of the way from `balanced`, where nothing is computed that nobody has asked for, to `accuracy`."""
LIKELY = 0.5
"""Probability of a whole suggestion, by the model's own confidence, from which it is likely to be taken."""


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


def is_worth(suggested: Suggested, request: Request, preference: float, power: PowerState) -> bool:
    """Return whether to compute what follows a suggestion that is shown."""
    is_allowed = preference >= LEAST_PREFERENCE and power != "battery"
    return is_allowed and bool(suggested.text) and suggested.probability >= LIKELY and not request.previewed


def request_after(request: Request, text: str, asked: Request) -> Request:
    """Return what an editor asks by itself once a suggestion is taken, with the other files of what was asked."""
    first_end = request.text.find("\n")
    is_windows = first_end > 0 and request.text[first_end - 1] == "\r"
    inserted = text.replace("\n", "\r\n") if is_windows else text
    taken = request.text[: request.offset] + inserted + request.text[request.offset :]
    after = replace(request, text=taken, offset=request.offset + len(inserted), invoked=False)
    return replace(after, others=asked.others, repository=asked.repository)

"""One private thread, one running generation; of each document only the newest request is worth computing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


class SupersededError(Exception):
    """A newer request of the same document took this one's place."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that is waiting or running."""

    stop: threading.Event
    superseded: asyncio.Future[None]

    @property
    def outcome(self) -> str:
        """Why the request was stopped, in one word; safe to ask from the worker's thread."""
        return "superseded" if self.superseded.done() else "cancelled"


class Worker:
    """Runs jobs one at a time on its own thread. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="greencode")
        self._newest: dict[str, Ticket] = {}

    def submit(self, job: Callable[[], object]) -> None:
        """Queue a job that nobody waits for."""
        self._executor.submit(job)

    async def run(self, document: str, job: Callable[[Ticket], Result]) -> Result:
        """Run `job` in its turn and return what it returns; it is to end soon after its ticket's `stop` is set.

        Raises SupersededError at once when a newer request of the document arrives. Cancelling this coroutine stops
        the job, or keeps it from starting.
        """
        self.stop(document)
        ticket = Ticket(threading.Event(), asyncio.get_running_loop().create_future())
        self._newest[document] = ticket
        work = asyncio.wrap_future(self._executor.submit(job, ticket))
        try:
            waited: set[asyncio.Future[Any]] = {work, ticket.superseded}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if ticket.superseded.done():
                raise SupersededError
            return work.result()
        finally:
            ticket.stop.set()
            work.cancel()  # a job that still waits never starts
            if self._newest.get(document) is ticket:
                del self._newest[document]

    def stop(self, document: str) -> None:
        """Stop the document's request; whoever awaits it gets SupersededError."""
        ticket = self._newest.pop(document, None)
        if ticket is not None:
            if not ticket.superseded.done():
                ticket.superseded.set_result(None)
            ticket.stop.set()

    def close(self) -> None:
        """Stop everything and take no more jobs; does not wait."""
        for document in tuple(self._newest):
            self.stop(document)
        self._executor.shutdown(wait=False, cancel_futures=True)

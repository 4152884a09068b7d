"""One private thread, one running generation; of each document only the newest request is worth computing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")


class SupersededError(Exception):
    """A newer request of the same document took this one's place."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A document's request that is waiting or running, and whoever awaits it now."""

    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the job is not wanted any more."""
    superseded: bool = False
    is_done: bool = False
    """Whether the job has ended."""
    work: asyncio.Future[Any] | None = None
    """The job, once it is queued."""
    turn: asyncio.Future[None] | None = None
    """Done when whoever awaits the job is to give up."""

    @property
    def outcome(self) -> str:
        """Why the request was stopped, in one word; safe to ask from the worker's thread."""
        return "superseded" if self.superseded else "cancelled"


class Worker:
    """Runs jobs one at a time on its own thread. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="greencode")
        self._newest: dict[str, Ticket] = {}
        self._closed = threading.Event()

    @property
    def is_closed(self) -> bool:
        """Whether no more is to be done; safe to ask from the worker's thread."""
        return self._closed.is_set()

    def submit(self, job: Callable[[], object]) -> bool:
        """Queue a job that nobody waits for; False after the end, when it is not run. Safe from the worker's thread."""
        try:
            self._executor.submit(job)
        except RuntimeError:
            return False
        return True

    async def run(self, document: str, job: Callable[[Ticket], Result], delay_s: float = 0.0) -> Result:
        """Run `job` in its turn, not before `delay_s`, and return what it returns; it is to end once `stop` is set.

        Raises SupersededError at once when a newer request of the document arrives. Cancelling this coroutine stops
        the job, or keeps it from starting.
        """
        self.stop(document)
        ticket = self._newest[document] = Ticket()
        result: Result = await self._wait(document, ticket, job, delay_s)
        return result

    async def adopt(self, document: str) -> object:
        """Await the document's job, if any, in place of whoever asked for it, who gets SupersededError."""
        ticket = self._newest.get(document)
        if ticket is None or ticket.work is None:
            return None
        return await self._wait(document, ticket, None, 0.0)

    async def _wait(self, document: str, ticket: Ticket, job: Callable[[Ticket], Any] | None, delay_s: float) -> Any:  # noqa: ANN401 - the job's
        if ticket.turn is not None and not ticket.turn.done():
            ticket.turn.set_result(None)  # whoever awaited it until now
        turn = ticket.turn = asyncio.get_running_loop().create_future()
        try:
            if delay_s > 0:
                await asyncio.wait({turn}, timeout=delay_s)
            if job is not None and not turn.done():
                ticket.work = asyncio.wrap_future(self._executor.submit(_run, job, ticket))
            if ticket.work is not None:
                await asyncio.wait({ticket.work, turn}, return_when=asyncio.FIRST_COMPLETED)
            if turn.done() or ticket.work is None:
                raise SupersededError
            return ticket.work.result()
        finally:
            if ticket.turn is turn:  # nobody took over
                ticket.stop.set()
                if ticket.work is not None:
                    ticket.work.cancel()  # a job that still waits never starts
                if self._newest.get(document) is ticket:
                    del self._newest[document]

    @property
    def is_wanted(self) -> bool:
        """Whether a request waits or runs; safe to ask from the worker's thread."""
        return any(not ticket.is_done for ticket in tuple(self._newest.values()))

    def stop(self, document: str, *, superseded: bool = True) -> None:
        """Stop the document's request, for a newer one or for good; whoever awaits it gets SupersededError."""
        ticket = self._newest.pop(document, None)
        if ticket is not None:
            ticket.superseded = superseded
            if ticket.turn is not None and not ticket.turn.done():
                ticket.turn.set_result(None)
            ticket.stop.set()

    def stop_all(self) -> None:
        """Stop the request of every document."""
        for document in tuple(self._newest):
            self.stop(document, superseded=False)

    def close(self, last: Callable[[], object] = lambda: None) -> None:
        """Stop everything and take no more jobs after `last`; does not wait for those that record what is done."""
        self._closed.set()
        self.submit(last)
        self.stop_all()
        self._executor.shutdown(wait=False)


def _run(job: Callable[[Ticket], Result], ticket: Ticket) -> Result:
    try:
        return job(ticket)
    finally:
        ticket.is_done = True

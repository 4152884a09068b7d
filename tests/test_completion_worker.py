"""One running job; the newest request of a document wins; what is not wanted stops or never starts."""

from __future__ import annotations

import asyncio
import threading

import pytest

from greencode_lsp.completion.worker import SupersededError, Ticket, Worker


class Job:
    """Runs until it is stopped or released; says when it started."""

    def __init__(self, name: str, started: list[str]) -> None:
        self.name, self.log = name, started
        self.started, self.release = threading.Event(), threading.Event()

    def __call__(self, ticket: Ticket) -> str:
        self.log.append(self.name)
        self.started.set()
        while not (ticket.stop.wait(0.001) or self.release.is_set()):
            pass
        return self.name + (" stopped" if ticket.stop.is_set() else "")


async def started(job: Job) -> None:
    assert await asyncio.get_running_loop().run_in_executor(None, job.started.wait, 5)


async def test_a_newer_request_of_the_document_supersedes_the_running_one() -> None:
    worker, log = Worker(), list[str]()
    first, second = Job("first", log), Job("second", log)
    older = asyncio.create_task(worker.run("a", first))
    await started(first)
    second.release.set()
    assert await worker.run("a", second) == "second"
    with pytest.raises(SupersededError):
        await older
    worker.close()


async def test_fifty_superseded_requests_run_nothing() -> None:
    worker, log = Worker(), list[str]()
    first, last = Job("first", log), Job("last", log)
    running = asyncio.create_task(worker.run("other", first))
    await started(first)
    waiting = [asyncio.create_task(worker.run("a", Job("waiting", log))) for _ in range(50)]
    last.release.set()
    newest = asyncio.create_task(worker.run("a", last))
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, SupersededError) for outcome in outcomes)
    first.release.set()
    assert [await running, await newest] == ["first", "last"]
    assert log == ["first", "last"]
    worker.close()


async def test_a_cancelled_request_stops_its_job_and_the_next_one_runs() -> None:
    worker, log = Worker(), list[str]()
    first, second = Job("first", log), Job("second", log)
    task = asyncio.create_task(worker.run("a", first))
    await started(first)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    second.release.set()
    assert await worker.run("a", second) == "second"
    worker.close()


async def test_requests_of_different_documents_take_turns() -> None:
    worker, log = Worker(), list[str]()
    first, second = Job("first", log), Job("second", log)
    first.release.set()
    second.release.set()
    outcomes = await asyncio.gather(worker.run("a", first), worker.run("b", second))
    assert list(outcomes) == ["first", "second"]
    worker.close()


async def test_closing_stops_what_runs() -> None:
    worker, log = Worker(), list[str]()
    job = Job("job", log)
    task = asyncio.create_task(worker.run("a", job))
    await started(job)
    worker.close()
    with pytest.raises(SupersededError):
        await task


async def test_a_newer_request_may_take_over_what_runs() -> None:
    worker, log = Worker(), list[str]()
    job = Job("job", log)
    older = asyncio.create_task(worker.run("a", job))
    await started(job)
    newer = asyncio.create_task(worker.adopt("a"))
    with pytest.raises(SupersededError):
        await older
    job.release.set()
    assert (await newer, log) == ("job", ["job"])
    worker.close()


async def test_who_took_over_and_is_cancelled_stops_the_job() -> None:
    worker, log = Worker(), list[str]()
    job = Job("job", log)
    older = asyncio.create_task(worker.run("a", job))
    await started(job)
    newer = asyncio.create_task(worker.adopt("a"))
    await asyncio.wait({older})
    newer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await newer
    after = Job("after", log)
    after.release.set()
    assert await worker.run("a", after) == "after"
    worker.close()


async def test_there_may_be_nothing_to_take_over() -> None:
    worker = Worker()
    assert await worker.adopt("a") is None
    worker.close()


async def test_a_request_superseded_while_it_is_held_back_never_starts() -> None:
    worker, log = Worker(), list[str]()
    held = asyncio.create_task(worker.run("a", Job("held", log), delay_s=60.0))
    await asyncio.sleep(0)  # it is held back now
    job = Job("job", log)
    job.release.set()
    assert await worker.run("a", job) == "job"
    with pytest.raises(SupersededError):
        await held
    assert log == ["job"]
    worker.close()


async def test_the_worker_is_wanted_from_a_request_to_the_end_of_its_job() -> None:
    worker, log = Worker(), list[str]()
    job = Job("job", log)
    assert not worker.is_wanted
    task = asyncio.create_task(worker.run("a", job))
    await started(job)
    assert worker.is_wanted
    job.release.set()
    await task
    assert not worker.is_wanted
    worker.close()

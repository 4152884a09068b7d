"""The door of a team's engine: tokens, quotas, bounds, metrics, and another try where a copy of the model is lost."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from greencode_lsp.host.messages import BadMessageError, Completed, Failed
from greencode_lsp.limits import HOST_MESSAGE_BYTES
from greencode_lsp.team.messages import COMPLETE_PATH, MODEL_PATH, USAGE_PATH, AccountUsage, Problem, read, read_asked
from greencode_lsp.team.users import Accounts, User

TRIES = 3
"""Copies that a request may lose: each is another one."""
LONGEST_WAIT_S = 2.0
"""For an answer: an editor has completed by itself after a quarter of it, and nothing is computed for nobody."""

logger = logging.getLogger(__name__)
_read_answer = msgspec.json.Decoder(Completed | Failed)


class Meters(Protocol):
    """Where a gate counts; Prometheus' in service, a list in tests."""

    def count(self, user: str, outcome: str, elapsed_ms: float, tokens: int, energy_j: float) -> None:
        """Count one request."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class LostReplicaError(Exception):
    """The copy of the model that had a request is gone."""


class BusyError(Exception):
    """Every copy of the model has as many requests as can be answered in time."""


@dataclass(frozen=True, slots=True)
class Copies:
    """What the gate hands requests to."""

    complete: Callable[[bytes], Awaitable[bytes]]
    """Raises LostReplicaError and BusyError."""
    facts: Callable[[], Awaitable[bytes]]


class Gate:
    """Answers HTTP requests; knows neither Ray nor a web framework."""

    def __init__(self, copies: Copies, accounts: Accounts, meters: Meters) -> None:
        self._copies, self._accounts, self._meters = copies, accounts, meters

    async def answer(self, method: str, path: str, authorization: str, body: Callable[[], Awaitable[bytes]]) -> Reply:
        """Return the answer to a request; `body` is read only of who may ask; it raises BadMessageError."""
        user = self._accounts.user_of(authorization)
        if user is None:
            return _problem(401, "The token is not known here; ask who runs the team's engine for one.")
        if (method, path) == ("GET", MODEL_PATH):
            return await self._facts()
        if (method, path) == ("GET", USAGE_PATH):
            account = self._accounts.of(user)
            usage = AccountUsage(user.name, account.completions, account.tokens, account.energy_j)
            return Reply(200, msgspec.json.encode(usage))
        if (method, path) != ("POST", COMPLETE_PATH):
            return _problem(404, "There is nothing here.")
        wait_s = self._accounts.wait_s(user)
        if wait_s > 0:
            self._meters.count(user.name, "quota", 0.0, 0, 0.0)
            return _problem(429, "The quota is used up.", ("Retry-After", str(math.ceil(wait_s))))
        try:
            data = await body()
            read(data, read_asked)  # a lie is refused here, not by a copy of the model
        except BadMessageError as error:
            self._meters.count(user.name, "refused", 0.0, 0, 0.0)
            return _problem(400, f"The request is none ({error}).")
        return await self._completed(user, data)

    async def _facts(self) -> Reply:
        try:
            return Reply(200, await self._retried(self._copies.facts))
        except LostReplicaError:
            return _no_copy()

    async def _completed(self, user: User, data: bytes) -> Reply:
        start_s = time.perf_counter()

        def elapsed() -> float:
            return (time.perf_counter() - start_s) * 1000

        try:
            answer = await asyncio.wait_for(self._retried(lambda: self._copies.complete(data)), LONGEST_WAIT_S)
        except (BusyError, asyncio.TimeoutError) as error:  # on Python 3.10 the latter is not the builtin
            self._meters.count(user.name, "busy" if isinstance(error, BusyError) else "late", elapsed(), 0, 0.0)
            return _problem(503, "More ask than the copies of the model can answer.", ("Retry-After", "1"))
        except LostReplicaError:
            self._meters.count(user.name, "lost", elapsed(), 0, 0.0)
            return _no_copy()
        except asyncio.CancelledError:  # the editor has hung up; what was spent until then is known to nobody
            self._meters.count(user.name, "cancelled", elapsed(), 0, 0.0)
            raise
        made = _read_answer.decode(answer)
        elapsed_ms = elapsed()
        if isinstance(made, Failed):
            self._meters.count(user.name, "failed", elapsed_ms, 0, 0.0)
            return _problem(422, made.sentence or f"The completion failed ({made.kind}).")
        self._accounts.charge(user, len(made.steps), made.energy.energy_j)
        self._meters.count(user.name, "completed", elapsed_ms, len(made.steps), made.energy.energy_j)
        return Reply(200, answer)

    async def _retried(self, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        for left in range(TRIES, 0, -1):
            try:
                return await ask()
            except LostReplicaError:
                if left == 1:
                    raise
        raise LostReplicaError


def _no_copy() -> Reply:
    return _problem(503, "No copy of the model answers.", ("Retry-After", "1"))


def _problem(status: int, sentence: str, *headers: tuple[str, str]) -> Reply:
    return Reply(status, msgspec.json.encode(Problem(sentence)), headers)


async def bounded(chunks: object) -> bytes:
    """Return a body that comes in chunks; raises BadMessageError where it is too long."""
    data = bytearray()
    async for chunk in chunks:  # type: ignore[attr-defined]  # an asynchronous iterator of the web framework's
        data += chunk
        if len(data) > HOST_MESSAGE_BYTES:
            raise BadMessageError("too long")
    return bytes(data)

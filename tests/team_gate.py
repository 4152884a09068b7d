"""A team's gate before copies of a model that is no model, for tests of both sides."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from greencode_lsp.settings import Settings
from greencode_lsp.team.gate import Copies, LostReplicaError
from greencode_lsp.team.messages import Asked
from greencode_lsp.team.replica import Replica
from tests.fakes import FakeEngine
from tests.host_engine import local_model, request


@dataclass
class Counted:
    """See `Meters`: keeps what it is told."""

    rows: list[tuple[str, str, int]] = field(default_factory=list)

    def count(self, user: str, outcome: str, elapsed_ms: float, tokens: int, energy_j: float) -> None:
        self.rows.append((user, outcome, tokens))


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


BODY = msgspec.json.encode(Asked.of(request(), Settings()))


async def a_body(data: bytes = BODY) -> bytes:
    return data


def copies(engine: FakeEngine | None = None, losses: int = 0) -> Copies:
    replica, left = Replica(local_model(engine)), [losses]

    async def complete(body: bytes) -> bytes:
        if left[0]:
            left[0] -= 1
            raise LostReplicaError
        return await replica.complete(body)

    async def facts() -> bytes:
        if left[0]:
            left[0] -= 1
            raise LostReplicaError
        return replica.facts()

    return Copies(complete, facts)

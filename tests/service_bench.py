"""A completion service over fakes, for tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from greencode_lsp.completion.backend import Backend
from greencode_lsp.completion.parts import ServiceParts
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.completion.status import Status, Suggested
from greencode_lsp.energy.ledger import Ledger
from greencode_lsp.power import Power, PowerState
from greencode_lsp.settings import Settings
from tests.fakes import Never, backend, meter

REQUEST = Request("    for it", 10, "python", invoked=True)


class Bench:
    """A service over fakes, and everything it said."""

    def __init__(
        self,
        folder: Path,
        load: Callable[[Settings], Backend] = lambda settings: backend(),
        power: PowerState = "unknown",
        rng: random.Random | None = None,
    ) -> None:
        self.notices: list[str] = []
        self.statuses: list[Status] = []
        self.ledger = Ledger(folder / "ledger.sqlite")
        parts = ServiceParts(
            load,
            lambda device, notify, checkpoint: meter(),
            lambda notify: self.ledger,
            Power(lambda: power),
            rng or Never(),
        )
        self.service = CompletionService(self.notices.append, self.statuses.append, parts)

    async def show(self, document: str, request: Request) -> Suggested:
        """Complete and give the client what there is."""
        suggested = await self.service.complete(document, request)
        self.service.shown(document, suggested, request)
        return suggested

    async def settle(self) -> None:
        """Wait until the worker has nothing left and the loop has said what it said."""
        loop = asyncio.get_running_loop()
        for _ in range(2):  # what runs now may queue its bookkeeping
            done = loop.create_future()
            self.service._worker.submit(partial(loop.call_soon_threadsafe, done.set_result, None))
            await done


def typed(text: str, **changes: Any) -> Request:
    """Return a request at the end of a text, as an editor makes it by itself."""
    return replace(Request(text, len(text), "python"), **changes)


def until_cancelled(control: object, prefix: str) -> None:
    """Wait before a token until the generation is cancelled, for `FakeEngine.before_token`."""
    while not control.cancelled():  # type: ignore[attr-defined]  # a control, as the engine is given
        pass

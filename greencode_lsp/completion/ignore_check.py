"""Asking the rules about a file without holding up the event loop, and not for longer than a person would wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from greencode_lsp.limits import RULES_S
from greencode_lsp.prompt.ignore import Rules, Verdict

THREADS = 4
"""One file on a dead network folder is not to hold up those on the disk."""
Key = tuple[str, tuple[str, ...], tuple[str, ...]]


class IgnoreCheck:
    """The rules on threads of their own; to be asked on the event loop's."""

    def __init__(self) -> None:
        self._rules = Rules()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="greencode-rules")
        self._asking: dict[Key, Future[Verdict]] = {}

    async def reason(self, path: str, roots: Sequence[str], exclude: Sequence[str]) -> str | None:
        """Return why a file is not completed, in one sentence, or None where it may be."""
        if not path:
            return None
        key = (path, tuple(roots), tuple(exclude))
        asked = self._asking.get(key)
        if asked is None or asked.done():
            asked = self._asking[key] = self._executor.submit(self._rules.denied, *key)
        waiting = asyncio.wrap_future(asked)
        await asyncio.wait(
            [waiting], timeout=RULES_S
        )  # `wait_for` of Python 3.11 loses a cancel that comes with the end
        if not waiting.done():
            return "The file is not completed: its ignore rules took too long to read."
        verdict = waiting.result()
        if self._asking.get(key) is asked:
            del self._asking[key]
        return None if verdict is None else f"The file is not completed: {verdict}."

"""Sentences for the user, from whichever thread: once each, and never with the user's text in them."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from contextlib import suppress

from greencode_lsp.errors import GreenCodeError
from greencode_lsp.limits import REMEMBERED_SENTENCES

Notify = Callable[[str], None]

logger = logging.getLogger(__name__)


class Notifier:
    """Calls `notify` with one sentence at a time, on the event loop's thread."""

    def __init__(self, notify: Notify) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        """Set once there is one."""
        self._notify = notify
        self._notified: set[str] = set()

    def once(self, sentence: str, about: str = "") -> None:
        """Show a sentence unless it, or one about the same thing, was shown: a failure recurs with every keystroke."""
        if (about or sentence) not in self._notified:
            if len(self._notified) >= REMEMBERED_SENTENCES:
                self._notified.clear()
            self._notified.add(about or sentence)
            self._notify(sentence)

    def from_worker(self, sentence: str) -> None:
        """Notify the user from the worker's thread."""
        self.on_loop(lambda: self.once(sentence))

    def on_loop(self, call: Callable[[], None]) -> None:
        """Make a call on the loop's thread."""
        with suppress(RuntimeError):  # the loop may have ended while the worker was busy
            if self.loop is not None:
                self.loop.call_soon_threadsafe(call)

    def failure(self, error: Exception, what: str) -> str:
        """Notify of a failure from the worker's thread; return the sentence."""
        where = "".join(traceback.format_tb(error.__traceback__))  # without its message, which may quote the text
        logger.debug("%s: %s\n%s", what, type(error).__name__, where)
        if isinstance(error, GreenCodeError):
            sentence = str(error)
        else:  # its message may quote the user's text; its type does not
            sentence = f"{what} ({type(error).__name__} inside greencode-lsp); later requests are still answered."
        self.from_worker(sentence)
        return sentence

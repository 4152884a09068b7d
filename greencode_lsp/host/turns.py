"""Whose turn it is: the newest request first, for its user types now; nobody is passed over for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

PASSED_OVER = 3
"""After as many newer requests were served before it, a request goes first."""


@dataclass(slots=True, eq=False)
class Turn:
    """Something to compute."""

    run: Callable[[], None]
    refuse: Callable[[], None] = lambda: None
    """Called instead of `run` where it was cancelled before its turn."""
    is_background: bool = False
    """Whether it waits until nobody else does."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    passed_over: int = 0


class Turns:
    """What waits for the one thread that computes."""

    def __init__(self) -> None:
        self._waiting: list[Turn] = []
        self._changed = threading.Condition()

    def add(self, turn: Turn) -> None:
        """Let something wait for its turn."""
        with self._changed:
            self._waiting.append(turn)
            self._changed.notify()

    def take(self) -> Turn:
        """Wait for somebody, and return whose turn it is."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            turn = self._next()
            self._waiting.remove(turn)
            for other in self._waiting:
                other.passed_over += 1
            return turn

    def cancel(self, turn: Turn) -> bool:
        """Stop a turn; return True where it still waited, and never will run."""
        turn.cancelled.set()
        with self._changed:
            if turn not in self._waiting:
                return False
            self._waiting.remove(turn)
        turn.refuse()
        return True

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    @property
    def is_somebody_waiting(self) -> bool:
        """Whether anything but background work waits."""
        return any(not turn.is_background for turn in tuple(self._waiting))

    def _next(self) -> Turn:
        asked = [turn for turn in self._waiting if not turn.is_background] or self._waiting
        starved = [turn for turn in asked if turn.passed_over >= PASSED_OVER]
        return starved[0] if starved else asked[-1]

"""The models in memory: loaded when somebody wants one, shared, and let go when nobody has asked for a while."""

from __future__ import annotations

import ctypes
import gc
import math
import sys
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field

from greencode_lsp.completion.model import LocalModel


@dataclass(slots=True)
class _Resident:
    """A model in memory."""

    model: LocalModel
    used_s: float
    unload_after_s: float | None


@dataclass(slots=True)
class Residence:
    """Models by what they are; belongs to the thread that computes."""

    clock_s: Callable[[], float] = time.monotonic
    _residents: dict[Hashable, _Resident] = field(default_factory=dict)
    _latest: _Resident | None = None

    def get(self, key: Hashable, load: Callable[[], LocalModel], unload_after_s: float | None) -> LocalModel:
        """Return the model, loaded where it is not in memory; raises what loading raises.

        It stays as long as the most patient of those who asked for it wants, since it was asked for last.
        """
        resident = self._residents.get(key)
        if resident is None:
            resident = self._residents[key] = _Resident(load(), self.clock_s(), unload_after_s)
        waits = (resident.unload_after_s, unload_after_s)
        resident.unload_after_s = None if None in waits else max(wait for wait in waits if wait is not None)
        resident.used_s, self._latest = self.clock_s(), resident
        return resident.model

    def touch(self) -> None:
        """Note that what was asked of the latest model has ended."""
        if self._latest is not None:
            self._latest.used_s, self._latest = self.clock_s(), None

    def keep_only(self, wanted: set[Hashable]) -> None:
        """Let go what nobody has chosen any more."""
        self._drop([key for key in self._residents if key not in wanted])

    def rest(self, longest_s: float = math.inf) -> None:
        """Let go what was not asked for in its time, or for as long."""
        now_s = self.clock_s()
        self._drop([key for key in self._residents if now_s >= self._due_s(key, longest_s)])

    def next_rest_s(self, longest_s: float = math.inf) -> float | None:
        """Return in how many seconds a model is due to go; None where none is."""
        due_s = min((self._due_s(key, longest_s) for key in self._residents), default=math.inf)
        return None if due_s == math.inf else max(0.0, due_s - self.clock_s())

    @property
    def is_empty(self) -> bool:
        """Whether no model is in memory."""
        return not self._residents

    def _due_s(self, key: Hashable, longest_s: float) -> float:
        resident = self._residents[key]
        wait_s = math.inf if resident.unload_after_s is None else resident.unload_after_s
        return resident.used_s + min(wait_s, longest_s)

    def _drop(self, keys: list[Hashable]) -> None:
        for key in keys:
            self._residents.pop(key).model.close()
        if keys:
            give_back_memory()


def give_back_memory() -> None:
    """Collect what holds itself, and let the C library return to the system what it keeps for later."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)

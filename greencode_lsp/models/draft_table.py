"""A draft table: what usually follows a few tokens of code, counted in advance; beside exit heads in a pack.

`drafts.keys` [n] uint32, ascending, name contexts of 1 to LONGEST_CONTEXT tokens by 32 bits of a hash; `drafts.ids` [n]
int32 hold the id that follows most often, `drafts.shares` [n] uint8 how likely the model
says it, in 255ths: estimated from how often it follows. Drafts are verified,
so that a context taken for another costs a little time and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

LONGEST_CONTEXT = 4
SHARES = 255
"""What is stored for a share of 1."""
Number = TypeVar("Number", int, NDArray[np.uint64])
_PRIMES, _MASK = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9), 2**64 - 1


def fold(context: Number, token: Number) -> Number:
    """Return the 64-bit hash of a context that has one more token at its beginning; that of none is 0."""
    return ((context ^ (token + 1)) * _PRIMES[0]) & _MASK  # type: ignore[return-value]  # its stub takes uint64 and int for int64


def key_of(context: Number) -> Number:
    """Return the 32 bits of a context's hash that a table knows it by."""
    return (((context ^ (context >> 29)) * _PRIMES[1]) & _MASK) >> 32  # type: ignore[return-value]  # as above


@dataclass(frozen=True, slots=True)
class DraftTable:
    """See the module."""

    keys: NDArray[np.uint32]
    ids: NDArray[np.int32]
    shares: NDArray[np.uint8]

    def after(self, latest: Sequence[int]) -> tuple[int, float] | None:
        """Return the id that usually follows the longest known context, and how likely it is; None without one."""
        context, keys = 0, []
        for token in latest[: -LONGEST_CONTEXT - 1 : -1]:
            context = fold(context, token)
            keys.append(key_of(context))
        places = np.searchsorted(self.keys, np.array(keys, np.uint32)).tolist()
        for place, key in zip(reversed(places), reversed(keys), strict=True):
            if place < len(self.keys) and self.keys[place] == key:
                return int(self.ids[place]), int(self.shares[place]) / SHARES
        return None

"""Drafts copied from the text itself: what followed the last time the latest tokens occurred.

They cost no layer; verifying k of them costs one full-depth run over k + 1 positions. How many are worth it follows
from the measured cost curve, none included (prompt lookup; Leviathan et al., section 3.3, for the expected number).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

LONGEST_MATCH = 4
ACCEPTANCE = ((0.0, 0.0), (0.27, 0.64), (0.54, 0.72), (0.62, 0.77), (0.83, 0.89))
"""By matched tokens: how likely the first copied token is the full model's, and each later one if those before it were.

Of small-1 and Qwen2.5-Coder-0.5B on 740 cursors in validation packages; a copy that has begun well goes on better than
it began."""
MOST_TOKENS = 7
WORTH = 1.02
"""Expected tokens for the cost of one, below which nothing is drafted."""
Ids = NDArray[np.int64]
Cost = Callable[[int], float]
"""Positions m -> a full-depth run over m of them, head included, against one."""


def propose(ids: Ids, lengths: Sequence[int], room: int, ends: Collection[int] = ()) -> list[int]:
    """Return ids to verify after `ids`, at most `room`: copied from behind the longest, then latest, match.

    `lengths` are those of `draft_lengths`.

    None of `ends` is drafted, nor what follows it: the generation probably stops there, and verifying the tokens
    before already yields it.
    """
    places = np.flatnonzero(ids[:-1] == ids[-1])  # each ends an earlier occurrence of the last token
    if not len(places):
        return []
    matched = np.ones(len(places), np.int64)
    same = places >= 0
    for length in range(1, LONGEST_MATCH):
        before = places - length
        same &= (before >= 0) & (ids[before] == ids[-1 - length]) if len(ids) > length else False
        matched += same
    best = len(places) - 1 - int(matched[::-1].argmax())
    count = min(lengths[int(matched[best])], room)
    start = int(places[best]) + 1
    return list(takewhile(lambda token: token not in ends, ids[start : start + count].tolist()))


def draft_lengths(cost: Cost) -> tuple[int, ...]:
    """Return the number of tokens to copy, by matched tokens; worked out once for a model."""
    return tuple(draft_length(matched, cost) for matched in range(LONGEST_MATCH + 1))


def draft_length(matched: int, cost: Cost) -> int:
    """Return the number of copied tokens that gives most expected tokens for their cost; 0 where none is worth it."""
    first, later = ACCEPTANCE[matched]
    expected = 1.0 + first * np.cumsum(later ** np.arange(MOST_TOKENS))
    gains = [1.0] + [tokens / cost(count + 1) for count, tokens in enumerate(expected.tolist(), 1)]
    best = int(np.argmax(gains))
    return best if gains[best] > WORTH else 0

"""Drafts: tokens that are likely to come and cost no layer, verified by one full-depth run over all of them.

Two sources, the likelier of which is asked for each token: the text itself, from behind the last place where the latest
tokens occurred (prompt lookup), and a table of what usually follows a few tokens of code (models/draft_table.py; n-gram
drafts, arXiv 2404.08698, counted in advance). How many are worth it follows from the measured cost curve, none
included (Leviathan et al., section 3.3, for the expected number).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.models.draft_table import LONGEST_CONTEXT, DraftTable

LONGEST_MATCH = 4
ACCEPTANCE = ((0.0, 0.0), (0.27, 0.64), (0.54, 0.72), (0.62, 0.77), (0.83, 0.89))
"""By matched tokens: how likely the first copied token is the full model's, and each later one if those before it were.

Of small-1 and Qwen2.5-Coder-0.5B on 740 cursors in validation packages; a copy that has begun well goes on better than
it began."""
MOST_TOKENS = 7
WORTH = 1.02
"""Expected tokens for the cost of one, below which nothing is drafted."""
SURE = 0.5
"""So likely that a table overrules a copy of which a single token matches. Where more do, the text knows better: of
drafts that both make differently, the table's were right less often at every share but the highest."""
NOTHING = (-1, 0.0)
UNLIKELY = 0.05
"""So likely that all drafts so far are right, and one more is not looked for."""
Ids = NDArray[np.int64]
Cost = Callable[[int], float]
"""Positions m -> a full-depth run over m of them, head included, against one."""


@dataclass(frozen=True, slots=True)
class Drafter:
    """Says what to verify, on a device with these costs."""

    costs: tuple[float, ...]
    """[1 + MOST_TOKENS] of a full-depth run over 1, 2, .. positions, against one."""
    table: DraftTable | None = None

    @classmethod
    def of(cls, cost: Cost, table: DraftTable | None = None) -> Drafter:
        """Work the costs out once."""
        return cls(tuple(cost(count) for count in range(1, MOST_TOKENS + 2)), table)

    @property
    def is_in_vain(self) -> bool:
        """Whether nothing could be worth it here, however likely."""
        return all(count <= WORTH * cost for count, cost in enumerate(self.costs[1:], 2))

    def propose(self, ids: Ids, room: int, ends: Collection[int] = ()) -> list[int]:
        """Return ids to verify after `ids`, at most `room`: as many as give most expected tokens for their cost.

        None of `ends` is drafted, nor what follows it: the generation probably stops there, and verifying the tokens
        before already yields it.
        """
        drafts: list[int] = []
        likely = expected = 1.0
        best, worth = 0, WORTH
        for token, probability in self._likeliest(ids):
            likely *= probability
            if token in ends or likely < UNLIKELY or len(drafts) == min(MOST_TOKENS, room):
                break
            drafts.append(token)
            expected += likely
            if (gain := expected / self.costs[len(drafts)]) > worth:
                best, worth = len(drafts), gain
        return drafts[:best]

    def _likeliest(self, ids: Ids) -> Iterator[tuple[int, float]]:
        """Yield token after token the likelier of what both sources say, and how likely it is if those before were."""
        latest = ids[-LONGEST_CONTEXT:].tolist()
        place, matched = _copied(ids)
        copied = 0
        while True:
            token, probability = NOTHING
            matched *= place < len(ids)  # behind the text's end the table alone goes on
            if matched:
                token, probability = int(ids[place]), ACCEPTANCE[matched][min(copied, 1)]
            usual, usually = (self.table.after(latest) if self.table is not None else None) or NOTHING
            if usual == token:
                probability = 1 - (1 - probability) * (1 - usually)
            elif usually > probability and (not matched or (matched + copied == 1 and usually > SURE)):
                token, probability, matched = usual, usually, 0  # what follows in the text follows something else
            if not probability:
                return
            yield token, probability
            latest = [*latest[1 - LONGEST_CONTEXT :], token]
            place, copied = place + 1, copied + 1


def _copied(ids: Ids) -> tuple[int, int]:
    """Return where the text goes on behind the longest, then latest, earlier place of its last tokens, and how many."""
    places = np.flatnonzero(ids[:-1] == ids[-1])  # each ends an earlier occurrence of the last token
    if not len(places):
        return 0, 0
    matched = np.ones(len(places), np.int64)
    same = places >= 0
    for length in range(1, LONGEST_MATCH):
        before = places - length
        same &= (before >= 0) & (ids[before] == ids[-1 - length]) if len(ids) > length else False
        matched += same
    best = len(places) - 1 - int(matched[::-1].argmax())
    return int(places[best]) + 1, int(matched[best])

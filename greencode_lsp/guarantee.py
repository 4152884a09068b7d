"""What `greencode.minAgreement` promises, and how the promise is watched while it is served.

The calibration's rows prove a share of agreement on the calibration packages; your file may differ. So one completion
in 50, drawn at random, is caught up to full depth after its answer is sent (an audit), and its share of tokens that
are the full model's is a fair sample of what you get. Tokens that were caught up for other reasons are not: hard tokens
trigger it. Only audits may move the threshold, by one row, towards the conservative end.

The test may be looked at after every audit. It is a bet against the promise (Waudby-Smith and Ramdas, "Estimating means
of bounded random variables by betting", arXiv 2010.09686): with losses x in [0, 1] and the promise E[x] <= r, capital

    K_t = mean over bets b of prod_{i <= t} (1 + (b / r) (x_i - r)),   0 < b < 1

is a nonnegative supermartingale that starts at 1, so that it ever reaches 1 / DELTA with a probability of at most DELTA
(Ville) where the promise holds. A loss is the share of one completion's tokens that disagree, the calibration's unit.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from greencode_lsp.models.manifest import CalibrationRow
from greencode_lsp.records import Constraint

AUDITED_SHARE = 1 / 50
DELTA = 0.05
"""The probability, at most, of taking a promise that holds for broken."""
BETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the largest stake that is allowed: small ones find small breaches, large ones find large ones soon."""
LEAST_RISK = 1e-6
GRID = 1001
"""Means tried for an interval."""


def cheapest(rows: Sequence[CalibrationRow], min_agreement: float) -> CalibrationRow | None:
    """Return the cheapest row whose proven bound keeps the promise; None where none does, and full depth must."""
    proven = [row for row in rows if row.agreement_lower_95 >= min_agreement]
    return min(proven, key=lambda row: row.layer_equivalents_ratio, default=None)


def is_audited(rng: random.Random) -> bool:
    """Draw whether this completion is audited; the draw knows nothing about the completion."""
    return rng.random() < AUDITED_SHARE


def agreement(
    emitted_ids: Sequence[int], full_depth_ids: Sequence[int], constraint: Constraint | None = None
) -> tuple[int, int]:
    """Return how many tokens are the full model's, and of how many.

    Both sequences are by position, `full_depth_ids` as `Engine.full_depth_argmax` returns them. Tokens that a
    constraint chose among few (token healing) are left out: the argmax over all ids says nothing about them.
    """
    free = [constraint is None or constraint(emitted_ids[:i]) is None for i in range(len(emitted_ids))]
    pairs = [pair for pair, counts in zip(zip(emitted_ids, full_depth_ids, strict=True), free, strict=True) if counts]
    return sum(ours == full for ours, full in pairs), len(pairs)


@dataclass(slots=True)
class AuditRecord:
    """The audits under one threshold, and the capital of the bet against its promise."""

    promised: float
    audits: int = 0
    agreed_tokens: int = 0
    tokens: int = 0
    log_capital: list[float] = field(default_factory=lambda: [0.0] * len(BETS))

    def observe(self, agreed_tokens: int, tokens: int) -> None:
        """Take one audit's finding; an audit of no tokens says nothing."""
        if tokens <= 0:
            return
        risk, loss = max(LEAST_RISK, 1 - self.promised), 1 - agreed_tokens / tokens
        self.audits += 1
        self.agreed_tokens += agreed_tokens
        self.tokens += tokens
        self.log_capital = [
            logarithm + math.log1p(bet / risk * (loss - risk))
            for logarithm, bet in zip(self.log_capital, BETS, strict=True)
        ]

    @property
    def is_violated(self) -> bool:
        """Whether the audits contradict the promise at level DELTA."""
        largest = max(self.log_capital)
        mean = largest + math.log(sum(math.exp(x - largest) for x in self.log_capital) / len(BETS))
        return mean >= math.log(1 / DELTA)


class Guarantee:
    """Which calibrated row serves a promise now; begins with the cheapest that keeps it."""

    def __init__(self, rows: Sequence[CalibrationRow], min_agreement: float) -> None:
        """Take one policy's rows of one language, from the most conservative to the most aggressive."""
        self.min_agreement = min_agreement
        self.row = cheapest(rows, min_agreement)
        """None: no row is conservative enough, and every token must be the full model's."""
        self.record = AuditRecord(min_agreement)
        self._rows = list(rows)

    def observe(self, agreed_tokens: int, tokens: int) -> bool:
        """Take an audit; return True where it broke the promise, so that a more conservative row serves now."""
        if self.row is None:
            return False
        self.record.observe(agreed_tokens, tokens)
        if not self.record.is_violated:
            return False
        index = self._rows.index(self.row)
        self.row = self._rows[index - 1] if index else None
        self.record = AuditRecord(self.min_agreement)  # the next row is judged by its own audits
        return True


def interval(shares: Iterable[float], delta: float = DELTA) -> tuple[float, float]:
    """Return bounds of the mean of shares in [0, 1], valid at 1 - delta however often they are looked at.

    The means that neither bet, on more or on less, refutes (the reference above); 0 and 1 where nothing is known.
    """
    import numpy as np  # a tenth of a second that the server's start does without

    losses = 1 - np.asarray(list(shares), np.float64)[:, None]  # [n, 1]
    means = np.linspace(0, 1, GRID)[None, 1:-1]
    above = [np.log1p(bet / means * (losses - means)).sum(axis=0) for bet in BETS]
    below = [np.log1p(bet / (1 - means) * (means - losses)).sum(axis=0) for bet in BETS]
    capital = np.logaddexp.reduce([*above, *below], axis=0) - math.log(2 * len(BETS))  # [GRID - 2]
    kept = np.flatnonzero(capital < math.log(1 / delta))
    if not len(kept):  # between two points of the grid, or at an end of it
        mean = float(1 - losses.mean())
        return mean, mean
    step = 1 / (GRID - 1)
    least, most = (float(means[0, i]) for i in (kept[0], kept[-1]))
    return max(0.0, round(1 - most - step, 4)), min(1.0, round(1 - least + step, 4))

"""What is kept of each completion once it is answered: its ledger row, its outcome, and now and then an audit.

Belongs to the worker's thread. Audits watch over the promises (greencode_lsp/guarantee.py); those of a session move the
thresholds of that session.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from greencode_lsp.completion.model import CompletingModel, ModelAudit
from greencode_lsp.completion.outcomes import Settled
from greencode_lsp.energy.ledger import Ledger, Totals
from greencode_lsp.energy.rows import Audit, LedgerRow
from greencode_lsp.guarantee import Guarantee, is_audited
from greencode_lsp.models.manifest import CalibrationRow
from greencode_lsp.records import Completion

MAX_INTERRUPTIONS = 3
"""Beginnings of one audit that a request may cut short: each runs the model in vain."""
REMEMBERED = 1000
"""Completions whose outcome may still be settled."""


@dataclass(frozen=True, slots=True)
class PendingAudit:
    """A completion drawn to be audited."""

    completion: Completion
    language: str
    preference: float
    guarantee: Guarantee
    row: CalibrationRow
    """That served it: audits of another row say nothing about the one that serves now."""
    interruptions: int = 0


class CompletionRecorder:
    """The ledger, if one is kept, and the guarantees."""

    def __init__(self, rng: random.Random) -> None:
        self.ledger: Ledger | None = None
        self.due: list[PendingAudit] = []
        self._rng = rng
        self._rows: OrderedDict[int, int] = OrderedDict()
        self._guarantees: dict[tuple[tuple[CalibrationRow, ...], float], Guarantee] = {}
        self._serving: Guarantee | None = None

    def choose(self, rows: Sequence[CalibrationRow], wanted: float) -> CalibrationRow | None:
        """Return the row that serves a promise now: the cheapest that keeps it, or one that audits have moved to."""
        self._serving = self._guarantees.setdefault((tuple(rows), wanted), Guarantee(rows, wanted))
        return self._serving.row

    def draw(self, completion: Completion, language: str, preference: float) -> None:
        """Draw one completion in fifty to be audited, of those that a calibrated row served."""
        guarantee, self._serving = self._serving, None
        if guarantee is not None and guarantee.row is not None and completion.steps and is_audited(self._rng):
            self.due.append(PendingAudit(completion, language, preference, guarantee, guarantee.row))

    def add(self, number: int, row: LedgerRow) -> None:
        """Write the row of a completion."""
        if self.ledger is not None:
            self._rows[number] = self.ledger.add(row)
            if len(self._rows) > REMEMBERED:
                self._rows.popitem(last=False)

    def settle(self, settled: Settled) -> None:
        """Write what became of a completion."""
        row_id = self._rows.get(settled.number)
        if row_id is not None and self.ledger is not None:
            self.ledger.settle(row_id, settled.outcome, settled.accepted_characters)

    def flush(self) -> None:
        """Write what waits for another process."""
        if self.ledger is not None:
            self.ledger.flush()

    def today(self) -> Totals:
        """Return today's sums."""
        return self.ledger.today() if self.ledger else Totals()

    def audit(self, model: CompletingModel, cancelled: Callable[[], bool]) -> None:
        """Catch the completion drawn first up to full depth, and book what that took.

        Where a request comes first, the audit is due still, unless that has happened so often that it costs more than
        it shows. After an error it is dropped.
        """
        due = self.due.pop(0)
        audit = model.audit(due.completion, cancelled)
        if audit.agreed is None and due.interruptions < MAX_INTERRUPTIONS:
            self.due.insert(0, replace(due, interruptions=due.interruptions + 1))
        elif audit.agreed is not None and due.guarantee.row == due.row:
            due.guarantee.observe(audit.agreed, audit.tokens)
        self._record_audit(due, audit)

    def _record_audit(self, due: PendingAudit, audit: ModelAudit) -> None:
        """Write what an audit took, and what it has found if it came to its end."""
        if self.ledger is None:
            return
        result = Audit(audit.agreed or 0, audit.tokens, due.guarantee.min_agreement)
        row = LedgerRow.of(due.completion, due.language, due.preference, "audit")
        row = row.audited(result, audit.energy, audit.elapsed_ms)
        self.ledger.add(replace(row, agreed_tokens=None, promised=None) if audit.agreed is None else row)

"""Whether to begin at all, and when to end early: what an automatic request must pass. How strict, the preference says.

A request that the user invoked is never refused by place, confidence or history.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from greencode_lsp.completion.request import Request
from greencode_lsp.completion.scan import state_at
from greencode_lsp.preference import CompletionBudget
from greencode_lsp.prompt.context import skip_closers
from greencode_lsp.settings import Settings

WORD = re.compile(r"\w")
HALF_WORD = re.compile(r"\w+\Z")
OPEN_QUOTE = re.compile(r"\s*(\"|')\Z")
NOT_CODE = frozenset(
    {"plaintext", "scminput", "git-commit", "git-rebase", "log", "output", "search-result", "code-text-binary"}
    | {"csv", "tsv", "dotenv", "env", "ini", "properties", "java-properties", "spring-boot-properties"}
    | {"ssh_config", "pem"}
)
"""Language ids of prose, of data and of what often holds passwords; a model made for any language is not asked."""
GAPS = 20
"""The user's rhythm is the mean of as many gaps between changes."""
PAUSE_S = 0.5
"""A longer gap is a pause for thought, not rhythm."""
USUAL_GAP_S = 0.15
"""Taken for the rhythm until there is one: 80 words per minute."""
LONGEST_WAIT_S = 0.5


def refuse_language(language: str, settings: Settings, known: Sequence[str]) -> str | None:
    """Return why a language is not completed even where the user asks, in one sentence.

    `known` are the languages that the model was made for, none for any.
    """
    if isinstance(settings.languages, str) and not known:
        if language in NOT_CODE:
            return f"{language} is not completed unless greencode.languages names it."
        return None
    languages = settings.languages if isinstance(settings.languages, tuple) else known
    if language not in languages:
        return f"{language or 'The language'} is not completed: greencode.languages names others."
    return None


def refuse_place(text: str, offset: int, budget: CompletionBudget) -> bool:
    """Return whether the cursor stands where nothing is suggested: inside a word, or before too much of a line."""
    if offset < len(text) and WORD.match(text, offset):
        return True
    start = skip_closers(text, offset)
    right = text[start : start + 200].partition("\n")[0]
    return len(right.replace(" ", "").strip()) > budget.text_right


def refuse_text(request: Request, settings: Settings) -> bool:
    """Return whether the cursor stands in a comment or string where the user wants nothing by itself."""
    if settings.in_comments and settings.in_strings:
        return False
    roles = {frame.role for frame in state_at(request.text[: request.offset], request.language)}
    return ("comment" in roles and not settings.in_comments) or ("string" in roles and not settings.in_strings)


def good_prefix(text: str, doubtful: str) -> str:
    """Return `text` without a last word that the doubtful text would continue, or a string only opened."""
    text = HALF_WORD.sub("", text) if WORD.match(doubtful) else text
    quote = OPEN_QUOTE.search(text)
    return text[: quote.start()] if quote and text.count(quote.group(1)) % 2 else text


@dataclass(slots=True)
class Rejections:
    """How often in a row the user typed something else than was suggested, and on which line of which document."""

    _in_a_row: int = 0
    _line: tuple[str, int] | None = None

    @property
    def is_any(self) -> bool:
        """Whether the latest suggestion was rejected."""
        return self._in_a_row > 0

    def rejected(self, document: str, line: int) -> None:
        """Count one."""
        self._in_a_row += 1
        self._line = (document, line)

    def accepted(self) -> None:
        """Reset the count."""
        self._in_a_row = 0

    def is_quiet(self, document: str, line: int, budget: CompletionBudget) -> bool:
        """Return whether to be quiet: too many were rejected, and the cursor is still on that line."""
        if self._line != (document, line):
            self._in_a_row, self._line = 0, (document, line)
        return self._in_a_row >= budget.rejections


@dataclass(slots=True)
class Rhythm:
    """How fast the user types, and how long to wait for the next keystroke."""

    _gaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=GAPS))
    _changed_s: float = float("-inf")

    def changed(self, now_s: float) -> None:
        """Note a change of a document."""
        gap_s = now_s - self._changed_s
        if gap_s <= PAUSE_S:
            self._gaps_s.append(gap_s)
        self._changed_s = now_s

    def wait_s(self, now_s: float, debounce_ms: int | str, budget: CompletionBudget) -> float:
        """Return how long a request is to wait: until so long after the last change, client's delay included."""
        gap_s = sum(self._gaps_s) / len(self._gaps_s) if self._gaps_s else USUAL_GAP_S
        wanted_s = budget.debounce * gap_s if isinstance(debounce_ms, str) else debounce_ms / 1000
        limit_s = LONGEST_WAIT_S if isinstance(debounce_ms, str) else wanted_s
        return max(0.0, min(wanted_s, limit_s) - max(0.0, now_s - self._changed_s))

"""Records that cross layers. Frozen; units in names; nothing here imports torch.

Letters used everywhere: L layers, S segments (runs of layers between two exits), e_1 < ... < e_S = L the exits.
A layer number counts layers run, so exit layer e means "after e layers".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from greencode_lsp.limits import BRANCH_IDS, BRANCH_TEXT_BYTES, BRANCH_TEXTS

EnergyTier = Literal["measured", "attributed", "modelled"]

NEVER = float("inf")
"""A threshold no exit logit passes: every token runs all layers."""


@dataclass(frozen=True, slots=True)
class DecodeConfig:
    """How the next token is decoded. The engine reads it again before every token, so a changed preference is live."""

    policy: str = "never"
    """A key of the engine's policies: `agent`, `confidence`, `fixed`, `never`."""
    threshold: float = NEVER
    """Exit where the policy's exit logit is above this; `fixed` compares layers run, so 7.5 exits after 8."""
    self_speculative: bool = False
    """Lossless: early tokens are drafts, checked at full depth in batches (I4). Copies as well."""
    copies: bool = False
    """Drafts, copied from the text or taken from the model's draft table, are checked at full depth, several at once;
    all other tokens are decoded as if it were not set. What is kept is what the last layer says, up to how a row rounds
    alone and among others: by the full head, or by the shortlist where that may speak."""
    batch_invariant: bool = False
    """Let a position round alike alone and among others, as `self_speculative` does: its full-depth reference (I4)."""
    shortlist: float = NEVER
    """Log-odds of the shortlist's likeliest id above which it is emitted without the full head. With
    `self_speculative` drafts may be so chosen; what verifies them is the full head always."""
    stop: str = "never"
    """A key of the engine's stop policies: `confidence`, `never`."""
    stop_threshold: float = NEVER
    """End the completion before a token whose stop logit is above this."""
    preference: float = 0.5
    """0 energy .. 1 accuracy, for stop policies that read it."""

    @property
    def is_copying(self) -> bool:
        """Whether tokens copied from the text or the draft table are tried first."""
        return self.self_speculative or self.copies

    @property
    def is_batch_invariant(self) -> bool:
        """Whether a lone row is run as several are."""
        return self.self_speculative or self.batch_invariant


@dataclass(frozen=True, slots=True)
class Step:
    """One emitted token."""

    token_id: int
    exit_layer: int
    """Layers run for it before it was emitted: with self-speculative decoding all of them."""
    confidence: float = field(default=1.0, compare=False)
    """Its share of the softmax at that exit, among the ids allowed; 1.0 where it was not asked for."""
    is_stop: bool = field(default=False, compare=False)
    """The completion ends before it: nothing from it on would be accepted. The last step, and not to be shown."""


class Control(Protocol):
    """What a running generation asks its caller: the live configuration, and whether to stop."""

    def config(self) -> DecodeConfig:
        """Return the configuration for the next token."""
        ...

    def cancelled(self) -> bool:
        """Return True to stop; read at every segment and prefill chunk."""
        ...


@dataclass(frozen=True, slots=True)
class FixedControl:
    """A control that never changes its mind."""

    decode_config: DecodeConfig = DecodeConfig()
    is_cancelled: Callable[[], bool] = field(default=lambda: False)

    def config(self) -> DecodeConfig:
        """Return the one configuration."""
        return self.decode_config

    def cancelled(self) -> bool:
        """Ask the callable given."""
        return self.is_cancelled()


Constraint = Callable[[Sequence[int]], Sequence[int] | None]
"""Given the ids emitted so far, the ids allowed next, or None for all of them (token healing)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one generation cost, in counts; a meter turns it into joules, the report into ratios."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Prompt tokens whose first segment was already cached."""
    emitted_tokens: int = 0
    prefill_layer_positions: int = 0
    """Layers x prompt positions run, whenever a token needed them."""
    decode_runs: tuple[tuple[int, int], ...] = ()
    """(segment, positions) of every segment run without prompt positions."""
    mixed_runs: tuple[tuple[int, int, int], ...] = ()
    """(segment, prompt positions, others) of every run with both: drafts of the first token, layers caught up with."""
    head_runs: tuple[int, ...] = ()
    """Positions of every run of the LM head."""
    shortlist_runs: tuple[int, ...] = ()
    """Positions of every run of the shortlist's rows of it."""
    exit_checks: int = 0
    """Positions whose state was read at an early exit, to decide there or to speak."""
    exit_head_positions: int = 0
    """Positions through an early exit's own head."""
    layer_equivalents: float = 0.0
    """Decode only, in layers of one position: sum of layers(s) x c_s(m)/c_s(1), plus h per head position.

    Of m positions beside n of the prompt, what they add to it: c_s(n + m) - c_s(n)."""
    full_depth_layer_equivalents: float = 0.0
    """The same for the emitted tokens at full depth, one at a time."""
    pending_positions: int = 0
    """Positions the last segment had not run when the generation ended."""
    elapsed_ms: float = 0.0

    @property
    def head_positions(self) -> int:
        """Positions through the LM head."""
        return sum(self.head_runs)

    @property
    def shortlist_positions(self) -> int:
        """Positions through the shortlist's rows of it."""
        return sum(self.shortlist_runs)

    @property
    def layer_equivalents_ratio(self) -> float:
        """Decode cost over full-depth decode cost; 1.0 where nothing was decoded."""
        full = self.full_depth_layer_equivalents
        return self.layer_equivalents / full if full else 1.0


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """Joules of one completion, how they were obtained, and which devices they cover."""

    energy_j: float
    energy_tier: EnergyTier
    devices: tuple[str, ...]
    saved_j: float = 0.0
    """Against full depth, counterfactual and therefore modelled, whatever the tier of `energy_j`."""
    idle_j: float | None = None
    """Of `energy_j`, what the devices would have drawn idle; None where that is not known."""

    @property
    def full_depth_j(self) -> float:
        """Joules the same tokens would have taken at full depth; modelled, as `saved_j` is."""
        return self.energy_j + self.saved_j


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a suggestion departs from another one of the same place."""

    token_ids: tuple[int, ...] = ()
    """Kept: the first tokens generated, healed ones included."""
    avoided: tuple[bytes, ...] = ()
    """Not to follow them, in one token or in pieces; none for no branch."""

    def __post_init__(self) -> None:
        """Raise ValueError beyond what a request may carry: it is made from messages, too."""
        if len(self.token_ids) > BRANCH_IDS or not all(0 <= token_id < 2**31 for token_id in self.token_ids):
            raise ValueError("the tokens kept")
        if len(self.avoided) > BRANCH_TEXTS or any(len(text) > BRANCH_TEXT_BYTES for text in self.avoided):
            raise ValueError("the texts avoided")


NO_BRANCH = Branch()


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished completion as the service, the demo and the command line see it."""

    text: str
    steps: tuple[Step, ...]
    work: Work
    layers: int
    energy: EnergyReading
    elapsed_ms: float
    model: str
    device: str
    prompt_ids: tuple[int, ...] = field(default=(), repr=False)
    """What the tokens were generated after: an audit goes over them again."""
    dropped: bytes = field(default=b"", repr=False)
    """What the first tokens had to spell again, where the prompt's last one was healed."""
    seen_characters: int = field(default=1 << 30, compare=False)
    """On either side of the cursor, at most so many were seen by the model."""
    branches: tuple[Branch, ...] = field(default=(), repr=False)
    """Where others may depart from it, the least sure place first; where the user asked."""

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Layers run for each emitted token."""
        return tuple(step.exit_layer for step in self.steps)

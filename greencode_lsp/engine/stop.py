"""When is a completion at its end? Stop policies: asked about every token once it is picked, before it is shown.

A stop policy returns a stop logit: how likely nothing from this token on would be accepted. Above the threshold the
completion ends before the token (STOP). It needs no exits, so it serves every model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from greencode_lsp.engine.state import Vector
from greencode_lsp.records import DecodeConfig

LEAST_SHARE = 1e-12


@dataclass(frozen=True, slots=True)
class Picked:
    """A token that was picked, and where."""

    token_id: int
    exit_index: int
    confidence: float
    """Its share of the softmax, among the ids allowed."""
    hidden: Callable[[], Vector]
    """[D] the state it was picked from, through the final norm; to be asked before anything else is run."""


@dataclass(frozen=True, slots=True)
class StopState:
    """What a stop policy may look at."""

    picked: Picked
    position: int
    """Tokens shown so far."""
    line_tokens: int
    """Tokens since the line's start, this one included."""
    line_log_confidence: float
    """Sum of the logarithms of their shares, in nats."""
    preference: float
    """0 energy .. 1 accuracy."""


class StopPolicy(Protocol):
    """Says how much speaks for ending before a token; higher means stop."""

    def stop_logit(self, state: StopState) -> float:
        """Return the stop logit, compared with the threshold of the decode configuration."""
        ...


class NeverStop:
    """Nothing ends early."""

    def stop_logit(self, state: StopState) -> float:
        """Return minus infinity."""
        return -np.inf


class ConfidenceStop:
    """A line ends where its tokens' probabilities multiply to too little."""

    def stop_logit(self, state: StopState) -> float:
        """Return -log of the product."""
        return -state.line_log_confidence


STOP_POLICIES: Mapping[str, StopPolicy] = {"never": NeverStop(), "confidence": ConfidenceStop()}
"""Those that every model has."""


@dataclass(slots=True)
class StopTracker:
    """One generation's tokens as they come, put to the policy that the configuration names."""

    policies: Mapping[str, StopPolicy]
    line_ends: Collection[int]
    """Ids after which a new line begins."""
    _position: int = 0
    _line_tokens: int = 0
    _line_log_confidence: float = 0.0

    def ends_before(self, config: DecodeConfig, picked: Picked) -> bool:
        """Say whether the completion ends before the token; where it does not, the token counts as shown."""
        self._line_tokens += 1
        self._line_log_confidence += math.log(max(picked.confidence, LEAST_SHARE))
        state = StopState(picked, self._position, self._line_tokens, self._line_log_confidence, config.preference)
        if self.policies[config.stop].stop_logit(state) > config.stop_threshold:
            return True
        self._position += 1
        if picked.token_id in self.line_ends:
            self._line_tokens, self._line_log_confidence = 0, 0.0
        return False

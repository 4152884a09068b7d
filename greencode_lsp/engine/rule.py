"""An exit policy and a threshold, asked about one token while the segments advance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from greencode_lsp.engine.policy import ExitPolicy, ExitState, Vector
from greencode_lsp.engine.segments import Segments


@dataclass(slots=True)
class PolicyRule:
    """See `ExitRule`."""

    policy: ExitPolicy
    threshold: float
    prompt_tokens: int
    position: int
    """Tokens emitted so far."""
    normalise: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]
    logits: Vector | None = None
    """[V] of the state asked about last, where the policy had the head run."""

    def __call__(self, segments: Segments, index: int) -> bool:
        """Say whether the last token leaves after the segment."""
        normalised = self.normalise(segments.outputs(index))  # [1, D]
        self.logits = None

        def logits() -> Vector:
            if self.logits is None:
                self.logits = self.head(normalised)[0].float().cpu().numpy()
            return self.logits

        behind = max(segments[index + 1].filled, self.prompt_tokens - 1)
        hidden = normalised[0].float().cpu().numpy()
        state = ExitState(hidden, index, segments.exits, len(segments.ids) - behind, self.position, logits)
        return self.policy.exit_logit(state) > self.threshold

"""The paper's KV cache, for comparison: a token that leaves early leaves its state to all deeper layers.

Their keys and values are made from the exit's hidden state, by each layer's own input norm and projections (GREEN-CODE,
section IV; CALM, section 3.3), and never corrected. So I1 does not hold: what full depth would have attended to is
not there, and later tokens pay in quality what is saved in catching up.
"""

from __future__ import annotations

from collections.abc import Callable

from greencode_lsp.engine.segments import ExitRule, Segments


class PropagatedSegments(Segments):
    """Segments that are never behind: the prompt runs through all layers, skipped positions are filled in."""

    def advance_until(self, rule: ExitRule, cancelled: Callable[[], bool]) -> int:
        """Advance until the rule says leave, fill the deeper caches; return the index of the segment left after."""
        last = len(self.ids) - 1
        if self[-1].filled < last:  # a prompt, all but its last position
            ids = self.ids[last:]
            self.crop(last)
            for index in range(len(self)):
                self.advance(index, cancelled)
            self.feed(ids)
        left = super().advance_until(rule, cancelled)
        state = self.outputs(left)  # [1, D]
        for index in range(left + 1, len(self)):
            segment = self[index]
            self.family.propagate(state, last, segment.layers, segment.cache)
            self.states[index + 1][last] = state[0]
            segment.filled = last + 1
        return left

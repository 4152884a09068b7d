"""What a segment run costs over m positions, and the counts of one generation."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from greencode_lsp.models.manifest import Manifest
from greencode_lsp.records import Work


def relative_cost(curve: Mapping[int, float], positions: int) -> float:
    """Return c(m)/c(1), interpolated over the measured points; beyond the last, and without any, proportional to m."""
    points = [(1, 1.0), *sorted((m, cost) for m, cost in curve.items() if m > 1)]
    last, cost = points[-1]
    if positions >= last:
        return cost * positions / last
    return float(np.interp(positions, [m for m, _ in points], [cost for _, cost in points]))


@dataclass(slots=True)
class WorkLog:
    """See `Recorder`: counts one generation as it runs."""

    manifest: Manifest
    prompt_tokens: int
    reused_tokens: int
    emitted_tokens: int = 0
    prefill_layer_positions: int = 0
    head_runs: list[int] = field(default_factory=list)
    """Positions of each run of the LM head."""
    shortlist_runs: list[int] = field(default_factory=list)
    """Positions of each run of the shortlist's rows of it."""
    exit_checks: int = 0
    exit_head_positions: int = 0
    decode_runs: list[tuple[int, int]] = field(default_factory=list)
    mixed_runs: list[tuple[int, int, int]] = field(default_factory=list)
    start_s: float = field(default_factory=time.perf_counter)

    def count_run(self, segment: int, positions: int, decoded: int, padding: int = 0) -> None:
        """Record a segment run over positions: those `decoded` as decoding, the others as prefill.

        Layers that a token decoded for an earlier completion missed are among them: full depth would have run them
        then. Padding costs what the same number of positions would.
        """
        exits = self.manifest.exits
        layers = exits[segment] - (exits[segment - 1] if segment else 0)
        self.prefill_layer_positions += layers * (positions - decoded)
        if decoded and decoded < positions:
            self.mixed_runs.append((segment, positions - decoded, decoded + padding))
        elif decoded:
            self.decode_runs.append((segment, decoded + padding))

    def count_head(self, positions: int) -> None:
        """Record one run of positions through the LM head."""
        self.head_runs.append(positions)

    def count_shortlist(self, positions: int) -> None:
        """Record one run of positions through the shortlist."""
        self.shortlist_runs.append(positions)

    def count_exit_check(self, segment: int) -> None:
        """Record a position read at an early exit, through the exit's head where it has one."""
        kinds = self.manifest.exit_heads
        self.exit_checks += 1
        self.exit_head_positions += bool(kinds) and kinds[segment] != "none"

    def finish(self, pending_positions: int) -> Work:
        """Return the record."""
        manifest = self.manifest
        widths = np.diff((0, *manifest.exits))
        layers_by_positions: Counter[int] = Counter()
        for segment, positions in self.decode_runs:
            layers_by_positions[positions] += int(widths[segment])
        layers = sum(n * relative_cost(manifest.cost_curve, m) for m, n in layers_by_positions.items())
        layers += sum(
            int(widths[s]) * (relative_cost(manifest.cost_curve, n + m) - relative_cost(manifest.cost_curve, n))
            for s, n, m in self.mixed_runs
        )
        # the head is a matrix like the layers': several rows at once share the reading of it
        layers += manifest.head_layers * sum(relative_cost(manifest.cost_curve, m) for m in self.head_runs)
        layers += manifest.shortlist_layers * sum(relative_cost(manifest.cost_curve, m) for m in self.shortlist_runs)
        layers += manifest.exit_head_layers * self.exit_head_positions
        full_layers = manifest.exits[-1] * max(0, self.emitted_tokens - 1)  # the first token's layers are the prompt's
        return Work(
            prompt_tokens=self.prompt_tokens,
            reused_tokens=self.reused_tokens,
            emitted_tokens=self.emitted_tokens,
            prefill_layer_positions=self.prefill_layer_positions,
            decode_runs=tuple(self.decode_runs),
            mixed_runs=tuple(self.mixed_runs),
            head_runs=tuple(self.head_runs),
            shortlist_runs=tuple(self.shortlist_runs),
            exit_checks=self.exit_checks,
            exit_head_positions=self.exit_head_positions,
            layer_equivalents=layers,
            full_depth_layer_equivalents=full_layers + manifest.head_layers * self.emitted_tokens,
            pending_positions=pending_positions,
            elapsed_ms=1000 * (time.perf_counter() - self.start_s),
        )

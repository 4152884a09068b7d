"""Calibration: what each threshold of each policy keeps and costs, of what is served.

    python -m training calibrate --preset mini        # 5 minutes on two cores

Free-running through the engine, on the exported weights, at cursors of files that neither the model nor the agent
was trained on. A token agrees when it equals the full-depth argmax after the same emitted tokens. The lower bound is a
percentile bootstrap over completions, since tokens of one completion are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.policy import AgentPolicy, ExitPolicy, ExitState, Vector
from greencode_lsp.models.manifest import CalibrationRow
from greencode_lsp.records import DecodeConfig, FixedControl
from training.rollout import Rollouts, emit

AGREEMENTS = (0.999, 0.995, 0.99, 0.98, 0.97, 0.95, 0.92, 0.88)
"""A threshold is tried for each: the boldest that keeps this share on the rollouts."""
WANTED_AGREEMENT = 0.98
"""Policies are compared at this share."""
RESAMPLES = 1000
GRID_TOKENS = 8_000
"""Stored tokens that thresholds are placed by."""
Tables = dict[str, tuple[CalibrationRow, ...]]


@dataclass(slots=True)
class _Tally:
    """One entry per completion, but `exit_layers`: one per token."""

    agreeing: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    layer_equivalents: list[float] = field(default_factory=list)
    full_layer_equivalents: list[float] = field(default_factory=list)
    exit_layers: list[int] = field(default_factory=list)


def lower_bound_95(agreeing: NDArray[np.int64], tokens: NDArray[np.int64], seed: int = 0) -> float:
    """Return the one-sided 95 % lower bound of sum(agreeing) / sum(tokens) over completions.

    Where every token agrees a bootstrap knows no doubt; then it is the exact bound for n successes of n completions.
    """
    if (agreeing == tokens).all():
        return float(0.05 ** (1 / len(tokens)))
    drawn = np.random.default_rng(seed).integers(len(tokens), size=(RESAMPLES, len(tokens)))
    return float(np.quantile(agreeing[drawn].sum(axis=1) / tokens[drawn].sum(axis=1), 0.05))


def agent_logits(policy: ExitPolicy, rollouts: Rollouts, exits: tuple[int, ...]) -> Vector:
    """Return the policy's exit logits [N, S - 1] on stored states, nothing skipped before."""

    def no_head() -> Vector:
        raise AssertionError("the agent decides without the head")

    rows = [
        [policy.exit_logit(ExitState(hidden, i, exits, 1, int(position), no_head)) for i, hidden in enumerate(states)]
        for states, position in zip(rollouts.hidden, rollouts.position, strict=True)
    ]
    return np.asarray(rows, np.float32)


def thresholds(logits: Vector, rollouts: Rollouts) -> list[float]:
    """Return quantiles of the exit logit [N, S - 1], from careful to bold: for each of AGREEMENTS, if they differ.

    Which quantile keeps which share is read off the stored rollouts; the calibration then measures it.
    """
    right = np.asarray(rollouts.choices)[:, :-1] == np.asarray(rollouts.labels)[:, None]
    candidates = np.unique(np.quantile(logits, np.linspace(1, 0, 200)))[::-1]
    kept = []
    for threshold in candidates:
        leaves = logits > threshold
        kept.append(np.where(leaves.any(axis=1), right[np.arange(len(right)), leaves.argmax(axis=1)], True).mean())
    shares = np.minimum.accumulate(kept)
    picked = {int(np.flatnonzero(shares >= wanted)[-1]) for wanted in AGREEMENTS if (shares >= wanted).any()}
    return [float(candidates[i]) for i in sorted(picked)]


def grid(engine: Engine, rollouts: Rollouts) -> dict[str, list[float]]:
    """Return the thresholds to measure for each policy, from careful to bold."""
    out: dict[str, list[float]] = {}
    rollouts = rollouts.every(max(1, len(rollouts) // GRID_TOKENS))
    agent = engine.policies.get("agent")
    if isinstance(agent, AgentPolicy):
        out["agent"] = thresholds(agent_logits(agent, rollouts, engine.exits), rollouts)
    out["confidence"] = thresholds(np.asarray(rollouts.confidence), rollouts)
    out["fixed"] = [exit_layer - 0.5 for exit_layer in reversed(engine.exits[:-1])]
    return out


def calibrate(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    stop_ids: frozenset[int],
    settings: dict[str, list[float]],
) -> Tables:
    """Measure every threshold on every prompt; a prompt's cache serves all of them."""
    tallies = {(policy, t): _Tally() for policy, values in settings.items() for t in values}
    for prompt in prompts:
        labels: dict[tuple[int, ...], list[int]] = {}  # policies often say the same
        for (policy, threshold), tally in tallies.items():
            steps = emit(engine, prompt, DecodeConfig(policy, threshold), new_tokens, stop_ids)
            work = engine.work
            emitted = tuple(step.token_id for step in steps)
            if emitted not in labels:
                labels[emitted] = engine.full_depth_argmax(prompt, emitted, FixedControl())
            tally.agreeing.append(sum(a == b for a, b in zip(emitted, labels[emitted], strict=True)))
            tally.tokens.append(len(emitted))
            tally.exit_layers += [step.exit_layer for step in steps]
            tally.layer_equivalents.append(work.layer_equivalents)
            tally.full_layer_equivalents.append(work.full_depth_layer_equivalents)
    return {
        policy: tuple(_row(tallies[policy, t], t, engine.layers) for t in values) for policy, values in settings.items()
    }


def _row(tally: _Tally, threshold: float, layers: int) -> CalibrationRow:
    agreeing, tokens = np.asarray(tally.agreeing), np.asarray(tally.tokens)
    exits = np.asarray(tally.exit_layers)
    return CalibrationRow(
        threshold=threshold,
        agreement=round(float(agreeing.sum() / tokens.sum()), 4),
        agreement_lower_95=round(lower_bound_95(agreeing, tokens), 4),
        mean_exit_layer=round(float(exits.mean()), 2),
        layer_equivalents_ratio=round(sum(tally.layer_equivalents) / sum(tally.full_layer_equivalents), 4),
        early_share=round(float((exits < layers).mean()), 4),
    )


def winner(tables: Tables) -> tuple[str, dict[str, Any]]:
    """Return the policy that is cheapest at the wanted agreement, ties to the agent, and the figures it won by.

    Where no policy keeps the agreement at any threshold, the one that keeps most of it.
    """
    best: dict[str, CalibrationRow] = {}
    for policy, rows in tables.items():
        good = [row for row in rows if row.agreement >= WANTED_AGREEMENT]
        if good:
            best[policy] = min(good, key=lambda row: row.layer_equivalents_ratio)
    figures = {
        "compared_at_agreement": WANTED_AGREEMENT,
        "layer_equivalents_ratio": {policy: row.layer_equivalents_ratio for policy, row in best.items()},
        "lower_bound": "percentile bootstrap over completions, one-sided 95 %",
    }
    if best:
        name = min(best, key=lambda policy: (best[policy].layer_equivalents_ratio, policy != "agent"))
    else:
        name = max(tables, key=lambda policy: (max(row.agreement for row in tables[policy]), policy == "agent"))
    return name, figures

"""What the exit agent is compared with, on the same stored tokens: each policy's agreement and cost per threshold.

Policies are taken through the environment's own accounting (environment.py), so that skipped positions are caught up
with as the engine does; the stored tokens are given, not the policy's own (teacher forcing). The oracle exits at the
first exit whose token is the full model's: no policy that reads one exit at a time keeps as much for less, but one that
plans catch-up might.

Letters: n episodes, N tokens, S exits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.policy import AgentPolicy
from greencode_lsp.models.manifest import Manifest
from training.exits.environment import ParallelEpisodes
from training.exits.probe import ExitNetwork
from training.exits.rewards import Booleans, Floats, Integers
from training.exits.rollout import Rollouts

Logits = Callable[[ParallelEpisodes], NDArray[np.floating[Any]]]
"""Exit logits [n] of the episodes as they stand."""
THRESHOLDS = 400
"""Candidates per policy, of which bisection finds the most aggressive that keeps the agreement wanted."""
AGREEMENTS = (0.99, 0.98, 0.95)
"""Policies are compared where they keep these shares."""
WANTED_AGREEMENT = 0.98
"""The share by which the agent is judged."""
CANDIDATES = ("start", "ppo")
"""What may be the agent: the trained network, or its start where PPO made that no cheaper."""
GATED = "gated"
GATES = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Logits of an agent above which an exit is asked for its confidence."""
RIVALS = ("fixed", "confidence", "probe")


@dataclass(frozen=True, slots=True)
class Policy:
    """A decision rule, as it can be replayed."""

    name: str
    logits: Logits
    thresholds: Sequence[float]
    """From conservative to aggressive."""
    needs_head: bool = False
    """Each check costs a pass through the LM head, which the token that exits there needs anyway; but for those whose
    logit is minus infinity."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One policy at one threshold, over all stored tokens."""

    policy: str
    threshold: float
    agreement: float
    """Share of tokens that are the full model's."""
    layer_equivalents_ratio: float
    """Against full depth; decode only, heads included."""
    mean_exit_layer: float


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """Where each token exited, and what its completion cost."""

    exit_index: Integers
    """[N] from 0; S - 1 is full depth."""
    correct: Booleans
    """[N]"""
    layer_equivalents: Floats
    """[completions]"""


def replay(rollouts: Rollouts, manifest: Manifest, policy: Policy, threshold: float) -> PolicyRun:
    """Go through every completion once, side by side, exiting where the exit logit is above the threshold."""
    count = len(rollouts.lengths)
    episodes = ParallelEpisodes(rollouts, manifest, count)
    episodes.begin(np.ones(count, bool), np.arange(count))
    exit_index, correct = np.zeros(len(rollouts), np.int64), np.zeros(len(rollouts), bool)
    cost, alive = np.zeros(count), np.ones(count, bool)
    while alive.any():
        row, here = episodes.token_index, episodes.exit
        logits = policy.logits(episodes)
        exit_here = logits > threshold
        outcome = episodes.take(exit_here)
        checks = manifest.head_layers * (policy.needs_head & ~exit_here & np.isfinite(logits))
        cost += alive * (outcome.layer_equivalents + checks)
        emits = outcome.emits & alive
        exit_index[row[emits]] = np.where(exit_here, here, len(manifest.exits) - 1)[emits]
        correct[row[emits]] = outcome.correct[emits]
        alive &= ~outcome.ended
        # an episode that is over stands at its own beginning and counts no more
        episodes.begin(outcome.ended, np.flatnonzero(outcome.ended))
    return PolicyRun(exit_index, correct, cost)


def measure(rollouts: Rollouts, manifest: Manifest, policy: Policy, threshold: float) -> Figures:
    """Replay one policy at one threshold and sum it up."""
    replayed = replay(rollouts, manifest, policy, threshold)
    tokens, completions = len(rollouts), len(rollouts.lengths)
    full = manifest.exits[-1] * (tokens - completions) + manifest.head_layers * tokens  # as WorkLog.finish has it
    return Figures(
        policy=policy.name,
        threshold=round(float(threshold), 4),
        agreement=round(float(replayed.correct.mean()), 4),
        layer_equivalents_ratio=round(float(replayed.layer_equivalents.sum() / full), 4),
        mean_exit_layer=round(float(np.asarray(manifest.exits)[replayed.exit_index].mean()), 2),
    )


def fixed(manifest: Manifest) -> Policy:
    """Exit every token at one layer."""
    layers = np.asarray(manifest.exits, np.float64)
    return Policy("fixed", lambda episodes: layers[episodes.exit], [layer - 0.5 for layer in reversed(manifest.exits)])


def confidence(rollouts: Rollouts) -> Policy:
    """Exit where the exit is sure of its own token; needs the head at every exit."""
    odds = np.asarray(rollouts.confidence, np.float64)
    return Policy(
        "confidence", lambda episodes: odds[episodes.token_index, episodes.exit], _quantiles(odds), needs_head=True
    )


def oracle(rollouts: Rollouts) -> Policy:
    """Exit at the first exit whose token is the full model's."""
    right = rollouts.right.astype(np.float64)
    return Policy("oracle", lambda episodes: right[episodes.token_index, episodes.exit], [0.5])


def network(name: str, agent: AgentPolicy, rollouts: Rollouts, manifest: Manifest) -> Policy:
    """Exit as a network says, the agent's or the supervised probe's."""
    episodes = ParallelEpisodes(rollouts, manifest, min(256, len(rollouts.lengths)))
    seen = []
    for _ in range(8 * len(manifest.exits)):  # logits where nothing exits: only the thresholds are placed by them
        seen.append(agent.exit_logits(episodes.observe()))
        episodes.begin(episodes.take(np.zeros(len(seen[0]), bool)).ended)
    return Policy(name, lambda episodes: agent.exit_logits(episodes.observe()), _quantiles(np.concatenate(seen)))


def gated(agent: AgentPolicy, gate: float, rollouts: Rollouts) -> Policy:
    """Exit where the exit is sure of its own token, asked only where an agent's logit is above the gate."""
    odds = np.asarray(rollouts.confidence, np.float64)

    def logits(episodes: ParallelEpisodes) -> Floats:
        is_open = agent.exit_logits(episodes.observe()) > gate
        return np.where(is_open, odds[episodes.token_index, episodes.exit], -np.inf)

    return Policy(GATED, logits, _quantiles(odds), needs_head=True)


def best_gate(
    rollouts: Rollouts, manifest: Manifest, network: ExitNetwork, ungated: float
) -> tuple[float | None, list[dict[str, Any]]]:
    """Return the gate where WANTED_AGREEMENT costs least, None where that is no less than `ungated`; and its rows."""
    agent, best, chosen = AgentPolicy(network.tensors(), manifest.exits), ungated, None
    for gate in GATES:
        figures = cheapest(rollouts, manifest, gated(agent, gate, rollouts), WANTED_AGREEMENT)
        if figures and figures.layer_equivalents_ratio < best:
            best, chosen = figures.layer_equivalents_ratio, gate
    if chosen is None:
        return None, []
    policy = gated(agent, chosen, rollouts)
    kept = [(share, cheapest(rollouts, manifest, policy, share)) for share in AGREEMENTS]
    return chosen, [asdict(figures) | {"wanted": share, "gate": chosen} for share, figures in kept if figures]


def _quantiles(logits: NDArray[np.floating]) -> list[float]:
    return [float(value) for value in np.unique(np.quantile(logits, np.linspace(1, 0, THRESHOLDS)))[::-1]]


def cheapest(rollouts: Rollouts, manifest: Manifest, policy: Policy, agreement: float) -> Figures | None:
    """Return the most aggressive threshold that keeps the share wanted, by bisection; None where the first does not."""
    low, high, best = 0, len(policy.thresholds), None
    while low < high:
        middle = (low + high) // 2
        figures = measure(rollouts, manifest, policy, policy.thresholds[middle])
        if figures.agreement >= agreement:
            best, low = figures, middle + 1
        else:
            high = middle
    return best


def compare(rollouts: Rollouts, manifest: Manifest, networks: Mapping[str, ExitNetwork]) -> dict[str, Any]:
    """Return the cheapest threshold of every policy at each of AGREEMENTS, which network is the agent, and a verdict.

    `networks` hold CANDIDATES and the probe. A policy that keeps an agreement at no threshold has no row there. The
    thresholds, the choice and the verdict are of the same tokens; what the agent is worth on others, calibration says.
    """
    policies = [fixed(manifest), confidence(rollouts), oracle(rollouts)]
    for name, weights in networks.items():
        policies.append(network(name, AgentPolicy(weights.tensors(), manifest.exits), rollouts, manifest))
    cheapest_at = {p.name: [cheapest(rollouts, manifest, p, share) for share in AGREEMENTS] for p in policies}
    rows = [
        asdict(figures) | {"wanted": share}
        for several in cheapest_at.values()
        for share, figures in zip(AGREEMENTS, several, strict=True)
        if figures
    ]
    agent = cheapest_candidate(rows)
    gate, gated_rows = best_gate(rollouts, manifest, networks[agent], _ratio(rows, agent))
    rows += gated_rows
    said = verdict(rows, agent, agent if gate is None else GATED)
    return {"tokens": len(rollouts), "rows": rows, "gate": gate, "agent": agent, "verdict": said}


def cheapest_candidate(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return which of CANDIDATES costs least at WANTED_AGREEMENT."""
    return min(CANDIDATES, key=lambda name: _ratio(rows, name))


def verdict(rows: Sequence[Mapping[str, Any]], agent: str, served: str) -> str:
    """Return in a sentence what the agent, as it is served, is no better than at WANTED_AGREEMENT."""
    cost = _ratio(rows, served)
    if cost == np.inf:
        return f"The agent keeps an agreement of {WANTED_AGREEMENT} at no threshold."
    name = agent if served == agent else f"{agent}, {served}"
    beaten_by = [rival for rival in RIVALS if _ratio(rows, rival) <= cost]
    if beaten_by:
        return f"The agent ({name}) is no better than {' and '.join(beaten_by)} at {WANTED_AGREEMENT}."
    return f"The agent ({name}) is the cheapest at an agreement of {WANTED_AGREEMENT}, the oracle apart."


def _ratio(rows: Sequence[Mapping[str, Any]], policy: str) -> float:
    """Return what a policy costs at WANTED_AGREEMENT; infinite where it keeps that at no threshold."""
    ratios = (r["layer_equivalents_ratio"] for r in rows if (r["policy"], r["wanted"]) == (policy, WANTED_AGREEMENT))
    return float(next(ratios, np.inf))


def as_text(table: Mapping[str, Any]) -> str:
    """Return the comparison as lines of one table."""
    lines = [f"{'policy':>14} {'wanted':>6} {'threshold':>9} {'agreement':>9} {'ratio':>6} {'layer':>6}"]
    for row in table["rows"]:
        lines.append(
            f"{row['policy']:>14} {row['wanted']:6.2f} {row['threshold']:9.3f} {row['agreement']:9.4f}"
            f" {row['layer_equivalents_ratio']:6.3f} {row['mean_exit_layer']:6.2f}"
        )
    gate = table["gate"]
    opens = [] if gate is None else [f"An exit is asked for its confidence where the agent's logit is above {gate}."]
    return "\n".join([*lines, table["verdict"], *opens])

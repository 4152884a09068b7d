"""Calibration: what each threshold of each policy keeps and costs, of what is served.

    python -m training calibrate --preset mini --processes 2

Free-running on the exported weights, at cursors of packages that neither the model nor the agent was trained on, by
replay (training/exits/replay.py), one table per language. Prompt, healing, lengths and the end of a completion are the
server's (training/exits/served.py): losses are counted over the tokens of what is shown that the model chose freely, as
an audit counts them. A token agrees when it equals the full-depth argmax after the same emitted tokens; the unit is the
completion, and what is promised of a row is in training/evaluation/risk_control.py. A share of all (completion, row)
pairs is run again through the engine itself and must come out the same.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.policy import AgentPolicy, ExitState, GatedPolicy
from greencode_lsp.engine.state import Vector
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import CalibrationRow
from greencode_lsp.preference import DEFAULT, required_agreement
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import NEVER, DecodeConfig
from training.data.cursors import SourcePosition
from training.evaluation.metrics import line_scores
from training.evaluation.risk_control import DELTA, fixed_sequence
from training.exits.replay import ORACLE, Grower, ReplayedCompletion, Tree
from training.exits.rollout import LANGUAGES, Rollouts, emit_served
from training.exits.served import Served, serve

AGREEMENTS = (
    *(0.9995, 0.999, 0.998, 0.9965, 0.995, 0.993, 0.991, 0.9885, 0.986, 0.983),
    *(0.98, 0.976, 0.97, 0.96, 0.95, 0.935, 0.92, 0.90, 0.88, 0.85),
)
"""A threshold is tried for each: the most aggressive one that keeps this share on the rollouts."""
GRID_TOKENS = 8_000
"""Stored tokens that thresholds are placed by."""
METHOD = (
    f"Learn then Test with Hoeffding-Bentkus p-values, delta {DELTA} shared by the served policies, fixed sequence "
    "from `never` downwards; unit: a completion's mean loss"
)
SERVED = ("agent", "confidence", "fixed")
"""`auto` is chosen among them on the same completions, so they share DELTA."""
NEAR_TIE = 1e-3
"""Replay and the engine may differ where two numbers are this close: float32 rounds differently in other batches."""
REPORTED_ONLY = ("probe", ORACLE)
"""Measured beside the policies that are served, for comparison."""
CONSERVATIVE = 0.945
SPARSE_EVERY = 5
"""Aggressive thresholds and fixed exits depart from the full model's path for good and cost most to replay; a looser
bound serves them: those that keep less than CONSERVATIVE on the rollouts are measured on each fifth completion."""
DRAFTERS = ("agent", "confidence", "never")
"""Policies that may draft in self-speculative decoding, beside those copied from the text; `never` has no others."""
CHECKED_PROMPTS, CHECKED_ROWS = 0.05, 0.2
"""Shares whose product is that of the pairs run again; a checked prompt's cache serves its rows."""
FIGURES = (
    *("agreement", "tokens", "exit_layers", "early", "layer_equivalents", "full_layer_equivalents"),
    *("exact_match", "edit_similarity", "rouge_l", "codebleu", "shown_agreement"),
)
"""What is kept of a completion under a row: shares and scores of it, sums over its tokens."""
PROMISED = ("agreement", "shown_agreement")
"""A row's bound is the lesser of theirs: of whole completions, and of what is shown where a doubtful rest is not."""
Tables = Mapping[str, tuple[CalibrationRow, ...]]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ThresholdCandidate:
    """A threshold to measure; each policy's stand from conservative to aggressive."""

    policy: str
    threshold: float
    every: int = 1
    """Measured on each n-th completion."""

    def config(self, *, copies: bool = False, self_speculative: bool = False) -> DecodeConfig:
        """Return what is decoded by; full depth asks no exit, as it does not where it is served."""
        threshold = NEVER if self.policy == "never" else self.threshold
        return DecodeConfig(self.policy, threshold, copies=copies, self_speculative=self_speculative)


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """The loaded checkpoint and how it is completed with."""

    engine: Engine
    tokenizer: CodeTokenizer
    grower: Grower
    new_tokens: int

    def tree(self, cursor: SourcePosition) -> tuple[Served, Tree]:
        """Return what the server would do at the cursor, and all its completions."""
        served = serve(self.engine, self.tokenizer, cursor, self.new_tokens)
        return served, Tree(self.engine, self.grower, served.prompt_ids)


def agent_logits(policy: AgentPolicy | GatedPolicy, rollouts: Rollouts, exits: tuple[int, ...]) -> Vector:
    """Return the policy's exit logits [N, S - 1] on stored states, nothing skipped before."""
    if isinstance(policy, GatedPolicy):
        is_open = agent_logits(policy.agent, rollouts, exits) > policy.gate
        return np.where(is_open, np.asarray(rollouts.confidence), -np.inf).astype(np.float32)

    def no_head() -> Vector:
        raise AssertionError("the agent decides without the head")

    rows = [
        [policy.exit_logit(ExitState(hidden, i, exits, 1, int(position), no_head)) for i, hidden in enumerate(states)]
        for states, position in zip(rollouts.hidden, rollouts.position, strict=True)
    ]
    return np.asarray(rows, np.float32)


def thresholds(logits: Vector, rollouts: Rollouts) -> list[tuple[float, float]]:
    """Return quantiles of the exit logit [N, S - 1], most conservative first, and what each keeps on the rollouts.

    One for each of AGREEMENTS, if they differ; the calibration then measures what is kept.
    """
    right, is_asked = rollouts.right[:, :-1], np.isfinite(logits)
    if not is_asked.any():
        return []  # a gate that never opens here
    candidates = np.unique(np.quantile(logits[is_asked], np.linspace(1, 0, 400)))[::-1]
    kept = []
    for threshold in candidates:
        exits_here = logits > threshold
        kept.append(
            np.where(exits_here.any(axis=1), right[np.arange(len(right)), exits_here.argmax(axis=1)], True).mean()
        )
    shares = np.minimum.accumulate(kept)
    picked = {int(np.flatnonzero(shares >= wanted)[-1]) for wanted in AGREEMENTS if (shares >= wanted).any()}
    return [(float(candidates[i]), float(shares[i])) for i in sorted(picked)]


def grid(engine: Engine, rollouts: Rollouts, language: str) -> list[ThresholdCandidate]:
    """Return what to measure: agent, confidence, fixed exits, and the policies that are reported only."""
    spoken = np.asarray(rollouts.language) == LANGUAGES.index(language)
    chosen = spoken if spoken.any() else np.ones(len(rollouts), bool)
    rank = np.cumsum(chosen)
    rollouts = rollouts.select(chosen & (rank % max(1, rank[-1] // GRID_TOKENS) == 0))
    logits = {"confidence": np.asarray(rollouts.confidence)}
    for name in ("agent", "probe"):
        policy = engine.policies.get(name)
        if isinstance(policy, AgentPolicy | GatedPolicy):
            logits[name] = agent_logits(policy, rollouts, engine.exits)
    out = [
        ThresholdCandidate(name, threshold, 1 if kept >= CONSERVATIVE else SPARSE_EVERY)
        for name, policy_logits in logits.items()
        for threshold, kept in thresholds(policy_logits, rollouts)
    ]
    return [*out, *_without_thresholds(engine)]


def grid_again(engine: Engine, language: str) -> list[ThresholdCandidate]:
    """Return what to measure where the rollouts are not at hand: at the thresholds of the checkpoint's own table.

    Raises CorpusError where it has none.
    """
    tables = engine.manifest.calibration.get(language, {})
    if not tables:
        raise CorpusError(
            f"There are neither rollouts nor thresholds for {language}; run `python -m training rollout`."
        )
    out = [
        ThresholdCandidate(name, row.threshold, 1 if row.agreement >= CONSERVATIVE else SPARSE_EVERY)
        for name in ("confidence", "agent")
        for row in tables.get(name, ())
    ]
    return [*out, *_without_thresholds(engine)]


def _without_thresholds(engine: Engine) -> list[ThresholdCandidate]:
    """Return fixed exits, full depth and the oracle."""
    fixed = [ThresholdCandidate("fixed", exit_layer - 0.5, SPARSE_EVERY) for exit_layer in reversed(engine.exits[:-1])]
    return [*fixed, ThresholdCandidate("never", 0.0), ThresholdCandidate(ORACLE, 0.0)]


def measure(
    loaded: LoadedCheckpoint, position: SourcePosition, index: int, candidates: Sequence[ThresholdCandidate]
) -> dict[str, Any]:
    """Return one cursor's record: FIGURES per candidate (None where left out), and what the check found.

    On each SPARSE_EVERY-th also what every candidate costs as the drafter of self-speculative decoding, `verified`.
    """
    served, tree = loaded.tree(position)
    reference = position.rest_of_line.rstrip()
    rng = random.Random(index)
    is_checked = rng.random() < CHECKED_PROMPTS
    figures: list[list[float] | None] = []
    checks: dict[str, Any] = {"pairs": 0, "mismatches": []}
    for candidate in candidates:
        if index % candidate.every:
            figures.append(None)
            continue
        config = candidate.config(copies=True)
        completion = tree.serve(served, config)
        scores = line_scores(served.first_line(completion.token_ids), reference, position.language)
        figures.append([*_figures(completion, loaded.engine.layers), *scores, completion.shown_agreement])
        if is_checked and candidate.policy != ORACLE and rng.random() < CHECKED_ROWS:
            checks["pairs"] += 1
            steps = emit_served(loaded.engine, served, replace(config, batch_invariant=True))
            if tuple(steps) != completion.steps:
                gap = tree.margin(config, completion.token_ids, served.constraint)
                checks["mismatches"].append({**asdict(candidate), "cursor": index, "gap": gap})
    drafts = [] if index % SPARSE_EVERY else [_verified(served, tree, candidate) for candidate in candidates]
    return {"cursor": index, "figures": figures, "verified": drafts, "checks": checks}


def _verified(served: Served, tree: Tree, candidate: ThresholdCandidate) -> tuple[float, float]:
    """Return the layer-equivalents of the lossless completion that drafts by this row, and those at full depth."""
    if candidate.policy not in DRAFTERS:
        return 0.0, 0.0
    work = tree.serve(served, candidate.config(self_speculative=True)).work
    return work.layer_equivalents, work.full_depth_layer_equivalents


def _figures(completion: ReplayedCompletion, layers: int) -> list[float]:
    exits = [step.exit_layer for step in completion.steps]
    work = completion.work
    early = sum(exit_layer < layers for exit_layer in exits)
    equivalents = (work.layer_equivalents, work.full_depth_layer_equivalents)
    return [completion.agreement, len(exits), sum(exits), early, *equivalents]


def tables_of(records: Sequence[dict[str, Any]], candidates: Sequence[ThresholdCandidate]) -> Tables:
    """Return the rows per policy. One that is more aggressive than another and no cheaper is left out."""
    tables: dict[str, tuple[CalibrationRow, ...]] = {}
    for policy in dict.fromkeys(candidate.policy for candidate in candidates):
        tried = [(i, candidate.threshold) for i, candidate in enumerate(candidates) if candidate.policy == policy]
        measured = [
            np.asarray([record["figures"][i] for record in records if record["figures"][i] is not None], np.float64)
            for i, _ in tried
        ]
        if not all(len(rows) for rows in measured):
            continue
        delta = DELTA / len(SERVED)
        bounds = np.min([fixed_sequence([_losses(rows, n) for rows in measured], delta) for n in PROMISED], axis=0)
        rows = [_row(t, figures, bound) for (_, t), figures, bound in zip(tried, measured, bounds, strict=True)]
        rows = [
            replace(row, verified_ratio=_verified_ratio(records, i)) for row, (i, _) in zip(rows, tried, strict=True)
        ]
        shares = np.minimum.accumulate(
            [row.agreement for row in rows]
        )  # a more aggressive row is not better: that is luck
        rows = [replace(row, agreement=float(share)) for row, share in zip(rows, shares, strict=True)]
        tables[policy] = _cheaper_and_cheaper(rows)
    return tables


def _losses(figures: Floats, name: str) -> Floats:
    """Return the losses [n] of completions of which anything is shown; without one nothing is proven."""
    shares = figures[:, FIGURES.index(name)]
    return 1 - shares[np.isfinite(shares)] if np.isfinite(shares).any() else np.ones(1)


def _row(threshold: float, figures: Floats, bound: float) -> CalibrationRow:
    """Return the row of completions [n, len(FIGURES)]: means over completions, and over tokens of what each costs."""
    total = dict(zip(FIGURES, figures.sum(axis=0).tolist(), strict=True))
    mean = dict(zip(FIGURES, figures.mean(axis=0).tolist(), strict=True))
    return CalibrationRow(
        threshold=threshold,
        agreement=round(mean["agreement"], 4),
        agreement_lower_95=int(float(bound) * 10_000) / 10_000,  # rounded down: it is a promise
        mean_exit_layer=round(total["exit_layers"] / total["tokens"], 2),
        layer_equivalents_ratio=round(total["layer_equivalents"] / total["full_layer_equivalents"], 4),
        early_share=round(total["early"] / total["tokens"], 4),
        **{name: round(mean[name], 4) for name in ("exact_match", "edit_similarity", "rouge_l", "codebleu")},
        completions=len(figures),
        copies=True,
    )


def _verified_ratio(records: Sequence[dict[str, Any]], index: int) -> float | None:
    drafts = [record["verified"][index] for record in records if record.get("verified")]
    full = sum(at_full_depth for _, at_full_depth in drafts)
    return round(sum(cost for cost, _ in drafts) / full, 4) if full else None


def _cheaper_and_cheaper(rows: Sequence[CalibrationRow]) -> tuple[CalibrationRow, ...]:
    kept: list[CalibrationRow] = []
    for row in rows:
        if not kept or row.layer_equivalents_ratio < kept[-1].layer_equivalents_ratio:
            kept.append(row)
    return tuple(kept)


def expect_same(records: Sequence[dict[str, Any]]) -> None:
    """Raise AssertionError where the engine itself decoded otherwise than replay, near-ties apart."""
    mismatches = [mismatch for record in records for mismatch in record["checks"]["mismatches"]]
    wrong = [mismatch for mismatch in mismatches if mismatch["gap"] > NEAR_TIE]
    if wrong:
        raise AssertionError(f"Replay is not what is served: {len(wrong)} completions differ, the first is {wrong[0]}.")


def served(tables: Tables) -> Tables:
    """Return the tables of policies that a server can run."""
    return {policy: rows for policy, rows in tables.items() if policy not in REPORTED_ONLY}


def best_rows(tables: Tables) -> dict[str, CalibrationRow]:
    """Return each policy's cheapest row that is proven to keep what the default preference asks, where one is."""
    wanted = required_agreement(DEFAULT)
    proven = {p: [row for row in rows if row.agreement_lower_95 >= wanted] for p, rows in tables.items()}
    return {p: min(rows, key=lambda row: row.layer_equivalents_ratio) for p, rows in proven.items() if rows}


def winner(tables: Tables) -> str:
    """Return the policy that is cheapest at what the default preference asks, ties to the agent.

    Where no row is proven to keep that, the policy with the best bound: it still serves a lower preference, and drafts.
    `never` keeps everything, and wins only alone: without a language's exits it is served where it costs less anyway.
    """
    rows = {policy: of for policy, of in served(tables).items() if policy != "never"}
    if not rows:
        return "never"
    best = best_rows(rows)
    if best:
        return min(best, key=lambda policy: (best[policy].layer_equivalents_ratio, policy != "agent"))
    return max(rows, key=lambda p: (max(row.agreement_lower_95 for row in rows[p]), p == "agent"))


def notes_of(records: Sequence[dict[str, Any]], places: Sequence[SourcePosition], tables: Tables) -> dict[str, Any]:
    """Return what a language's table rests on: counts, the check against the engine, the policies compared."""
    best = best_rows(tables)
    return {
        "completions": len(records),
        "packages": sorted({place.package for place in places}),
        "checked_pairs": sum(record["checks"]["pairs"] for record in records),
        "mismatches": [mismatch for record in records for mismatch in record["checks"]["mismatches"]],
        "compared_at_agreement_lower_95": required_agreement(DEFAULT),
        "layer_equivalents_ratio": {policy: row.layer_equivalents_ratio for policy, row in best.items()},
        "reported_only": {p: [asdict(row) for row in tables[p]] for p in REPORTED_ONLY if p in tables},
    }


def to_text(tables: Tables) -> str:
    """Return one line per row, to be read on a terminal."""
    return "\n".join(
        f"{policy:>10} {row.threshold:8.3f}  agreement {row.agreement:.4f} (>= {row.agreement_lower_95:.4f})"
        f"  mean exit layer {row.mean_exit_layer:5.2f}  ratio {row.layer_equivalents_ratio:.3f}"
        f"  early {row.early_share:.2f}  exact {row.exact_match:.3f}  edit {row.edit_similarity:.3f}"
        for policy, rows in tables.items()
        for row in rows
    )

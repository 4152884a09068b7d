"""From the user's preference to how much is spent: exits, through the calibration table, and everything around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

from greencode_lsp.guarantee import cheapest
from greencode_lsp.models.manifest import CalibrationRow, Manifest
from greencode_lsp.records import NEVER, DecodeConfig
from greencode_lsp.setting_kinds import PREFERENCES
from greencode_lsp.settings import Settings

Choose = Callable[[Sequence[CalibrationRow], float], CalibrationRow | None]
"""Which of a policy's rows serves an agreement that is asked for."""

SHORTLIST = "shortlist"
"""The policy that saves at the LM head alone: every token runs all layers."""
WITHOUT_EXITS = ("never", SHORTLIST)
LOSSLESS = 1.0
"""The preference at which every early token is checked at full depth."""
DEFAULT = 0.5
REQUIRED_AGREEMENT = ((0.0, 0.88), (DEFAULT, 0.98), (LOSSLESS, 1.0))
"""(preference, smallest share of tokens that must equal the full model's); linear in between.

It is compared with a row's lower 95 % bound, so that what is asked for is kept with that confidence, on code of
the calibration packages.
"""
EARLY_DRAFTS_WORTH = 0.02
"""What drafts from early exits must save beyond those copied from the text: drafting takes time of its own."""
DRAFT_AGREEMENT = 0.88
"""The agreement asked of drafts where the table does not say what self-speculative decoding costs."""


@dataclass(frozen=True, slots=True)
class CompletionBudget:
    """What a preference spends around the exits. Automatic requests alone are held to it."""

    text_right: float
    """Characters that may stand to the right of the cursor, blanks and closers left out."""
    rejections: float
    """After so many suggestions rejected in a row, nothing is suggested until the cursor is on another line."""
    min_confidence: float
    """A line whose tokens' probabilities multiply to less than this is ended before the doubtful token."""
    debounce: float
    """How long to wait after a change, as a share of the mean time between the user's keystrokes."""
    new_tokens: float
    """Share of `greencode.maxNewTokens`."""


BUDGETS = (
    (0.0, CompletionBudget(text_right=0, rejections=2, min_confidence=0.15, debounce=1.0, new_tokens=0.5)),
    (DEFAULT, CompletionBudget(text_right=8, rejections=3, min_confidence=0.10, debounce=0.5, new_tokens=1.0)),
    (LOSSLESS, CompletionBudget(text_right=80, rejections=8, min_confidence=0.02, debounce=0.0, new_tokens=1.0)),
)
"""(preference, what it spends); linear in between.

Confidence of mini-2 at 500 cursors in the standard library: at 0.10 a third of the tokens is computed and 80 % of the
characters that are right are still shown; of what is shown, 45 % of the characters are right instead of 11 %.
"""


def completion_budget(preference: float) -> CompletionBudget:
    """Return what a preference in 0..1 spends around the exits."""
    (low, less), (high, more) = next(pair for pair in pairwise(BUDGETS) if preference <= pair[1][0])
    names = [one.name for one in fields(CompletionBudget)]
    return CompletionBudget(
        **{n: _between(preference, (low, getattr(less, n)), (high, getattr(more, n))) for n in names}
    )


def stopping(config: DecodeConfig, preference: float) -> DecodeConfig:
    """Return the configuration with the rule that ends an automatic completion early at a preference in 0..1."""
    threshold = -math.log(completion_budget(preference).min_confidence)
    return replace(config, stop="confidence", stop_threshold=threshold, preference=preference)


def required_agreement(preference: float) -> float:
    """Return the share of tokens that must equal the full model's at a preference in 0..1."""
    lower, upper = next(pair for pair in pairwise(REQUIRED_AGREEMENT) if preference <= pair[1][0])
    return _between(preference, lower, upper)


def _between(at: float, lower: tuple[float, float], upper: tuple[float, float]) -> float:
    (low, low_value), (high, high_value) = lower, upper
    return low_value + (high_value - low_value) * (at - low) / (high - low)


def wanted_agreement(settings: Settings) -> float:
    """Return the agreement asked for: the one stated, else the preference's."""
    stated = settings.min_agreement
    return required_agreement(settings.preference) if stated is None else stated


def decode_config(settings: Settings, manifest: Manifest, language: str, choose: Choose = cheapest) -> DecodeConfig:
    """Return the configuration that keeps what the preference asks for: the cheapest, unless `choose` knows better.

    Where no threshold of the language is proven to keep it, and with `auto` where that costs no more than the threshold
    does, every token is the full model's: self-speculative, or with copies, or one at a time, whichever is the
    cheapest. At preference 1 it is lossless to the bit where the arithmetic can be (I4).
    """
    if settings.exit_policy == "never":
        return DecodeConfig()
    full, ratio = _full_depth(settings, manifest, language)
    row = _proven(settings, manifest, language)
    if row is None or (settings.exit_policy == "auto" and ratio <= row.layer_equivalents_ratio):
        return full
    row = _proven(settings, manifest, language, choose)
    if row is None:
        return full
    policy = _policy(settings, manifest, language)
    threshold = NEVER if policy in WITHOUT_EXITS else row.threshold
    shortlist = NEVER if row.shortlist is None else row.shortlist
    return DecodeConfig(policy, threshold, copies=row.copies, shortlist=shortlist)


def fallback_reason(settings: Settings, manifest: Manifest, language: str) -> str | None:
    """Return one sentence for the user where full depth stands in for a threshold that nothing proves, else None."""
    policy = _policy(settings, manifest, language)
    rows = _rows(manifest, language, policy)
    if wanted_agreement(settings) >= LOSSLESS or policy == "never" or not rows or _proven(settings, manifest, language):
        return None
    if not manifest.calibration.get(language, {}).get(policy):
        return f"{manifest.name} is not calibrated for {language}; every token is the full model's."
    share = wanted_agreement(settings)
    return (
        f"No calibrated threshold of {manifest.name} is proven to keep {share:.3g} of the full model's tokens in "
        f"{language}; every token is the full model's instead. Lower "
        f"greencode.{'preference' if settings.min_agreement is None else 'minAgreement'} to save more."
    )


def _policy(settings: Settings, manifest: Manifest, language: str) -> str:
    won = manifest.exit_policies.get(language, manifest.exit_policy)
    return won if settings.exit_policy == "auto" else settings.exit_policy


def _proven(settings: Settings, manifest: Manifest, language: str, choose: Choose = cheapest) -> CalibrationRow | None:
    """Return the language's row that keeps what a lossy preference asks for: another's proves nothing.

    A row that saves nothing serves only where its policy is asked for by name.
    """
    wanted = wanted_agreement(settings)
    if wanted >= LOSSLESS:
        return None
    rows = manifest.calibration.get(language, {}).get(_policy(settings, manifest, language), ())
    if settings.exit_policy == "auto":
        rows = tuple(row for row in rows if row.layer_equivalents_ratio < 1)
    return choose(rows, wanted)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a named preference costs and keeps, for a menu."""

    name: str
    preference: float
    cost_ratio: float
    """Decode cost against full depth, in layer-equivalents; from the calibration table."""
    agreement: float
    """Share of the full model's tokens that is proven to be kept."""


def choices(settings: Settings, manifest: Manifest, language: str) -> tuple[Choice, ...]:
    """Return the named preferences as they stand for a language."""
    options = []
    for name, preference in PREFERENCES.items():
        asked = replace(settings, preference=preference, min_agreement=None)
        row, config = _proven(asked, manifest, language), decode_config(asked, manifest, language)
        full, ratio = _full_depth(asked, manifest, language)
        if row is not None and config != full:
            options.append(Choice(name, preference, row.layer_equivalents_ratio, row.agreement_lower_95))
        else:
            is_measured = settings.exit_policy != "never" and math.isfinite(ratio)
            options.append(Choice(name, preference, ratio if is_measured else 1.0, 1.0))
    return tuple(options)


def _full_depth(settings: Settings, manifest: Manifest, language: str) -> tuple[DecodeConfig, float]:
    """Return how every token is best had from the full model, and its cost; infinite where it was not measured."""
    policy = _policy(settings, manifest, language)
    drafting = () if policy in WITHOUT_EXITS else _rows(manifest, language, policy)
    without_exits = _rows(manifest, language, "never")
    lossless, ratio = _lossless(policy, drafting, without_exits)
    if wanted_agreement(settings) >= LOSSLESS:
        return lossless, ratio
    copied = min((row.layer_equivalents_ratio for row in without_exits if row.copies), default=math.inf)
    # unmeasured, copying is still the better: the engine copies only as much as pays by this device's own times
    is_better = copied <= ratio if math.isfinite(copied) else lossless == DecodeConfig()
    return (DecodeConfig(copies=True), copied) if is_better else (lossless, ratio)


def _lossless(
    policy: str, rows: Sequence[CalibrationRow], copied: Sequence[CalibrationRow]
) -> tuple[DecodeConfig, float]:
    """Return self-speculative decoding by its cheapest row, or full depth where none saves anything, and its cost.

    `copied` is the row of drafts that are copied from the text alone. A cost that was not measured is infinite.
    """
    drafters = [*((policy, row) for row in rows), *(("never", row) for row in copied)]
    measured = [
        (row.verified_ratio + (name != "never") * EARLY_DRAFTS_WORTH, row.verified_ratio, name, row.threshold)
        for name, row in drafters
        if row.verified_ratio is not None
    ]
    if measured:
        worth, ratio, name, threshold = min(measured)
        if worth >= 1:
            return DecodeConfig(), 1.0
        return DecodeConfig(name, NEVER if name == "never" else threshold, self_speculative=True), ratio
    if not rows:
        return DecodeConfig(), math.inf  # no token exits early: there is nothing to draft by
    draft = cheapest(rows, DRAFT_AGREEMENT) or max(rows, key=lambda row: row.agreement_lower_95)
    return DecodeConfig(policy, draft.threshold, self_speculative=True), math.inf


def _rows(manifest: Manifest, language: str, policy: str) -> Sequence[CalibrationRow]:
    """Return the policy's rows for the language, else another's: good enough to draft by."""
    for name in (language, *manifest.calibration):
        rows = manifest.calibration.get(name, {}).get(policy)
        if rows:
            return rows
    return ()

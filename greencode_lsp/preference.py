"""From the user's preference to a decode configuration, through the checkpoint's calibration table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from greencode_lsp.models.manifest import CalibrationRow, Manifest
from greencode_lsp.records import DecodeConfig
from greencode_lsp.settings import Settings

LOSSLESS = 1.0
"""The preference at which every early token is verified at full depth."""
DEFAULT = 0.5
REQUIRED_AGREEMENT = ((0.0, 0.88), (DEFAULT, 0.98), (LOSSLESS, 1.0))
"""(preference, smallest share of tokens that must equal the full model's); linear in between.

It is compared with a row's lower 95 % bound, so that what is asked for is kept with that confidence, on code of
the calibration packages.
"""
EARLY_DRAFTS_WORTH = 0.02
"""What drafts that left early must save beyond those copied from the text: drafting takes time of its own."""
DRAFT_AGREEMENT = 0.88
"""A verified draft may be as bold as this where the table does not say what verified drafts cost."""


def required_agreement(preference: float) -> float:
    """Return the share of tokens that must equal the full model's at a preference in 0..1."""
    for (low, low_share), (high, high_share) in pairwise(REQUIRED_AGREEMENT):
        if preference <= high:
            return low_share + (high_share - low_share) * (preference - low) / (high - low)
    return REQUIRED_AGREEMENT[-1][1]


def decode_config(settings: Settings, manifest: Manifest, language: str) -> DecodeConfig:
    """Return the cheapest configuration that keeps what the preference asks for.

    Lossless at preference 1 and where no threshold calibrated for the language is careful enough: verified, or full
    depth for every token where that is the cheaper, or the checkpoint has no table for the policy.
    """
    policy = _policy(settings, manifest)
    rows = _rows(manifest, language, policy)
    if policy == "never" or not rows:
        return DecodeConfig()
    row = _proven(settings, manifest, language)
    if row is None:
        return _lossless(policy, rows, _rows(manifest, language, "never"))
    return DecodeConfig(policy, row.threshold)


def fallback_reason(settings: Settings, manifest: Manifest, language: str) -> str | None:
    """Return one sentence for the user where full depth stands in for a threshold that nothing proves, else None."""
    policy = _policy(settings, manifest)
    rows = _rows(manifest, language, policy)
    if settings.preference >= LOSSLESS or policy == "never" or not rows or _proven(settings, manifest, language):
        return None
    if not manifest.calibration.get(language, {}).get(policy):
        return f"{manifest.name} is not calibrated for {language}; every token is the full model's."
    share = required_agreement(settings.preference)
    return (
        f"No calibrated threshold of {manifest.name} is proven to keep {share:.3g} of the full model's tokens in "
        f"{language}; every token is the full model's instead. Lower greencode.preference to save more."
    )


def _policy(settings: Settings, manifest: Manifest) -> str:
    return manifest.exit_policy if settings.exit_policy == "auto" else settings.exit_policy


def _proven(settings: Settings, manifest: Manifest, language: str) -> CalibrationRow | None:
    """Return the language's cheapest row that keeps what a lossy preference asks for: another's proves nothing."""
    if settings.preference >= LOSSLESS:
        return None
    rows = manifest.calibration.get(language, {}).get(_policy(settings, manifest), ())
    return _cheapest(rows, required_agreement(settings.preference))


def _lossless(policy: str, rows: Sequence[CalibrationRow], copied: Sequence[CalibrationRow]) -> DecodeConfig:
    """Return verified drafts by the row that makes them cheapest, or full depth where none saves anything.

    `copied` is the row of drafts that are copied from the text alone.
    """
    found = [*((policy, row) for row in rows), *(("never", row) for row in copied)]
    measured = [
        (row.verified_ratio + (name != "never") * EARLY_DRAFTS_WORTH, name, row.threshold)
        for name, row in found
        if row.verified_ratio is not None
    ]
    if measured:
        ratio, name, threshold = min(measured)
        return DecodeConfig(name, threshold, verified=True) if ratio < 1 else DecodeConfig()
    draft = _cheapest(rows, DRAFT_AGREEMENT) or max(rows, key=lambda row: row.agreement_lower_95)
    return DecodeConfig(policy, draft.threshold, verified=True)


def _rows(manifest: Manifest, language: str, policy: str) -> Sequence[CalibrationRow]:
    """Return the policy's rows for the language, else another's: good enough to draft by."""
    for name in (language, *manifest.calibration):
        rows = manifest.calibration.get(name, {}).get(policy)
        if rows:
            return rows
    return ()


def _cheapest(rows: Sequence[CalibrationRow], agreement: float) -> CalibrationRow | None:
    qualifying = [row for row in rows if row.agreement_lower_95 >= agreement]
    return min(qualifying, key=lambda row: row.layer_equivalents_ratio, default=None)

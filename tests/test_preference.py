"""Preference: how careful, and the cheapest threshold that is proven careful enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from greencode_lsp.models.manifest import Manifest
from greencode_lsp.preference import choices, decode_config, fallback_reason, required_agreement
from greencode_lsp.records import DecodeConfig
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, ROWS

NOTHING_PROVEN = replace(MANIFEST, calibration={"python": {"agent": ROWS[2:]}})


@pytest.mark.parametrize(
    ("preference", "agreement"), [(0.0, 0.88), (0.25, 0.93), (0.5, 0.98), (0.75, 0.99), (1.0, 1.0)]
)
def test_the_agreement_asked_for_is_linear_between_the_named_preferences(preference: float, agreement: float) -> None:
    assert required_agreement(preference) == pytest.approx(agreement)


@pytest.mark.parametrize(
    ("preference", "expected"),
    [
        (0.0, DecodeConfig("agent", -1.0)),
        (0.5, DecodeConfig("agent", 1.0)),
        (0.7, DecodeConfig("agent", 3.0)),
        (0.99, DecodeConfig("agent", -1.0, self_speculative=True)),
        (1.0, DecodeConfig("agent", -1.0, self_speculative=True)),
    ],
    ids=["energy", "balanced", "more careful", "more careful than any row", "accuracy"],
)
def test_the_cheapest_conservative_row_decides_and_verification_stands_in_where_there_is_none(
    preference: float, expected: DecodeConfig
) -> None:
    assert decode_config(Settings(preference=preference), MANIFEST, "python") == expected


def test_the_proven_bound_decides_and_not_the_share_that_was_measured() -> None:
    lucky = replace(ROWS[1], agreement=0.999, agreement_lower_95=0.97)
    manifest = replace(MANIFEST, calibration={"python": {"agent": (ROWS[0], lucky)}})
    assert decode_config(Settings(0.5), manifest, "python") == DecodeConfig("agent", ROWS[0].threshold)


def test_cheapest_is_by_cost_not_by_threshold() -> None:
    dear_but_bold = replace(ROWS[2], threshold=9.0, layer_equivalents_ratio=0.99)
    manifest = replace(MANIFEST, calibration={"python": {"agent": (*ROWS, dear_but_bold)}})
    assert decode_config(Settings(0.0), manifest, "python").threshold == -1.0


def test_a_language_without_a_table_is_promised_nothing_and_drafts_by_another() -> None:
    assert decode_config(Settings(0.0), MANIFEST, "rust") == DecodeConfig("agent", -1.0, self_speculative=True)
    assert "rust" in (fallback_reason(Settings(0.0), MANIFEST, "rust") or "")


PLAIN = Manifest("plain", "llama", (4,))


@pytest.mark.parametrize(
    ("manifest", "settings"),
    [
        (PLAIN, Settings(0.0)),
        (replace(MANIFEST, exit_policy="never"), Settings(0.0)),
        (MANIFEST, Settings(0.0, exit_policy="confidence")),
    ],
    ids=["no table", "never won", "no rows for the policy"],
)
def test_the_full_models_tokens_and_copies_where_nothing_is_calibrated(manifest: Manifest, settings: Settings) -> None:
    assert decode_config(settings, manifest, "python") == DecodeConfig(copies=True)


@pytest.mark.parametrize(
    ("manifest", "settings"),
    [(PLAIN, Settings(1.0)), (MANIFEST, Settings(0.0, exit_policy="never"))],
    ids=["accuracy that nothing measured", "never asked for"],
)
def test_one_token_at_a_time_at_full_depth(manifest: Manifest, settings: Settings) -> None:
    assert decode_config(settings, manifest, "python") == DecodeConfig()


def test_a_row_is_served_with_copies_where_it_was_measured_with_them() -> None:
    copied = tuple(replace(row, copies=True) for row in ROWS)
    manifest = replace(MANIFEST, calibration={"python": {"agent": copied}})
    assert decode_config(Settings(0.5), manifest, "python") == DecodeConfig("agent", 1.0, copies=True)


@pytest.mark.parametrize(("ratio", "expected"), [(0.7, DecodeConfig(copies=True)), (0.9, DecodeConfig("agent", 1.0))])
def test_auto_copies_without_exits_where_that_costs_no_more(ratio: float, expected: DecodeConfig) -> None:
    never = replace(ROWS[0], threshold=0.0, layer_equivalents_ratio=ratio, copies=True)
    manifest = replace(MANIFEST, calibration={"python": {"agent": ROWS, "never": (never,)}})
    assert decode_config(Settings(0.5), manifest, "python") == expected


def test_copies_measured_in_another_language_serve_one_without_a_table() -> None:
    never = replace(ROWS[0], threshold=0.0, layer_equivalents_ratio=0.7, copies=True)
    manifest = replace(MANIFEST, calibration={"python": {"agent": ROWS, "never": (never,)}})
    assert decode_config(Settings(0.5), manifest, "rust") == DecodeConfig(copies=True)


def test_the_policy_of_the_settings_chooses_its_own_rows() -> None:
    fixed = (replace(ROWS[0], threshold=2.0),)
    manifest = replace(MANIFEST, calibration={"python": {"agent": ROWS, "fixed": fixed}})
    assert decode_config(Settings(0.5, exit_policy="fixed"), manifest, "python") == DecodeConfig("fixed", 2.0)


def test_auto_is_the_policy_that_won_in_the_language() -> None:
    fixed = (replace(ROWS[0], threshold=2.0),)
    tables = {"agent": ROWS, "fixed": fixed}
    manifest = replace(MANIFEST, calibration={"python": tables, "java": tables}, exit_policies={"java": "fixed"})
    policies = [decode_config(Settings(0.5), manifest, language).policy for language in ("python", "java")]
    assert policies == [MANIFEST.exit_policy, "fixed"]


def test_the_user_is_reported_when_verification_stands_in() -> None:
    reason = fallback_reason(Settings(0.5), NOTHING_PROVEN, "python")
    assert reason is not None
    assert "0.98" in reason and "the full model's instead" in reason


@pytest.mark.parametrize(
    ("preference", "manifest"),
    [(0.5, MANIFEST), (1.0, NOTHING_PROVEN), (0.5, Manifest("plain", "llama", (4,)))],
    ids=["a row is proven", "verification was asked for", "nothing is calibrated"],
)
def test_nothing_is_said_where_nothing_stands_in(preference: float, manifest: Manifest) -> None:
    assert fallback_reason(Settings(preference=preference), manifest, "python") is None


def test_lossless_drafts_by_the_row_that_makes_them_cheapest() -> None:
    rows = tuple(replace(row, verified_ratio=ratio) for row, ratio in zip(ROWS, (0.97, 0.93, 0.99, 1.3), strict=True))
    manifest = replace(MANIFEST, calibration={"python": {"agent": rows}})
    assert decode_config(Settings(1.0), manifest, "python") == DecodeConfig(
        "agent", ROWS[1].threshold, self_speculative=True
    )


def test_lossless_is_plain_full_depth_where_verification_costs_more() -> None:
    rows = tuple(replace(row, verified_ratio=1.05) for row in ROWS[2:])
    manifest = replace(MANIFEST, calibration={"python": {"agent": rows}})
    assert decode_config(Settings(1.0), manifest, "python") == DecodeConfig()
    assert fallback_reason(Settings(0.5), manifest, "python") is not None


def test_auto_loses_nothing_where_that_costs_no_more_than_exits() -> None:
    rows = tuple(replace(row, verified_ratio=0.1) for row in ROWS)
    manifest = replace(MANIFEST, calibration={"python": {"agent": rows}})
    assert decode_config(Settings(0.5), manifest, "python").self_speculative
    balanced = choices(Settings(), manifest, "python")[1]
    assert balanced.cost_ratio == pytest.approx(0.1)
    assert balanced.agreement == 1.0


def test_a_policy_asked_for_by_name_exits_whatever_lossless_costs() -> None:
    rows = tuple(replace(row, verified_ratio=0.1) for row in ROWS)
    manifest = replace(MANIFEST, calibration={"python": {"agent": rows}})
    assert decode_config(Settings(0.5, exit_policy="agent"), manifest, "python") == DecodeConfig("agent", 1.0)


def test_auto_takes_no_exits_that_cost_more_than_full_depth() -> None:
    manifest = replace(MANIFEST, calibration={"python": {"agent": (replace(ROWS[1], layer_equivalents_ratio=1.1),)}})
    assert decode_config(Settings(0.5), manifest, "python").self_speculative
    assert decode_config(Settings(0.5, exit_policy="agent"), manifest, "python") == DecodeConfig("agent", 1.0)


def test_copied_drafts_serve_where_no_policy_won() -> None:
    never = (replace(ROWS[0], threshold=0.0, layer_equivalents_ratio=1.0, verified_ratio=0.8),)
    manifest = replace(MANIFEST, exit_policy="never", calibration={"python": {"never": never}})
    assert decode_config(Settings(0.5), manifest, "python") == DecodeConfig(self_speculative=True)
    assert decode_config(Settings(0.5, exit_policy="never"), manifest, "python") == DecodeConfig()

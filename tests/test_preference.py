"""Preference: how careful, and the cheapest threshold that is careful enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from greencode_lsp.models.manifest import Manifest
from greencode_lsp.preference import decode_config, required_agreement
from greencode_lsp.records import DecodeConfig
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, ROWS


@pytest.mark.parametrize(
    ("preference", "agreement"), [(0.0, 0.88), (0.25, 0.915), (0.5, 0.95), (0.75, 0.975), (1.0, 1.0)]
)
def test_the_agreement_asked_for_is_linear_between_the_named_preferences(preference: float, agreement: float) -> None:
    assert required_agreement(preference) == pytest.approx(agreement)


@pytest.mark.parametrize(
    ("preference", "expected"),
    [
        (0.0, DecodeConfig("agent", -1.0)),
        (0.5, DecodeConfig("agent", 1.0)),
        (0.9, DecodeConfig("agent", 3.0)),
        (0.99, DecodeConfig("agent", -1.0, verified=True)),
        (1.0, DecodeConfig("agent", -1.0, verified=True)),
    ],
    ids=["energy", "balanced", "more careful", "more careful than any row", "accuracy"],
)
def test_the_cheapest_careful_row_decides_and_verification_stands_in_where_there_is_none(
    preference: float, expected: DecodeConfig
) -> None:
    assert decode_config(Settings(preference), MANIFEST, "python") == expected


def test_cheapest_is_by_cost_not_by_boldness() -> None:
    dear_but_bold = replace(ROWS[2], threshold=9.0, layer_equivalents_ratio=0.99)
    manifest = replace(MANIFEST, calibration={"python": {"agent": (*ROWS, dear_but_bold)}})
    assert decode_config(Settings(0.0), manifest, "python").threshold == -1.0


def test_a_language_without_a_table_uses_the_first_one() -> None:
    assert decode_config(Settings(0.0), MANIFEST, "rust") == DecodeConfig("agent", -1.0)


@pytest.mark.parametrize(
    ("manifest", "settings"),
    [
        (Manifest("plain", "llama", (4,)), Settings(0.0)),
        (Manifest("plain", "llama", (4,)), Settings(1.0)),
        (replace(MANIFEST, exit_policy="never"), Settings(0.0)),
        (MANIFEST, Settings(0.0, exit_policy="confidence")),
        (MANIFEST, Settings(0.0, exit_policy="never")),
    ],
    ids=["no table", "no table, accuracy", "never won", "no rows for the policy", "never asked for"],
)
def test_full_depth_where_nothing_is_calibrated(manifest: Manifest, settings: Settings) -> None:
    assert decode_config(settings, manifest, "python") == DecodeConfig()


def test_the_policy_of_the_settings_chooses_its_own_rows() -> None:
    fixed = (replace(ROWS[0], threshold=2.0),)
    manifest = replace(MANIFEST, calibration={"python": {"agent": ROWS, "fixed": fixed}})
    assert decode_config(Settings(0.5, exit_policy="fixed"), manifest, "python") == DecodeConfig("fixed", 2.0)

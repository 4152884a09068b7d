"""A few hundred mutated model files; `python -m tests.fuzz.models` runs thousands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz.models import fuzz


@pytest.mark.skipif(os.name != "posix", reason="counts memory as POSIX does")
def test_a_mutated_model_is_served_or_refused(tmp_path: Path) -> None:
    outcomes, failures, _ = fuzz(first=0, count=60, home=tmp_path)
    assert failures == {}
    assert outcomes.total() == 60
    assert outcomes["ModelDamagedError"] > 10
    assert outcomes["served"] > 5

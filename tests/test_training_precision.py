"""What rounding loses is told against float32 on the very same ids."""

from __future__ import annotations

import math

import pytest

from tests import reference
from training.bench.precision import compare

TEXTS = [[i * seed % reference.VOCAB for i in range(1, 40)] for seed in (7, 11)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    return compare(reference.save(reference.llama(), tmp_path_factory.mktemp("model")), TEXTS)


def test_more_bits_keep_more_of_the_likeliest_tokens(found: dict[str, dict[str, float]]) -> None:
    assert found["float32"]["argmax_kept"] == 1.0
    assert found["int8"]["argmax_kept"] > found["int4"]["argmax_kept"]


def test_the_loss_is_that_of_the_text(found: dict[str, dict[str, float]]) -> None:
    import torch

    model = reference.llama()
    with torch.no_grad():
        losses = [float(model(torch.tensor([ids]), labels=torch.tensor([ids])).loss) for ids in TEXTS]
    assert math.isclose(found["float32"]["loss"], sum(losses) / len(losses), rel_tol=1e-4)

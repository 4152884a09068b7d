"""Exit heads on cached states: least squares finds a map that is there, distilling lowers the divergence it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from greencode_lsp.errors import CorpusError
from training.exits import fit
from training.exits.fit import (
    Data,
    Distiller,
    Reader,
    TrainableHead,
    agreement,
    divergence,
    least_squares,
    safe_threshold,
)

D, V, N = 16, 60, 400


@pytest.fixture
def reader() -> Reader:
    torch.manual_seed(0)
    return Reader(torch.rand(D) + 0.5, None, 1e-6, torch.randn(V, D))


def data(reader: Reader, seed: int) -> Data:
    """States whose final ones are some bent map of them."""
    torch.manual_seed(1)
    turn, bend = torch.randn(D, D), torch.randn(D, D)
    torch.manual_seed(seed)
    u = torch.nn.functional.rms_norm(torch.randn(N, D), (D,))
    final = reader.normalised(u @ turn.T + 4 * (u @ bend.T).relu())
    return Data(u, final, (final @ reader.head.T).topk(8).indices)


def distiller(reader: Reader) -> Distiller:
    return Distiller(reader, np.arange(8), np.arange(0, V, 2))


def test_least_squares_finds_the_map_that_is_there() -> None:
    torch.manual_seed(3)
    u, weight, bias = torch.randn(N, D), torch.randn(D, D), torch.randn(D)
    found = least_squares(u, u @ weight.T + bias)
    torch.testing.assert_close(found[0], weight, atol=0.02, rtol=0.02)
    torch.testing.assert_close(found[1], bias, atol=0.02, rtol=0.02)


def test_what_the_final_norm_undoes_is_aimed_at_before_it(reader: Reader) -> None:
    final = data(reader, 5).final
    torch.testing.assert_close(reader.normalised(reader.before_norm(final)), final, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["affine", "low-rank", "mlp"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_distilling_lowers_the_divergence_on_other_states(
    reader: Reader, kind: fit.Kind, direction: fit.Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "LEARNING_RATE", 3e-3)
    monkeypatch.setattr(fit, "BATCH", 64)
    monkeypatch.setattr(fit, "RANK", 4)
    train, validation = data(reader, 6), data(reader, 7)
    fits = distiller(reader)
    start = fits.fit(kind, "least squares", train, validation)
    done = fits.fit(kind, direction, train, validation)
    assert fits.loss(done, direction, validation) < fits.loss(start, direction, validation)


def test_the_head_that_did_best_on_other_states_is_kept(reader: Reader) -> None:
    """A learning rate that ruins the head leaves the start."""
    train, validation = data(reader, 6), data(reader, 7)
    fits = distiller(reader)
    start = fits.fit("affine", "least squares", train, validation)
    kept = fits.fit("affine", "forward", train, validation, learning_rate=100.0)
    np.testing.assert_array_equal(kept.tensors()["map.weight"], start.tensors()["map.weight"])


def test_states_that_are_no_numbers_end_the_fit(reader: Reader) -> None:
    train, validation = data(reader, 6), data(reader, 7)
    train.final[3, 3] = torch.nan
    with pytest.raises(CorpusError, match="no numbers"):
        distiller(reader).fit("affine", "forward", train, validation)


def test_no_divergence_is_left_where_both_say_the_same() -> None:
    logs = torch.randn(5, 9).log_softmax(-1)
    directions: tuple[fit.Direction, ...] = ("forward", "reverse")
    for direction in directions:
        assert abs(float(divergence(direction, logs, logs))) < 1e-6


def test_forward_divergence_minds_what_the_model_might_say_and_reverse_what_it_would_not() -> None:
    p = torch.tensor([[0.5, 0.499, 0.001]]).log()
    narrow, wide = torch.tensor([[0.98, 0.019, 0.001]]).log(), torch.tensor([[0.34, 0.33, 0.33]]).log()
    assert divergence("forward", p, narrow) > divergence("forward", p, wide)
    assert divergence("reverse", p, narrow) < divergence("reverse", p, wide)


def test_a_head_says_what_the_pack_says_of_it() -> None:
    head = TrainableHead("mlp", D)
    assert set(head.tensors()) == {"map.weight", "map.bias", "down.weight", "down.bias", "up.weight"}
    assert set(TrainableHead("low-rank", D).tensors()) == {"down.weight", "up.weight", "up.bias"}


def test_the_safe_threshold_lets_out_as_many_as_are_right_often_enough() -> None:
    odds = np.array([5.0, 4.0, 3.0, 2.0, 1.0], np.float32)
    right = np.array([True, True, False, True, False])
    assert safe_threshold(odds, right, 0.75) == 2.0
    assert safe_threshold(odds, np.zeros(5, bool), 0.75) == np.inf


def test_agreement_is_of_judged_states_at_a_threshold_chosen_elsewhere() -> None:
    odds, right = np.array([3.0, 2.0, 1.0], np.float32), np.array([True, False, True])
    found = agreement((odds, np.array([True, True, False])), (odds, right), 0.9)
    assert (found.threshold, found.safe_precision) == (2.0, 0.5)
    assert found.safe_share == pytest.approx(2 / 3)

"""Loss schedules: the paper's tables by hand, and what each schedule trains at a step."""

from __future__ import annotations

from collections import Counter

import pytest

from greencode_lsp.errors import CorpusError
from training.lm.schedules import Term, build, paper_weights

LLAMA_3B = [4, 6, 8, 10, 12, 14, 18, 22, 26, 28]
OPT_2_7B = [4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32]


def test_the_papers_weights_for_llama() -> None:
    table = [0.149, 0.135, 0.121, 0.109, 0.098, 0.088, 0.074, 0.066, 0.060, 0.100]
    assert paper_weights(LLAMA_3B) == pytest.approx(table, abs=6e-4)


def test_the_papers_weights_for_opt() -> None:
    table = [0.134, 0.121, 0.109, 0.098, 0.088, 0.079, 0.071, 0.074, 0.066, 0.060, 0.100]
    assert paper_weights(OPT_2_7B) == pytest.approx(table, abs=6e-4)


def test_the_papers_weights_of_two_exits_by_hand() -> None:
    assert paper_weights([2, 4]) == pytest.approx((0.7 / 0.8, 0.1 / 0.8))


@pytest.mark.parametrize("exits", [LLAMA_3B, OPT_2_7B, [2, 4, 6], [5, 6], [6]])
def test_the_papers_weights_sum_to_one(exits: list[int]) -> None:
    assert sum(paper_weights(exits)) == pytest.approx(1.0)


def test_paper_trains_every_exit_at_every_step_on_labels_alone() -> None:
    terms = build("paper", LLAMA_3B, 0.4, 4).terms(7)
    assert [term.exit_layer for term in terms] == LLAMA_3B
    assert all(term.distilled == 0 and term.stride == 1 for term in terms)


def test_uniform_weighs_all_exits_alike() -> None:
    assert [term.weight for term in build("uniform", [1, 2, 3, 4], 0.4, 4).terms(0)] == [0.25] * 4


def test_plain_trains_the_last_layer_alone() -> None:
    terms = build("plain", LLAMA_3B, 0.4, 4).terms(3)
    assert [(term.exit_layer, term.weight) for term in terms] == [(28, 1.0)]


def test_protect_trains_one_early_exit_per_step_and_the_last_layer_with_weight_one() -> None:
    for step in range(50):
        early, last = build("protect", LLAMA_3B, 0.4, 4).terms(step)
        assert early.exit_layer in LLAMA_3B[:-1]
        assert (last.exit_layer, last.weight, last.distilled, last.stride) == (28, 1.0, 0.0, 1)
        assert early.weight == pytest.approx(0.4)
        assert (early.distilled, early.stride) == (0.5, 4)


def test_protect_all_trains_every_early_exit_equally_at_every_step() -> None:
    *early, last = build("protect-all", [2, 4, 6, 8], 0.6, 4).terms(7)
    assert [(term.exit_layer, term.distilled, term.stride) for term in early] == [(n, 0.5, 4) for n in (2, 4, 6)]
    assert [term.weight for term in early] == pytest.approx([0.2] * 3)
    assert last == Term(8, 1.0)


def test_protect_draws_exits_as_often_as_the_paper_weighs_them() -> None:
    schedule = build("protect", LLAMA_3B, 0.4, 4)
    drawn = Counter(schedule.terms(step)[0].exit_layer for step in range(20_000))
    for exit_layer, weight in zip(LLAMA_3B, paper_weights(LLAMA_3B)[:-1], strict=False):
        assert drawn[exit_layer] / 20_000 == pytest.approx(weight / 0.9, abs=0.01)


def test_a_model_without_early_exits_trains_its_last_layer_under_protect() -> None:
    assert [term.exit_layer for term in build("protect", [6], 0.4, 4).terms(0)] == [6]


def test_an_unknown_schedule_is_one_sentence() -> None:
    with pytest.raises(CorpusError, match="paper, uniform, protect, protect-all, protect-mapped, plain"):
        build("linear", [2, 4], 0.4, 4)

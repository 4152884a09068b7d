"""Early exits through maps of their own: what they move and what not, how they begin, that a run resumes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from greencode_lsp.errors import CorpusError
from tests import reference
from tests import training_toy as toy
from tests.test_training_lite import equal, stop_after, trained
from tests.test_training_lite_loss import IDS
from training.lm import exit_maps
from training.lm.exit_maps import ExitMaps
from training.lm.families import exit_states
from training.lm.lite import train
from training.lm.lite_loss import LiteModel
from training.lm.schedules import build


def mapped(model: Any, weight: float = 0.5) -> LiteModel:
    """Return the training step of a model whose exit after two layers speaks through a map."""
    return LiteModel(model, build("protect-mapped", [2, 4], weight, 1), maps=ExitMaps([2], model.config.hidden_size))


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_mapped_exit_moves_its_map_and_the_layers_below_and_nothing_that_the_last_layer_reads(is_tied: bool) -> None:
    """A tied head alone, as the embedding: by what enters the layers."""
    model = reference.llama(tie_word_embeddings=is_tied)
    objective, plain = mapped(model), LiteModel(model, build("plain", [2, 4], 0.5, 1))
    assert objective.maps is not None
    layers = model.model.layers
    asked = [layers[0].mlp.up_proj.weight, layers[3].mlp.up_proj.weight, model.model.norm.weight, model.lm_head.weight]
    ours, theirs = (torch.autograd.grad(o(IDS, 0), asked) for o in (objective, plain))
    equal = [torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True)]
    assert equal == [False, True, True, not is_tied]
    (moved,) = torch.autograd.grad(objective(IDS, 0), [next(objective.maps.parameters())])
    assert moved.abs().max() > 0


def test_protect_mapped_is_the_formula_of_its_description() -> None:
    model = reference.llama()
    objective = mapped(model)
    assert objective.maps is not None
    early, last = (s[0] for s in exit_states(model, IDS[:, :-1], [2, 4]))
    said, full = (F.linear(state, model.lm_head.weight) for state in (objective.maps(2, early), last))
    labels, target = IDS[0, 1:], torch.softmax(full, -1).detach()
    distilled = -(target * torch.log_softmax(said, -1)).sum(-1).mean()
    expected = F.cross_entropy(full, labels) + 0.5 * 0.5 * (F.cross_entropy(said, labels) + distilled)
    assert torch.allclose(objective(IDS, 0), expected, atol=1e-5)


def test_maps_begin_with_what_the_states_tell_of_the_last_layers() -> None:
    model, maps = reference.llama(), ExitMaps([3], 64)
    rows = torch.randint(reference.VOCAB, (16, 33)).numpy()
    early, last = (s[0] for s in exit_states(model, IDS[:, :-1], [3, 4]))
    before = (maps(3, early) - last).square().mean()
    exit_maps.begin(maps, model, rows)
    assert (maps(3, early) - last).square().mean() < 0.5 * before


def test_a_run_with_maps_resumes_exactly_and_begins_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = toy.preset(schedule="protect-mapped")
    whole = trained(tmp_path / "whole", recipe)
    with monkeypatch.context() as patch:
        stop_after(patch, 10)
        assert not equal(trained(tmp_path / "parts", recipe), whole)
    monkeypatch.setattr(exit_maps, "begin", lambda *_: pytest.fail("begun again"))
    assert equal(trained(tmp_path / "parts", recipe), whole)


def test_rows_that_are_not_there_are_one_sentence_before_maps_are_begun(tmp_path: Path) -> None:
    recipe = toy.preset(schedule="protect-mapped")
    toy.work_folder(tmp_path, recipe)
    (tmp_path / "stage0.npy").unlink()
    with pytest.raises(CorpusError, match=r"stage0\.npy is missing"):
        train(recipe, tmp_path)

"""The loss of one step: the trainer's exits are the engine's, pieces change nothing, formulas hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from greencode_lsp.engine.load import load_engine
from tests import reference
from training.lm import lite_loss
from training.lm.families import exit_states, to_head
from training.lm.lite_loss import Head, LiteModel
from training.lm.schedules import build

IDS = torch.tensor([[5, 17, 101, 3, 42, 42, 7, 190, 11, 60, 61, 62]])
MODELS = {
    "llama": reference.llama,
    "llama, llama3 rope": lambda: reference.llama(rope_parameters=dict(reference.LLAMA3_ROPE)),
    "llama, untied head": lambda: reference.llama(tie_word_embeddings=False),
    "opt, norm before": lambda: reference.opt(do_layer_norm_before=True),
    "opt, norm after": lambda: reference.opt(do_layer_norm_before=False),
    "opt, projected embeddings": lambda: reference.opt(word_embed_proj_dim=32),
}


@pytest.mark.parametrize("build_model", MODELS.values(), ids=list(MODELS))
def test_the_trainers_exit_logits_are_the_engines(build_model: Any, tmp_path: Path) -> None:
    model, exits = build_model(), reference.EXITS
    folder = reference.save(model, tmp_path / "model")
    engine = load_engine(folder, "cpu", "float32", "torch").state
    engine.reuse(IDS[0].tolist())
    engine.full_depth_logits(1, lambda: False)
    with torch.no_grad():
        states = exit_states(model, IDS, exits)
        for index, state in enumerate(states):
            ours = F.linear(to_head(model, state[0]), model.lm_head.weight)
            engines = torch.from_numpy(engine.runner.logits(index, 0, len(engine)))
            assert torch.allclose(ours, engines, atol=1e-4, rtol=1e-4)


def states_and_head(count: int = 50, width: int = 16, vocab: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    states, teacher = torch.randn(count, width, requires_grad=True), torch.randn(count, width)
    return states, teacher, torch.randn(vocab, width, requires_grad=True), torch.randint(vocab, (count,))


@pytest.mark.parametrize("distilled", [0.0, 0.5])
def test_pieces_change_neither_loss_nor_gradients(distilled: float) -> None:
    states, teacher, head, labels = states_and_head()
    results = []
    for max_logits in (10_000, 7 * 40):
        loss = Head(head, max_logits=max_logits).loss(states, labels, teacher if distilled else None, distilled)
        results.append((loss, *torch.autograd.grad(loss, (states, head))))
    for whole, pieced in zip(*results, strict=True):
        assert torch.allclose(whole, pieced, atol=1e-6)


class LargestLogits(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types it only in part
    """Notes how many entries the largest tensor [..., V] that is made has."""

    def __init__(self, vocab: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch types it only in part
        self.vocab, self.entries = vocab, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor) and tensor.ndim and tensor.shape[-1] == self.vocab:
                self.entries = max(self.entries, tensor.numel())
        return out


def test_no_tensor_larger_than_a_piece_of_the_logits_is_made() -> None:
    states, teacher, head, labels = states_and_head(count=200, width=4, vocab=100)
    with LargestLogits(100) as seen:
        Head(head, max_logits=1_000).loss(states, labels, teacher, 0.5).backward()  # type: ignore[no-untyped-call]  # torch types it only in part
    assert seen.entries == 1_000


def test_ten_exits_share_the_room_for_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, exits = reference.llama(num_hidden_layers=10), list(range(1, 11))
    monkeypatch.setitem(lite_loss.MAX_LOGITS, "cpu", 10 * 3 * reference.VOCAB)
    ids = torch.randint(reference.VOCAB, (2, 65))
    objective = LiteModel(model, build("paper", exits, 0.4, 4))
    with LargestLogits(reference.VOCAB) as seen:
        objective(ids, 0).backward()
    assert seen.entries <= 64 * reference.VOCAB  # the head's gradient, transposed; 128 positions were trained


def test_protect_is_the_formula_of_its_description() -> None:
    model, exits = reference.llama(), [1, 2, 4]
    schedule = build("protect", exits, 0.4, 3)
    drawn = schedule.terms(5)[0].exit_layer
    early, last = (F.linear(s[0], model.lm_head.weight) for s in exit_states(model, IDS[:, :-1], [drawn, 4]))
    labels, target = IDS[0, 1:], torch.softmax(last, -1).detach()
    distilled = -(target * torch.log_softmax(early, -1))[::3].sum(-1).mean()
    expected = F.cross_entropy(last, labels) + 0.2 * (F.cross_entropy(early[::3], labels[::3]) + distilled)
    assert torch.allclose(LiteModel(model, schedule)(IDS, 5), expected, atol=1e-5)


def test_the_papers_loss_is_the_weighted_sum_over_exits() -> None:
    model, exits = reference.opt(), [1, 2, 4]
    schedule = build("paper", exits, 0.4, 4)
    states = exit_states(model.train(False), IDS[:, :-1], exits)
    losses = [F.cross_entropy(F.linear(s[0], model.lm_head.weight), IDS[0, 1:]) for s in states]
    expected = sum(w * loss for w, loss in zip(schedule.weights, losses, strict=True))
    assert torch.allclose(LiteModel(model, schedule)(IDS, 0), torch.as_tensor(expected), atol=1e-5)


def test_the_last_layer_learns_nothing_from_its_exits_through_the_distillation() -> None:
    model = reference.llama()
    objective = LiteModel(model, build("protect", [2, 4], 0.4, 1))
    plain = LiteModel(model, build("plain", [2, 4], 0.4, 1))
    last_layer = model.model.layers[3].mlp.up_proj.weight
    gradients = [torch.autograd.grad(o(IDS, 0), last_layer)[0] for o in (objective, plain)]
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)

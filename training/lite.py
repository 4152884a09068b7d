"""LITE training (GREEN-CODE section III-B; LITE, arXiv 2310.18581): exits share the one norm and LM head.

    python -m training lite --preset mini --work ~/.cache/greencode-lsp/mini        # 2 h on two idle cores; resumes

The paper sums a weighted cross-entropy over all exits, which costs a head per exit and takes weight from the last
layer. Here the last layer keeps weight 1 and each step trains one sampled exit e, drawn with the paper's relative
weights (first half 0.7, second half 0.2, falling by 0.9), at every n-th position, against labels and the last layer's
own distribution in equal parts:

    loss = CE(p_L, y) + w (CE(p_e, y) + CE(p_e, p_L detached)) / 2
"""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from training.preset import LiteOptions, ModelOptions, Preset
from training.tokenizer import SPECIAL_TOKENS

EVAL_ROWS = 12


def build_model(options: ModelOptions, vocab_size: int) -> Any:
    """Return a freshly initialised Llama of the preset's shape, tied head, float32."""
    shape = {k: getattr(options, k) for k in options.__dataclass_fields__ if k != "exits"}
    document = list(SPECIAL_TOKENS).index("document")
    config = LlamaConfig(
        vocab_size=vocab_size,
        head_dim=options.hidden_size // options.num_attention_heads,
        tie_word_embeddings=True,
        bos_token_id=document,
        eos_token_id=document,
        pad_token_id=None,
        **shape,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # residual branches scaled by depth (GPT-2)
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(1 / math.sqrt(2 * options.num_hidden_layers))
    return model


def exit_weights(exits: list[int]) -> list[float]:
    """Return the paper's relative weights of the exits before the last: 0.7 and 0.2 by half, falling by 0.9."""
    depth, early = exits[-1], exits[:-1]
    halves = [[e for e in early if 2 * e <= depth], [e for e in early if 2 * e > depth]]
    weights = []
    for half, budget in zip(halves, (0.7, 0.2), strict=True):
        raw = [0.9**i for i in range(len(half))]
        weights += [budget * r / sum(raw) for r in raw]
    return weights


def exit_states(model: Any, ids: Tensor, exits: list[int]) -> list[Tensor]:
    """Return the normalised hidden state after each exit, [B, T, D] each: what the LM head and the agent read."""
    body = model.model
    hidden = body.embed_tokens(ids)  # [B, T, D]
    positions = torch.arange(ids.shape[1], device=ids.device)[None]  # [1, T]
    rope = body.rotary_emb(hidden, positions)
    states = []
    for number, layer in enumerate(body.layers, 1):
        hidden = layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=rope)
        if number in exits:
            states.append(body.norm(hidden))
    return states


def head_loss(last: Tensor, early: Tensor, head: Tensor, labels: Tensor, options: tuple[int, float]) -> Tensor:
    """Return the loss of the module's docstring; states [N, D] (early: every stride-th), head [V, D], labels [N]."""
    stride, weight = options
    logits = F.linear(last, head).float()  # [N, V]
    target = torch.softmax(logits[::stride].detach(), -1)
    log_p = torch.log_softmax(F.linear(early, head).float(), -1)  # [N / stride, V]
    distilled = -(target * log_p).sum(-1).mean()
    return F.cross_entropy(logits, labels) + weight * 0.5 * (F.nll_loss(log_p, labels[::stride]) + distilled)


class Batches(Dataset[dict[str, Tensor]]):
    """One item per optimiser step: rows [B, T + 1] of its stage and its sampled exit, both functions of the step."""

    def __init__(self, work: Path, options: LiteOptions, exits: list[int]) -> None:
        self._stages = [np.load(work / f"stage{i}.npy", mmap_mode="r") for i in range(len(options.stages))]
        self._options, self._exits, self._weights = options, exits[:-1], exit_weights(exits)

    def __len__(self) -> int:
        return self._options.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        if step >= len(self):
            raise IndexError(step)
        exit_layer = random.Random(step).choices(self._exits, self._weights)[0]
        for stage, rows in zip(self._options.stages, self._stages, strict=True):
            if step < stage.steps:
                ids = torch.from_numpy(rows[step * stage.rows : (step + 1) * stage.rows].astype(np.int64))
                return {"input_ids": ids, "exit_layer": torch.tensor(exit_layer)}
            step -= stage.steps
        raise IndexError(step)


@torch.no_grad()
def evaluate_exits(model: Any, rows: NDArray[np.uint16], exits: list[int]) -> dict[str, dict[str, float]]:
    """Return loss, top-1 accuracy and agreement with the last layer for each exit, over rows [N, T + 1]."""
    sums = np.zeros((len(exits), 3))
    count = 0
    for row in rows:
        ids = torch.from_numpy(row.astype(np.int64)).to(model.device)
        logits = [F.linear(s[0], model.lm_head.weight) for s in exit_states(model, ids[None, :-1], exits)]
        last = logits[-1].argmax(-1)
        for i, scores in enumerate(logits):
            top = scores.argmax(-1)
            loss = F.cross_entropy(scores, ids[1:], reduction="sum")
            sums[i] += [loss.item(), (top == ids[1:]).sum().item(), (top == last).sum().item()]
        count += len(ids) - 1
    keys = ("loss", "accuracy", "agreement")
    return {str(e): dict(zip(keys, (sums[i] / count).tolist(), strict=True)) for i, e in enumerate(exits)}


class LiteTrainer(Trainer):  # type: ignore[misc]  # transformers has no types mypy can follow
    """Hugging Face's Trainer with the sampled-exit loss and one line of metrics per evaluation."""

    def __init__(self, work: Path, preset: Preset, model: Any, args: TrainingArguments, **kwargs: Any) -> None:
        self._preset, self._work = preset, work
        self._held = np.load(work / "validation.npy", mmap_mode="r")[:EVAL_ROWS]
        self._head_loss = torch.compile(head_loss, dynamic=False) if preset.lite.compile else head_loss
        super().__init__(model, args, **kwargs)

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any) -> Tensor:
        """One training step's loss: forward to the last layer, keep the sampled exit's state, both through the head."""
        ids, exit_layer, options = inputs["input_ids"], int(inputs["exit_layer"]), self._preset.lite
        early, last = exit_states(model, ids[:, :-1], [exit_layer, self._preset.model.exits[-1]])  # [B, T, D]
        stride = options.exit_position_stride
        flat_last, flat_early = last.flatten(0, 1), early.flatten(0, 1)[::stride]
        labels = ids[:, 1:].flatten()
        head = model.lm_head.weight
        loss: Tensor = self._head_loss(flat_last, flat_early, head, labels, (stride, options.exit_weight))
        return loss

    def get_train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Batches are laid out beforehand, in order: a resumed run sees exactly what an uninterrupted one would."""
        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=lambda items: items[0])

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score every exit on the validation rows; append one line to `metrics.jsonl`."""
        self.model.eval()
        exits = evaluate_exits(self.model, self._held, self._preset.model.exits)
        self.model.train()
        line = {"step": self.state.global_step, "time_s": round(time.time()), "exits": exits}
        with (self._work / "metrics.jsonl").open("a", encoding="utf8") as file:
            file.write(json.dumps(line) + "\n")
        text = "  ".join(f"{e}: loss {m['loss']:.3f} acc {m['accuracy']:.3f}" for e, m in exits.items())
        print(f"step {self.state.global_step}  {text}", flush=True)
        self.log({"eval_loss": exits[str(self._preset.model.exits[-1])]["loss"]})
        return {"eval_loss": exits[str(self._preset.model.exits[-1])]["loss"]}


class Budget(TrainerCallback):  # type: ignore[misc]  # transformers has no types mypy can follow
    """Stops and saves when the time is up, and stops without saving when the loss is no number."""

    def __init__(self, minutes: float) -> None:
        self._end_s = time.monotonic() + 60 * minutes

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Check the clock."""
        if time.monotonic() > self._end_s:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Check the loss."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            print("The loss diverged; the last checkpoint is kept. Lower the learning rate.", flush=True)
            control.should_save, control.should_training_stop = False, True


def _optimiser(model: nn.Module, options: LiteOptions) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW with decay on matrices only; warm-up, stay, then fall linearly to zero (WSD)."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95), fused=True)
    decay_steps = max(1, round(options.decay_share * options.steps))

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / options.warmup_steps, max(0.0, (options.steps - step) / decay_steps))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def train(preset: Preset, work: Path, budget_minutes: float = math.inf) -> Path:
    """Train or resume; returns the folder of the trained checkpoint (`work/lite`, an ordinary Hugging Face folder)."""
    torch.manual_seed(preset.lite.seed)
    model = build_model(preset.model, preset.corpus.vocab_size)
    if preset.lite.compile:
        for layer in model.model.layers:
            layer.compile(dynamic=False)
    args = TrainingArguments(
        output_dir=str(work / "checkpoints"),
        max_steps=preset.lite.steps,
        per_device_train_batch_size=1,  # one prepared batch
        eval_strategy="steps",
        eval_steps=preset.lite.eval_every_steps,
        save_steps=preset.lite.eval_every_steps,
        save_total_limit=2,
        logging_steps=25,
        max_grad_norm=1.0,
        remove_unused_columns=False,
        report_to="tensorboard",
        use_cpu=not torch.cuda.is_available(),
        seed=preset.lite.seed,
    )
    batches = Batches(work, preset.lite, preset.model.exits)
    kwargs = {"train_dataset": batches, "eval_dataset": batches, "optimizers": _optimiser(model, preset.lite)}
    trainer = LiteTrainer(work, preset, model, args, callbacks=[Budget(budget_minutes)], **kwargs)
    resume = any((work / "checkpoints").glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=resume)
    trainer.evaluate()
    model.save_pretrained(work / "lite")
    return work / "lite"

"""LITE training (GREEN-CODE section III-B; LITE, arXiv 2310.18581): exits share the one norm and LM head.

    python -m training lite --preset mini --work ~/.cache/greencode-lsp/mini        # 2 h on two idle cores; resumes
    python -m training lite --preset opt-2.7b --dry-run                             # memory and time, nothing is run
    accelerate launch --multi_gpu --num_processes 2 -m training lite --preset base  # they share the rows; CPUs too

The step itself is `training.lm.lite_loss.LiteModel`; what it sums is a schedule (`training.lm.schedules`). A checkpoint
counts once its `complete.json` is there, which is written last and says what it belongs to.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from greencode_lsp.errors import CorpusError
from training.checkpoint.base_checkpoint import load_start
from training.lm import decay, exit_maps, schedules
from training.lm.batches import SequenceBatches, Share
from training.lm.families import body, build_model, exit_states, to_head
from training.lm.lite_loss import LiteModel, piece_loss
from training.lm.run_checkpoints import COMPLETE, identity, last_checkpoint, what_is_kept, writing
from training.preset import LiteOptions, Preset
from training.whole_files import whole_folder

EVALUATED_SEQUENCES = 12
MAPPED_SEQUENCES = 24
"""Rows that the exits' maps are begun on."""
SAVE_AFTER_S = 600.0
"""No more than this is lost where a slow run is cut off; a fast one saves with every evaluation."""
BYTES_PER_PARAMETER = 12
"""Of a checkpoint: weight and AdamW's two moments in float32."""


@torch.no_grad()
def evaluate_exits(
    model: Any, rows: NDArray[Any], exits: list[int], maps: exit_maps.ExitMaps | None = None
) -> dict[str, dict[str, float]]:
    """Return loss, top-1 accuracy and agreement with the last layer for each exit, over rows [N, T + 1]."""
    sums = np.zeros((len(exits), 3))
    count = 0
    for row in rows:
        ids = torch.from_numpy(row.astype(np.int64)).to(model.device)
        states = exit_states(model, ids[None, :-1], exits)
        read = [to_head(model, s[0]) for s in states]  # [T, W] each
        if maps is not None:
            read[:-1] = [maps(layer, state) for layer, state in zip(exits[:-1], read[:-1], strict=True)]
        logits = [F.linear(state, model.lm_head.weight) for state in read]  # [T, V] each
        last = logits[-1].argmax(-1)
        for i, scores in enumerate(logits):
            top = scores.argmax(-1)
            loss = F.cross_entropy(scores, ids[1:], reduction="sum")
            sums[i] += torch.stack([loss, (top == ids[1:]).sum(), (top == last).sum()]).tolist()
        count += len(ids) - 1
    keys = ("loss", "accuracy", "agreement")
    return {str(e): dict(zip(keys, (sums[i] / count).tolist(), strict=True)) for i, e in enumerate(exits)}


def _only(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]


class LiteTrainer(Trainer):  # type: ignore[misc]  # transformers has no types mypy can follow
    """Hugging Face's Trainer over laid-out batches, with complete checkpoints and a line of metrics per evaluation."""

    def __init__(self, work: Path, preset: Preset, model: LiteModel, args: TrainingArguments, **kwargs: Any) -> None:
        self._preset, self._work = preset, work
        self._held = np.load(work / "validation.npy", mmap_mode="r")[:EVALUATED_SEQUENCES]
        self._evaluated: dict[str, float] = {}
        super().__init__(model, args, **kwargs)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Tensor:
        """Return the step's loss; `model` is the `LiteModel`, which may be wrapped."""
        loss: Tensor = model(**inputs)
        return loss

    def get_train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches are laid out beforehand, in order: a resumed run sees exactly what an uninterrupted one would."""
        return DataLoader(
            self.train_dataset,
            batch_size=1,
            collate_fn=_only,
            generator=torch.Generator(),  # so that beginning to read draws nothing from the model's random numbers
            pin_memory=self.args.device.type == "cuda",
        )

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        ids = inputs["input_ids"].to(self.args.device, non_blocking=True)
        return inputs | {"input_ids": ids}

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the language model as an ordinary Hugging Face folder."""
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            self.model.language_model.save_pretrained(folder)
            if self.model.maps is not None:
                save_file(self.model.maps.state_dict(), folder / exit_maps.FILE)
            torch.save(self.args, folder / "training_args.bin")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load what `_save` wrote, shards one after the other; tied weights are stored once."""
        for shard in sorted(Path(resume_from_checkpoint).glob("model*.safetensors")):
            self.model.language_model.load_state_dict(load_file(shard), strict=False)
        if self.model.maps is not None:
            self.model.maps.load_state_dict(load_file(Path(resume_from_checkpoint) / exit_maps.FILE))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise CorpusError(_diverged(step, self._work))
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"
        with writing(folder, self._work):
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                owner = json.dumps(identity(self._preset, self._work), indent=1)
                (folder / COMPLETE).write_text(owner, encoding="utf8")
                decay.keep(folder, self._work, step)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score every exit on the validation rows; append one line to `metrics.jsonl`, once per step."""
        if self._evaluated.get("step") == self.state.global_step:
            return self._evaluated
        self.model.eval()
        exits = evaluate_exits(self.model.language_model, self._held, self._preset.model.exits, self.model.maps)
        self.model.train()
        line = {"step": self.state.global_step, "time_s": round(time.time()), "exits": exits}
        if self.args.should_save:
            with (self._work / "metrics.jsonl").open("a", encoding="utf8") as file:
                file.write(json.dumps(line) + "\n")
            text = "  ".join(f"{e}: loss {m['loss']:.3f} acc {m['accuracy']:.3f}" for e, m in exits.items())
            print(f"step {self.state.global_step}  {text}", flush=True)
        loss = exits[str(self._preset.model.exits[-1])]["loss"]
        self._evaluated = {"eval_loss": loss, "step": self.state.global_step}
        self.log({"eval_loss": loss})
        return self._evaluated

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load both, and take the preset's learning rate: it may have changed since."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            rate, schedule = self._preset.lite.learning_rate, self.lr_scheduler
            schedule.base_lrs = [rate] * len(schedule.base_lrs)
            for group, factor in zip(self.optimizer.param_groups, schedule.lr_lambdas, strict=True):
                group["initial_lr"], group["lr"] = rate, rate * factor(schedule.last_epoch)


class Budget(TrainerCallback):  # type: ignore[misc]  # transformers has no types mypy can follow
    """Saves at times, and stops when the time is up; stops without saving where the loss is no number."""

    def __init__(self, minutes: float, work: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s, self._work = clock_s, work
        self._end_s, self._saved_s = clock_s() + 60 * minutes, clock_s()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Check the clock: the first process's, so that all save and stop at the same step."""
        now_s = self._clock_s()
        over, due = now_s > self._end_s, now_s > self._saved_s + SAVE_AFTER_S
        if args.world_size > 1:
            flags = torch.tensor([float(over), float(due)], device=args.device)
            torch.distributed.broadcast(flags, 0)
            over, due = (bool(flag) for flag in flags.tolist())
        if over or due:
            control.should_save = True
        if over:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remember when."""
        self._saved_s = self._clock_s()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Check the loss."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise CorpusError(_diverged(state.global_step, self._work))


def _diverged(step: int, work: Path) -> str:
    kept = what_is_kept(work)
    return f"The training diverged before step {step} (NaN): {kept}; lower [lite] learning_rate and run again."


def learning_rate_factor(options: LiteOptions) -> Callable[[int], float]:
    """Return the learning rate at a step, as a share of the preset's. Raises CorpusError for an unknown schedule."""
    if options.learning_rate_schedule not in ("wsd", "constant"):
        raise CorpusError(
            f"There is no learning-rate schedule {options.learning_rate_schedule!r}; it is wsd or constant."
        )
    warmup, decay_steps = max(1, options.warmup_steps), max(1, round(options.decay_share * options.steps))

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / warmup)
        if options.learning_rate_schedule == "constant":
            return warm
        return min(warm, max(0.0, (options.steps - step) / decay_steps))

    return factor


def _optimiser(
    model: nn.Module, options: LiteOptions, left: Callable[[int], float]
) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW with decay on matrices only, and its learning-rate schedule, of which a share is `left` at a step."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, options.adam_beta2), fused=True)
    factor = learning_rate_factor(options)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: factor(step) * left(step))


def _arguments(options: LiteOptions, work: Path) -> TrainingArguments:
    on_cpu = not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(work / "checkpoints"),
        max_steps=options.steps,
        per_device_train_batch_size=1,  # one prepared batch
        gradient_accumulation_steps=options.accumulation,
        eval_strategy="steps",
        eval_steps=options.eval_every_steps,
        save_steps=options.eval_every_steps,
        save_total_limit=2,
        logging_steps=25,
        logging_nan_inf_filter=False,  # the filter hides a diverging run, and waits for the device at each step
        max_grad_norm=1.0,
        bf16=options.bf16,
        tf32=True if not on_cpu and torch.cuda.get_device_capability() >= (8, 0) else None,
        remove_unused_columns=False,
        report_to="tensorboard",
        use_cpu=on_cpu,
        ddp_find_unused_parameters=False,
        seed=options.seed,
    )


def _check_room(model: nn.Module, work: Path) -> None:
    """Raise CorpusError where the disk cannot hold four checkpoints: two, the next, and that from before a decay."""
    needed = 4 * BYTES_PER_PARAMETER * sum(p.numel() for p in model.parameters())
    free = shutil.disk_usage(work).free
    if free < needed:
        raise CorpusError(
            f"{work} has {free >> 20} MiB free, the checkpoints need {needed >> 20} MiB; free some space."
        )


def _model(preset: Preset, work: Path) -> LiteModel:
    """Return the model to train, in the module that is its training step."""
    options = preset.lite
    torch.manual_seed(options.seed)
    if options.start:
        model = load_start(options.start, preset.model, work)
    else:
        model = build_model(preset.model, preset.corpus.vocab_size)
    model.train()
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    longest = max(stage.context for stage in options.stages)
    if longest > model.config.max_position_embeddings:
        raise CorpusError(f"Rows of {longest} do not fit the model's {model.config.max_position_embeddings} positions.")
    schedule = schedules.build(options.schedule, preset.model.exits, options.exit_weight, options.exit_position_stride)
    is_mapped = schedule.is_mapped
    maps = exit_maps.ExitMaps(preset.model.exits[:-1], model.lm_head.weight.shape[1]) if is_mapped else None
    return LiteModel(model, schedule, piece_loss, maps)


def _prepare(model: LiteModel, options: LiteOptions, work: Path, resume: Path | None, device: torch.device) -> None:
    """Begin the exits' maps on the first rows that are trained on, unless a checkpoint has them; then compile."""
    if model.maps is not None and resume is None:
        rows = np.load(work / "stage0.npy", mmap_mode="r")
        model.to(device).eval()
        exit_maps.begin(model.maps, model.language_model, rows[:MAPPED_SEQUENCES])
        model.train()
    if options.compile:
        for layer in body(model.language_model).layers:
            layer.compile(dynamic=False)
        model.piece = torch.compile(piece_loss, dynamic=False)


def train(preset: Preset, work: Path, budget_minutes: float = math.inf) -> Path:
    """Train or resume; returns the folder of the trained checkpoint (`work/lite`, an ordinary Hugging Face folder).

    Raises CorpusError, before any step where it can: for data, checkpoints or a disk that do not fit the preset, and
    where the run diverges; the last whole checkpoint is kept.
    """
    args = _arguments(preset.lite, work)
    if args.n_gpu > 1:
        raise CorpusError(
            f"One process sees {args.n_gpu} GPUs; run `accelerate launch --multi_gpu -m training lite`, or show it one "
            "of them (CUDA_VISIBLE_DEVICES=0)."
        )
    with args.main_process_first(local=False):  # a start may have to be made in the work folder
        model = _model(preset, work)
    _check_room(model, work)
    batches = SequenceBatches(
        work, preset.lite, model.language_model.config.vocab_size, Share(args.process_index, args.world_size)
    )
    with args.main_process_first(local=False):  # a decay of a former run is gone before anyone looks for one
        resume = last_checkpoint(preset, work)
        if resume is None and args.should_save:
            decay.forget(work)
    _prepare(model, preset.lite, work, resume, args.device)
    on_request = decay.OnRequest(work)
    optimisers = _optimiser(model, preset.lite, on_request.factor)
    kwargs = {"train_dataset": batches, "eval_dataset": batches, "optimizers": optimisers}
    trainer = LiteTrainer(work, preset, model, args, callbacks=[Budget(budget_minutes, work), on_request], **kwargs)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    trainer.evaluate()
    if args.should_save:
        with writing(work / "lite", work), whole_folder(work / "lite") as part:
            model.language_model.save_pretrained(part)
    return work / "lite"

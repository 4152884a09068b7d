"""`python -m training lite --preset X --dry-run`: what a preset takes, and how long here, before anything is run.

Memory is what float32 weights, their gradients and AdamW's moments take, plus activations measured on one layer (the
difference between two rows and one; eager, torch.compile needs less) and the logits alive at a time. Arithmetic is
counted as in PaLM's appendix B, 6 FLOP per weight and token, attention causal; time is arithmetic over the speed of a
large matrix product on this device times a utilisation seen with models of this kind.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass

import torch

from training.lm import schedules
from training.lm.families import body, build_model, exit_states
from training.lm.lite_loss import MAX_LOGITS
from training.lm.schedules import Term
from training.preset import ModelOptions, Preset

GIB = 2**30
STEPS_LOOKED_AT = 200
"""Of a schedule that draws its exits, for the mean."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Figures of one preset; bytes on one device, FLOP over the whole run."""

    parameters: int
    weights_bytes: int
    gradients_bytes: int
    optimiser_bytes: int
    activations_bytes: int
    """Of one forward pass of the stage that needs most."""
    checkpointed_bytes: int
    """The same with gradient checkpointing: one state per layer, and one layer's activations."""
    logits_bytes: int
    tokens: int
    flops: float

    def memory_bytes(self, checkpointing: bool) -> int:
        """Return the sum that is alive at the peak."""
        activations = self.checkpointed_bytes if checkpointing else self.activations_bytes
        return self.weights_bytes + self.gradients_bytes + self.optimiser_bytes + activations + self.logits_bytes


def layer_bytes(options: ModelOptions, context: int, bf16: bool) -> int:
    """Return the bytes one layer keeps for the backward pass, for one row of `context` positions: measured."""
    one = dataclasses.replace(options, num_hidden_layers=1, exits=[1], max_position_embeddings=context)
    model = build_model(one, 8)
    kept = []
    for rows in (1, 2):
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            states = exit_states(model, torch.zeros((rows, context), dtype=torch.long), [1])
            kept.append(sum(sizes.values()))
            del states
    return kept[1] - kept[0]


def _shapes(preset: Preset) -> tuple[int, int, int]:
    """Return the parameters of the model, of its layers, and of its head."""
    with torch.device("meta"):
        model = build_model(preset.model, preset.corpus.vocab_size)
    layers = sum(p.numel() for p in body(model).layers.parameters())
    return sum(p.numel() for p in model.parameters()), layers, model.lm_head.weight.numel()


def _terms(preset: Preset) -> list[tuple[Term, ...]]:
    lite = preset.lite
    schedule = schedules.build(lite.schedule, preset.model.exits, lite.exit_weight, lite.exit_position_stride)
    return [schedule.terms(step) for step in range(STEPS_LOOKED_AT)]


def _flops(preset: Preset, layers: int, head: int) -> float:
    """Return the arithmetic of all steps: layers, causal attention, and the head of each term with its teacher."""
    steps = _terms(preset)
    heads = sum((6 + 2 * (term.distilled > 0)) / term.stride for terms in steps for term in terms) / len(steps)
    shape, per_weight = preset.model, 8 if preset.lite.gradient_checkpointing else 6
    total = 0.0
    for stage in preset.lite.stages:
        attention = per_weight * shape.num_hidden_layers * shape.hidden_size * stage.context
        per_token = per_weight * layers + attention + heads * head
        total += per_token * stage.steps * stage.rows * stage.context
    return total


def plan(preset: Preset, device_type: str = "cuda") -> Plan:
    """Return the preset's figures; the room for logits is that of `device_type`."""
    parameters, layers, head = _shapes(preset)
    lite, shape = preset.lite, preset.model
    activations, checkpointed, logits = 0, 0, 0
    for stage in lite.stages:
        rows = stage.rows // lite.accumulation
        one = rows * layer_bytes(shape, stage.context, lite.bf16)
        states = 4 * rows * stage.context * shape.hidden_size * shape.num_hidden_layers
        activations = max(activations, one * shape.num_hidden_layers)
        checkpointed = max(checkpointed, states + one)
        logits = max(logits, rows * stage.context * preset.corpus.vocab_size * len(_terms(preset)[0]))
    return Plan(
        parameters=parameters,
        weights_bytes=4 * parameters,
        gradients_bytes=4 * parameters,
        optimiser_bytes=8 * parameters,
        activations_bytes=activations,
        checkpointed_bytes=checkpointed,
        logits_bytes=2 * 4 * min(logits, MAX_LOGITS[device_type]),  # and their gradient
        tokens=sum(stage.steps * stage.rows * stage.context for stage in lite.stages),
        flops=_flops(preset, layers, head),
    )


UTILISATION = {"cpu": 0.5, "cuda": 0.35}
"""Of a large product's speed: on a CPU seen at preset mini, one thread."""


@dataclass(frozen=True, slots=True)
class ThisDevice:
    """What trains here: the GPU if there is one, or else the processor."""

    type: str
    memory_bytes: int
    flops: float
    """Per second, of a large matrix product."""


def this_device(bf16: bool) -> ThisDevice:
    """Measure matrix products here for about a third of a second, in the arithmetic of the preset."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if bf16 and kind == "cuda" else torch.float32
    memory = (
        torch.cuda.mem_get_info()[1] if kind == "cuda" else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )
    size = 8192 if kind == "cuda" else 1024
    matrix, count = torch.randn(size, size, dtype=dtype, device=kind), 0
    float((matrix @ matrix)[0, 0])
    start_s = time.perf_counter()
    while (elapsed_s := time.perf_counter() - start_s) < 0.3:
        float((matrix @ matrix)[0, 0])  # waits for the device
        count += 1
    return ThisDevice(kind, memory, count * 2 * size**3 / elapsed_s)


def dry_run(preset: Preset) -> None:
    """Print the plan, what it means here, and all of it once more as JSON."""
    shape, lite = preset.model, preset.lite
    device = this_device(lite.bf16)
    figures = plan(preset, device.type)
    needed = figures.memory_bytes(lite.gradient_checkpointing)
    hours = figures.flops / (device.flops * UTILISATION[device.type]) / 3600
    print(f"{preset.name}: {shape.family}, {shape.num_hidden_layers} layers x {shape.hidden_size}, exits {shape.exits}")
    print(
        f"{figures.parameters / 1e6:,.1f} M parameters, schedule {lite.schedule}, start {lite.start or 'from scratch'}"
    )
    print(f"{lite.steps:,} steps, {figures.tokens / 1e6:,.1f} M tokens, {figures.flops:.2e} FLOP")
    for name in ("weights", "gradients", "optimiser", "activations", "checkpointed", "logits"):
        note = " (activations with gradient checkpointing)" if name == "checkpointed" else ""
        print(f"{name:>13} {getattr(figures, name + '_bytes') / GIB:8.2f} GiB{note}")
    verdict = "fits" if needed <= device.memory_bytes else "does not fit"
    print(f"{needed / GIB:.2f} GiB needed, {device.memory_bytes / GIB:.1f} here ({device.type}): it {verdict}.")
    print(f"About {hours:.2f} hours here.")
    here = {"device": device.type, "memory_bytes": device.memory_bytes, "needed_bytes": needed, "hours": hours}
    print(json.dumps({"preset": preset.name, **dataclasses.asdict(figures), "here": here}))

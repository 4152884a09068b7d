"""From `greencode.model` to a checkpoint: `auto` weighs what is installed by how long a suggestion takes here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from greencode_lsp.models.catalogue import CATALOGUE, CatalogueModel, by_hash
from greencode_lsp.models.choice import TYPICAL_TOKENS, Machine, ModelCandidate, best, better, estimated_ms, fits
from greencode_lsp.models.store import AUTO, BUNDLED, bundled_folder, installed, resolve
from greencode_lsp.records import Work
from greencode_lsp.settings import Settings

NEW_PROMPT_TOKENS = 3
"""Of a warm prompt: what was typed since the last one, and what healing takes back."""
PROMPT_TOKENS = 448

Profiled = Callable[[Path], "float | None"]
"""From a checkpoint to the profiled milliseconds of a typical suggestion, if it was profiled."""


def this_machine() -> Machine:
    """Return the processor and memory that this process may use."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cores, psutil.virtual_memory().total)


def checkpoints(settings: Settings, profiled: Profiled | None = None, machine: Machine | None = None) -> list[Path]:
    """Return the checkpoint that the settings name; for `auto` those in time, the best first, the bundled one last.

    Raises ModelNotFoundError where a named one is not here.
    """
    if settings.model != AUTO:
        return [resolve(settings.model)]
    machine, profiled = machine or this_machine(), profiled or profiled_ms(settings)
    paths = {BUNDLED: bundled_folder()}
    candidates = []
    for model in CATALOGUE:
        path = installed(model) if fits(model, machine) else None
        if path is not None:
            known_ms = profiled(path)
            time_ms = estimated_ms(model.weights, machine) if known_ms is None else known_ms
            candidates.append(ModelCandidate(model.name, model.quality, time_ms, known_ms is not None))
            paths[model.name] = path
    return [paths[one.name] for one in best(candidates, settings.latency_target_ms)] + [paths[BUNDLED]]


def profiled_ms(settings: Settings) -> Profiled:
    """Return what reads the stored profiles of the device that the settings name."""

    def profiled(checkpoint: Path) -> float | None:
        # with numpy, which a server at the shared engine does without unless there are models to choose from
        from greencode_lsp.energy.device_profile import stored
        from greencode_lsp.engine.load import pick_device

        profile = stored(pick_device(settings.device), checkpoint.stem if checkpoint.is_file() else checkpoint.name)
        if profile is None or settings.precision not in ("auto", profile.precision):
            return None
        layers, segments = profile.exits[-1], len(profile.segments)
        return 1000 * profile.seconds(
            Work(
                prompt_tokens=PROMPT_TOKENS,
                reused_tokens=PROMPT_TOKENS - NEW_PROMPT_TOKENS,
                emitted_tokens=TYPICAL_TOKENS,
                prefill_layer_positions=NEW_PROMPT_TOKENS * layers,
                decode_runs=tuple((segment, 1) for segment in range(segments)) * (TYPICAL_TOKENS - 1),
                head_runs=(1,) * TYPICAL_TOKENS,
            )
        )

    return profiled


def better_model(settings: Settings, machine: Machine) -> CatalogueModel | None:
    """Return the best model that this machine could run in time and that beats what the settings name."""
    here = {model.short for model in CATALOGUE if installed(model) is not None}
    others = [model for model in CATALOGUE if model.short not in here]
    if settings.model == BUNDLED:
        settings = replace(settings, model=AUTO)  # what is here need not be pulled
    return better(_served_quality(settings, machine), machine, settings.latency_target_ms, others)


def offers(settings: Settings) -> dict[str, Any]:
    """Return the models that can be pulled by name, as plain values, with the better one's name and the advice."""
    machine = this_machine()
    models = [
        {
            "name": model.name,
            "licence": model.licence,
            "size_bytes": model.size_bytes,
            "memory_bytes": model.memory_bytes,
            "fits": fits(model, machine),
            "is_here": installed(model) is not None,
        }
        for model in CATALOGUE
    ]
    better_one = better_model(settings, machine)
    return {"models": models, "better": better_one.short if better_one else "", "advice": advice(settings, machine)}


def advice(settings: Settings, machine: Machine | None = None) -> str:
    """Return one sentence on the better model that this machine could run, and how to get it; empty for none."""
    machine = machine or this_machine()
    if settings.model == BUNDLED:
        best_here = checkpoints(replace(settings, model=AUTO), machine=machine)[0]
        if best_here != bundled_folder():
            return f'{best_here.stem} is installed and better than the bundled model: "greencode.model": "{AUTO}".'
    offered = better_model(settings, machine)
    if offered is None:
        return ""
    time_ms = estimated_ms(offered.weights, machine)
    use = "" if settings.model == AUTO else f' and "greencode.model": "{AUTO}"'
    return (
        f"This machine could run {offered.short} (about {time_ms:.0f} ms a suggestion, estimated; "
        f"{offered.memory_bytes / 1e9:.1f} GB of memory, {offered.size_bytes / 1e9:.1f} on disk, {offered.licence}): "
        f"`greencode-lsp models pull {offered.short}`{use}."
    )


def _served_quality(settings: Settings, machine: Machine) -> int:
    """Return the catalogue rank of what is served now; what is not of the catalogue was chosen, and is left alone."""
    checkpoint = checkpoints(settings, machine=machine)[0]
    if checkpoint == bundled_folder():
        return 0
    catalogued = by_hash(checkpoint.name.removeprefix("sha256-"))
    named = [model.quality for model in CATALOGUE if model is catalogued or model.file == checkpoint.name]
    return max(named, default=1 << 30)

"""The training in the order it runs: one function per step, and `run_all`, which runs those that are not done yet.

A step leaves a stamp in `work/steps` when it is complete; it is done as long as no step before it is stamped later.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.policy import AgentPolicy
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import MANIFEST_NAME, Manifest, write_manifest
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig
from training import agent, calibrate, cost, cursors, heldout, rollout
from training.forced import DEVICE, ForcedExits
from training.preset import Preset
from training.rewards import COST_WEIGHT
from training.rollout import Rollouts

RUNS = Path(__file__).parent / "runs"


@dataclass(frozen=True, slots=True)
class Job:
    """What to train and where."""

    preset: Preset
    work: Path
    """Corpus, checkpoints and rollouts; needed for resuming only."""
    out: Path
    """The checkpoint folder that is served."""
    minutes: float = math.inf
    """Time for `lite`; the next run goes on."""
    runs: Path = RUNS
    """Where `evaluate` writes its results."""
    limit: int | None = None
    """`evaluate` takes this many held-out lines."""
    heldout_sources: tuple[str, ...] = ("installed",)
    """Where the held-out packages are: `installed`, or folders (globs) of unpacked distributions."""


@dataclass(frozen=True, slots=True)
class _Model:
    """The exported checkpoint, loaded."""

    engine: Engine
    tokenizer: CodeTokenizer
    manifest: Manifest

    def prompts(self, job: Job, half: cursors.Half, count: int, new_tokens: int) -> list[list[int]]:
        """Return the prompts at `count` cursors of one half of the validation files."""
        places = cursors.draw(job.work, half, count)
        return [cursors.prompt_ids(self.engine, self.tokenizer, place, new_tokens) for place in places]

    def rollout_setup(self, job: Job) -> rollout.Setup:
        """Return what completions for the agent are made with."""
        forced = ForcedExits(job.out, self.engine.exits)
        return rollout.Setup(self.engine, forced, job.preset.rollout.new_tokens, self.tokenizer.special_ids)


def _load(job: Job) -> _Model:
    engine = load_engine(job.out, DEVICE)
    return _Model(engine, CodeTokenizer.from_folder(job.out), engine.manifest)


def run_corpus(job: Job) -> None:
    """Build tokenizer, training rows and validation files."""
    from training.prepare import prepare

    manifest = prepare(job.preset, job.work)
    print(f"{len(manifest['packages'])} packages, {manifest['train_tokens_unique']:,} training tokens")


def run_heldout(job: Job) -> None:
    """Draw the held-out lines; done once, before any training."""
    print(heldout.freeze(list(job.heldout_sources)))


def run_lite(job: Job) -> None:
    """Train, or go on training, within the time given."""
    from training.lite import train  # imports transformers: seconds

    train(job.preset, job.work, job.minutes)


def run_export(job: Job) -> None:
    """Write the checkpoint folder and measure what its layers cost here."""
    from training.export import export

    if not (job.work / "lite" / "config.json").exists():
        raise CorpusError(f"There is no trained model in {job.work}; run `python -m training lite` first.")
    export(job.preset, job.work, job.work / "lite", job.out)
    manifest = _load(job).manifest
    curve, head_layers = cost.measure(job.out, manifest.exits)
    write_manifest(job.out, dataclasses.replace(manifest, cost_curve=curve, head_layers=head_layers))
    print(f"c(m)/c(1): {curve}, head: {head_layers} layers")


def run_rollout(job: Job) -> None:
    """Store the full model's completions, and the author's text before them, with every exit's state."""
    options, model = job.preset.rollout, _load(job)
    prompts = model.prompts(job, "agent", options.prompts, options.new_tokens)
    setup = model.rollout_setup(job)
    stored = rollout.roll(setup, prompts, author_tokens=rollout.AUTHOR_TOKENS)
    stored.save(job.work / "rollouts")
    print(f"{len(stored):,} tokens at {len(prompts)} cursors")


def run_agent(job: Job) -> None:
    """Train on the stored completions, then on those along the agent's own choices too; export."""
    options, model = job.preset.rollout, _load(job)
    stored = Rollouts.load(job.work / "rollouts")
    half = job.preset.agent.steps // 2
    trained = agent.train(stored, model.manifest, job.preset.agent, half)
    draft = agent.export(trained, job.work, model.manifest.exits)
    model.engine.policies["agent"] = AgentPolicy.load(draft, model.manifest.exits)
    prompts = model.prompts(job, "agent", options.prompts, options.new_tokens)
    own = prompts[: math.ceil(options.fresh_share * options.prompts)]
    fresh = rollout.roll(model.rollout_setup(job), own, DecodeConfig("agent", threshold=0.0))
    fresh.save(job.work / "rollouts-fresh")
    joined = Rollouts.joined([stored, fresh])
    trained = agent.train(joined, model.manifest, job.preset.agent, job.preset.agent.steps - half, start=trained)
    agent.export(trained, job.out, model.manifest.exits)
    notes = {"steps": job.preset.agent.steps, "tokens": len(joined), "tokens_of_own_choices": len(fresh)}
    training = model.manifest.training | {"agent": notes | {"reward": "energy", "cost_weight": COST_WEIGHT}}
    # thresholds measured for another agent mean nothing for this one
    manifest = dataclasses.replace(model.manifest, training=training, calibration={}, exit_policy="never")
    write_manifest(job.out, manifest)
    trained.save(job.work / "agent.zip")
    rewards = [episode["r"] for episode in trained.ep_info_buffer]
    print(f"mean reward of an episode: {sum(rewards) / max(1, len(rewards)):.3f}")


def run_calibrate(job: Job) -> None:
    """Measure thresholds, choose the policy that `auto` means."""
    options, model = job.preset.calibrate, _load(job)
    settings = calibrate.grid(model.engine, Rollouts.load(job.work / "rollouts"))
    prompts = model.prompts(job, "calibration", options.prompts, options.new_tokens)
    tables = calibrate.calibrate(model.engine, prompts, options.new_tokens, model.tokenizer.special_ids, settings)
    policy, figures = calibrate.winner(tables)
    figures |= {"prompts": len(prompts), "new_tokens": options.new_tokens, "device": DEVICE}
    training = model.manifest.training | {"calibration": figures}
    manifest = dataclasses.replace(
        model.manifest, calibration={"python": tables}, exit_policy=policy, training=training
    )
    write_manifest(job.out, manifest)
    for name, rows in tables.items():
        for row in rows:
            print(
                f"{name:>10} {row.threshold:8.3f}  agreement {row.agreement:.3f} (>= {row.agreement_lower_95:.3f})"
                f"  mean exit layer {row.mean_exit_layer:5.2f}  ratio {row.layer_equivalents_ratio:.3f}"
                f"  early {row.early_share:.2f}"
            )
    print(f"exit policy: {policy}, {figures['layer_equivalents_ratio']}")


@functools.lru_cache(maxsize=1)
def _heldout_lines(sources: tuple[str, ...]) -> tuple[list[heldout.HeldOutLine], int]:
    """Look through the packages once: with many installed it takes seconds."""
    return heldout.read_lines(list(sources))


def run_evaluate(job: Job) -> None:
    """Score the checkpoint on the held-out lines; write `results.json` and `results.md`."""
    from training.evaluate import evaluate  # imports transformers: seconds

    lines, missing = _heldout_lines(job.heldout_sources)
    if not lines:
        raise CorpusError("No held-out package is installed as pinned; run `pip install '.[eval]'`.")
    evaluate(job.out, lines[: job.limit], job.runs, missing)


STEPS: dict[str, Callable[[Job], None]] = {
    "corpus": run_corpus,
    "lite": run_lite,
    "export": run_export,
    "rollout": run_rollout,
    "agent": run_agent,
    "calibrate": run_calibrate,
    "evaluate": run_evaluate,
}
"""In order; `heldout` is drawn once, before all of them."""


def run_step(job: Job, name: str) -> None:
    """Run one step, done or not, and stamp it where it is complete."""
    print(f"== {name}", flush=True)
    STEPS[name](job)
    finished = job.work / "checkpoints" / f"checkpoint-{job.preset.lite.steps}"
    if name != "lite" or finished.exists():
        stamp = job.work / "steps" / name
        stamp.parent.mkdir(exist_ok=True)
        stamp.touch()


def is_done(job: Job, name: str) -> bool:
    """Say whether a step and all before it are complete, in order, and their checkpoint folder is there."""
    names = list(STEPS)
    stamps = [job.work / "steps" / n for n in names[: names.index(name) + 1]]
    if not all(stamp.exists() for stamp in stamps):
        return False
    times = [stamp.stat().st_mtime_ns for stamp in stamps]
    return times == sorted(times) and (name in ("corpus", "lite") or (job.out / MANIFEST_NAME).exists())


def run_all(job: Job) -> None:
    """Run every step that is not done; without the held-out packages, all but the evaluation."""
    for name in STEPS:
        if is_done(job, name):
            continue
        if name == "evaluate" and not _heldout_lines(job.heldout_sources)[0]:
            print("Not evaluated: no held-out package is installed as pinned; run `pip install '.[eval]'` first.")
            continue
        run_step(job, name)

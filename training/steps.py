"""The training in the order it runs: one function per step, and `run_all`, which runs those that are not done yet.

A step leaves a stamp in `work/steps` when it is complete; it is done as long as no step before it is stamped later.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greencode_lsp.engine.engine import Engine
from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.policy import AGENT_FILE, AgentPolicy
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from greencode_lsp.records import DecodeConfig
from training.data import cursors, heldout
from training.data.corpus import discover
from training.evaluation import calibrate, resplits, sweep
from training.evaluation.risk_control import PROMISE
from training.exits import agent, baselines, cost_curve, experience, probe, rollout
from training.exits.pack import save_drafts
from training.exits.rollout import Rollouts, Writer
from training.exits.served import PROMPT_TOKENS, prompt_ids
from training.exits.teacher_forcing import DEVICE, TeacherForcing
from training.preset import Preset

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
    languages: tuple[str, ...] = ("python", "java")
    """`evaluate` in these."""
    processes: int = 1
    """`calibrate` and `evaluate` share their prompts among so many."""
    as_json: bool = False
    """`evaluate` ends with one JSON object on a line."""


@dataclass(frozen=True, slots=True)
class _Model:
    """The exported checkpoint, loaded."""

    engine: Engine
    tokenizer: CodeTokenizer
    manifest: Manifest

    def rollout_prompt(self, place: cursors.SourcePosition, new_tokens: int) -> rollout.Prompt:
        """Return the prompt at one cursor, with its language."""
        return rollout.Prompt(prompt_ids(self.engine, self.tokenizer, place, new_tokens), place.language)

    def rollout_setup(self, job: Job) -> rollout.Setup:
        """Return what completions for the agent are made with."""
        teacher_forcing = TeacherForcing(self.engine.model, self.engine.exits)
        return rollout.Setup(self.engine, teacher_forcing, job.preset.rollout.new_tokens, self.tokenizer.special_ids)


def _load(job: Job) -> _Model:
    engine = load_engine(job.out, DEVICE)
    return _Model(engine, CodeTokenizer.of(job.out), engine.manifest)


def run_corpus(job: Job) -> None:
    """Build tokenizer, training rows and validation files."""
    from training.data.prepare import prepare

    manifest = prepare(job.preset, job.work, job.heldout_sources)
    print(f"{len(manifest['packages'])} packages, {manifest['train_tokens_unique']:,} training tokens")


def run_heldout(job: Job) -> None:
    """Draw the held-out lines of `languages`; done once, before any training on them."""
    for language in job.languages:
        print(heldout.freeze(list(job.heldout_sources), language))


def run_lite(job: Job) -> None:
    """Train, or go on training, within the time given."""
    from training.lm.lite import train  # imports transformers: seconds

    train(job.preset, job.work, job.minutes)


def run_export(job: Job) -> None:
    """Write the checkpoint folder and measure what its layers cost here."""
    from training.checkpoint.export import export

    export(job.preset, job.work, _trained(job.work), job.out)
    manifest = _load(job).manifest
    curve, head_layers = cost_curve.measure(job.out)
    write_manifest(job.out, dataclasses.replace(manifest, cost_curve=curve, head_layers=head_layers))
    print(f"c(m)/c(1): {curve}, head: {head_layers} layers")


def _trained(work: Path) -> Path:
    """Return the newest weights: the ended run's, or a running one's last checkpoint. Raises CorpusError."""
    folders = [
        at.parent for at in (work / "lite" / "config.json", *work.glob("checkpoints/*/complete.json")) if at.exists()
    ]
    if not folders:
        raise CorpusError(f"There is no trained model in {work}; run `python -m training lite` first.")
    return max(folders, key=lambda folder: (folder / "config.json").stat().st_mtime_ns)


def run_heads(job: Job) -> None:
    """Give the exits heads of their own where the preset asks for them."""
    from training.exits import heads  # imports datasketch: seconds

    if not job.preset.heads.tokens:
        print("no heads: every exit speaks through the LM head alone")
        return
    heads.fit(job.preset, job.work, job.out)


def run_drafts(job: Job) -> None:
    """Count what usually follows a few tokens, for drafts; `calibrate` then measures the thresholds that are there."""
    from training.exits import draft_counts  # imports datasketch: seconds

    if not job.preset.drafts.tokens:
        raise CorpusError("The preset asks for no draft table: [drafts] tokens is 0.")
    model, packages = _load(job), heldout.trainable(discover(job.preset.corpus.sources))
    table = draft_counts.count(packages, model.tokenizer, job.preset.drafts)
    save_drafts(job.out, table)
    write_manifest(job.out, model.manifest)
    print(f"{0 if table is None else len(table.keys):,} contexts")


def run_rollout(job: Job) -> None:
    """Store the full model's completions, and the reference text before them, with every exit's state."""
    options, model = job.preset.rollout, _load(job)
    token_bytes = 2 * job.preset.model.hidden_size * len(model.engine.exits)
    experience.check_disk(job.work, options, PROMPT_TOKENS, token_bytes)
    places = cursors.draw(job.work, "agent", options.prompts + options.reference_prompts)
    setup = model.rollout_setup(job)
    for name, kept in zip((experience.LEARN, experience.CHECK), experience.keep_back(places), strict=True):
        share = math.ceil(len(kept) * options.prompts / len(places))
        prompts = [model.rollout_prompt(place, options.new_tokens) for place in kept]
        with Writer(job.work / name) as writer:
            experience.store(writer, rollout.roll(setup, prompts[:share], with_reference=True))
            experience.store(writer, rollout.follow(setup, prompts[share:]))
        print(f"{name}: {writer.tokens:,} tokens at {len(prompts)} cursors, {share} of them completed")


def run_agent(job: Job) -> None:
    """Train on the stored completions, then on those along the agent's own choices too; export, and compare."""
    options, model = job.preset.agent, _load(job)
    stored, exits = Rollouts.load(job.work / experience.LEARN), model.manifest.exits
    check = Rollouts.load(job.work / experience.CHECK)
    supervised = probe.fit(stored, exits, options.seed)
    probe.save(supervised, job.work / probe.PROBE_FILE, exits)
    start = probe.fit(stored, exits, options.seed, weighs_cost=True)
    trained = agent.train(stored, model.manifest, options, options.steps // 2, start, (1.0, 0.5))
    model.engine.policies["agent"] = AgentPolicy(agent.network_of(trained).tensors(), exits)
    joined = _with_own_choices(job, model, stored)
    trained = agent.train(joined, model.manifest, options, -(-options.steps // 2), trained, (0.5, 0.0))
    trained.save(job.work / "agent.zip")
    networks = {"ppo": agent.network_of(trained), "start": start, "probe": supervised}
    table = baselines.compare(check, model.manifest, networks)
    probe.save(networks[table["agent"]], job.out / AGENT_FILE, exits, table["gate"])
    print(baselines.as_text(table))
    notes: dict[str, Any] = {"steps": options.steps, "tokens": len(joined)}
    notes |= {"tokens_of_own_choices": len(joined) - len(stored)}
    notes |= {"reward": options.reward, "cost_weight": options.cost_weight, "baselines": table}
    # thresholds measured for another agent mean nothing for this one
    training = model.manifest.training | {"agent": notes}
    manifest = dataclasses.replace(
        model.manifest, training=training, calibration={}, exit_policy="never", exit_policies={}
    )
    write_manifest(job.out, manifest)


def _with_own_choices(job: Job, model: _Model, stored: Rollouts) -> Rollouts:
    """Return the stored rollouts and, after them, those along the agent's choices at its own price of energy."""
    options = job.preset.rollout
    places, _ = experience.keep_back(cursors.draw(job.work, "agent", options.prompts + options.reference_prompts))
    count = math.ceil(options.fresh_share * options.prompts)
    prompts = [model.rollout_prompt(place, options.new_tokens) for place in places[:count]]
    config = DecodeConfig("agent", threshold=-math.log(job.preset.agent.cost_weight))
    with Writer(job.work / experience.ALL) as writer:
        writer.copy(stored)
        experience.store(writer, rollout.roll(model.rollout_setup(job), prompts, config))
    return Rollouts.load(job.work / experience.ALL)


def run_calibrate(job: Job) -> None:
    """Measure thresholds in every language, choose the policy that `auto` means.

    They are placed by the rollouts; without these, a checkpoint that has a table is measured at its thresholds again.
    """
    options, rollouts = job.preset.calibrate, job.work / experience.CHECK
    loaded = sweep.load_checkpoint(job.out, job.work, options.new_tokens)
    tables: dict[str, calibrate.Tables] = {}
    notes: dict[str, Any] = {}
    for language, count in options.prompts.items():
        places = cursors.draw(job.work, "calibration", count, language=language)
        settings = (
            calibrate.grid(loaded.engine, Rollouts.load(rollouts), language)
            if rollouts.exists()
            else calibrate.grid_again(loaded.engine, language)
        )
        records = sweep.run(
            sweep.Sweep(job.out, job.work, language, options.new_tokens, settings, places), job.processes
        )
        calibrate.expect_same(records)
        tables[language] = calibrate.tables_of(records, settings)
        notes[language] = calibrate.notes_of(records, places, tables[language])
        kept = resplits.losses_of(records, settings, places)
        kept.save(job.runs / loaded.engine.manifest.name / f"losses-{language}.npz")
    winners = {language: calibrate.winner(table) for language, table in tables.items()}
    policy = next(iter(winners.values()))
    manifest = read_manifest(job.out) or loaded.engine.manifest
    figures: dict[str, Any] = {
        "promise": PROMISE,
        "method": calibrate.METHOD,
        "device": DEVICE,
        "dtype": loaded.engine.precision,
    }
    figures |= {"new_tokens": options.new_tokens, "prompt_tokens": PROMPT_TOKENS, "languages": notes}
    write_manifest(
        job.out,
        dataclasses.replace(
            manifest,
            calibration={language: dict(calibrate.served(table)) for language, table in tables.items()},
            exit_policy=policy,
            exit_policies={language: won for language, won in winners.items() if won != policy},
            training=manifest.training | {"calibration": figures},
        ),
    )
    for language, table in tables.items():
        print(f"{language}: {notes[language]['completions']:,} completions\n{calibrate.to_text(table)}")
    print("exit policy: " + ", ".join(f"{won} in {language}" for language, won in winners.items()))


@functools.lru_cache(maxsize=2)
def _heldout_lines(sources: tuple[str, ...], language: str) -> tuple[list[heldout.HeldOutLine], int]:
    """Look through the packages once: with many installed it takes seconds."""
    return heldout.read_lines(list(sources), language)


def run_evaluate(job: Job) -> None:
    """Score the checkpoint in every language whose held-out files are there; write results, report and plots.

    Raises CorpusError where there are none in any language.
    """
    from training.evaluation.evaluate import HeldOut, contract, evaluate  # imports transformers: seconds

    held_out = {}
    for language in job.languages:
        lines, missing = _heldout_lines(job.heldout_sources, language)
        if lines:
            held_out[language] = HeldOut(lines[: job.limit], missing)
        else:
            print(f"Not evaluated in {language}: no held-out file is there; {heldout.HOW_TO[language]}.")
    if not held_out:
        how = "; ".join(f"for {language}: {heldout.HOW_TO[language]}" for language in job.languages)
        raise CorpusError(f"No held-out package is installed as pinned; {how}.")
    results = evaluate(job.out, held_out, job.runs, job.processes)
    print(job.runs / results["model"] / "results.md")
    if job.as_json:
        print(json.dumps(contract(results)))


STEPS: dict[str, Callable[[Job], None]] = {
    "corpus": run_corpus,
    "lite": run_lite,
    "export": run_export,
    "heads": run_heads,
    "rollout": run_rollout,
    "agent": run_agent,
    "drafts": run_drafts,
    "calibrate": run_calibrate,
    "evaluate": run_evaluate,
}
"""In order; `heldout` is drawn once, before all of them."""


def steps_of(preset: Preset) -> list[str]:
    """Return the steps of a preset, in order; a table that it does not ask for is none."""
    return [name for name in STEPS if name != "drafts" or preset.drafts.tokens]


def run_step(job: Job, name: str) -> None:
    """Run one step, done or not, and stamp it where it is complete."""
    print(f"== {name}", flush=True)
    STEPS[name](job)
    if name != "lite" or _is_trained(job):
        stamp = job.work / "steps" / name
        stamp.parent.mkdir(exist_ok=True)
        stamp.touch()


def _is_trained(job: Job) -> bool:
    """Say whether the run has taken its last step: the preset's, or that of a decay on request."""
    from training.lm import decay  # imports transformers: seconds

    last = max((int(at.name.partition("-")[2]) for at in job.work.glob("checkpoints/checkpoint-*")), default=0)
    asked = decay.read(job.work)
    return last >= job.preset.lite.steps or (asked is not None and asked.is_over(last))


def is_done(job: Job, name: str) -> bool:
    """Say whether a step and all before it are complete, in order, and their checkpoint folder is there."""
    names = steps_of(job.preset)
    stamps = [job.work / "steps" / n for n in names[: names.index(name) + 1]]
    if not all(stamp.exists() for stamp in stamps):
        return False
    times = [stamp.stat().st_mtime_ns for stamp in stamps]
    return times == sorted(times) and (name in ("corpus", "lite") or (job.out / MANIFEST_NAME).exists())


def run_all(job: Job) -> None:
    """Run every step that is not done; without the held-out packages, all but the evaluation.

    Ends where the time for `lite` is up: later steps would be done for a model that is not.
    """
    for name in steps_of(job.preset):
        if is_done(job, name):
            continue
        if name == "evaluate" and not any(
            _heldout_lines(job.heldout_sources, language)[0] for language in job.languages
        ):
            print("Not evaluated: no held-out package is installed as pinned; run `pip install '.[eval]'` first.")
            continue
        run_step(job, name)
        if name == "lite" and not is_done(job, name):
            print("The time is up; the same command goes on with the training.")
            return

"""Does a learning agent earn its place? GO, EMIT, VERIFY and STOP, learnt and hand-set, on the same recorded trees.

    python -m training actions --preset small-1 --model bundled        # resumes where it was stopped

Packages are split in three: fitted on, chosen on, reported on. What is chosen - constants, rounds, seeds - is chosen on
the second by the mean reward over the preferences, and reported on the third with intervals by package.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from greencode_lsp.engine.policy import AgentPolicy
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import Manifest
from training.data import cursors
from training.data.cursors import Half, SourcePosition
from training.evaluation import sweep
from training.evaluation.calibrate import LoadedCheckpoint
from training.exits import agent, counterfactual, ppo, probe, signals
from training.exits.contenders import (
    PREFERENCES,
    Case,
    Combination,
    Decide,
    Outcome,
    best_combination,
    bootstrap,
    exit_logits,
    oracle,
    ratio_interval,
    walk,
)
from training.exits.counterfactual import ActionNetwork
from training.exits.rewards import Integers
from training.exits.served import serve
from training.exits.simulator import Worth, observation_length
from training.exits.trees import Trees, record
from training.preset import ActionOptions, AgentOptions
from training.whole_files import note, write_json, write_text

KINDS = ("full", "fixed", "confidence", "probe")
PART = 100
"""Cursors recorded in one file."""
CHOOSE_EVERY = 3
"""One package in so many of the agent's is chosen on."""
SPLIT_SEED = 7
KEPT_ROUNDS = 3
GATHERED_STEPS = 24
PPO_WALKS = 1024
FULL = Combination("full", 0.0, 99, 0.0)
"""Full depth, ended by nothing but the line."""
PAPER_PROBABILITY = 0.92
"""The paper's threshold on the probability of leaving."""


@dataclass(frozen=True, slots=True)
class ActionsJob:
    """What to study and where."""

    out: Path
    """The checkpoint's folder."""
    work: Path
    """Trees and networks; what is there is not made again."""
    runs: Path
    languages: Sequence[str]
    options: ActionOptions
    paper: AgentOptions
    """The paper's own agent, reported beside."""
    new_tokens: int = 32


def record_parts(
    checkpoint: LoadedCheckpoint, folder: Path, half: Half, places: Sequence[SourcePosition]
) -> Iterator[Trees]:
    """Yield the recorded trees of all cursors, those that are not there yet recorded now."""
    folder.mkdir(parents=True, exist_ok=True)
    language = places[0].language
    engine, cursors_sha256 = checkpoint.engine, sha256(repr(places).encode()).hexdigest()
    made_of: dict[str, Any] = {"model": engine.manifest.files, "cursors": cursors_sha256}
    made_of |= {"precision": engine.precision, "new_tokens": checkpoint.new_tokens}
    note(folder / f"{language}-{half}.json", made_of, "trees")
    # packages are kept apart, or files where there is one package
    names = [place.package for place in places]
    names = names if len(set(names)) > 1 else [sha256(place.text.encode()).hexdigest() for place in places]
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    for part, start in enumerate(range(0, len(places), PART)):
        path = folder / f"{language}-{half}-{part:03}.npz"
        if not path.exists():
            recorded = []
            for name, place in list(zip(names, places, strict=True))[start : start + PART]:
                served = serve(checkpoint.engine, checkpoint.tokenizer, place, checkpoint.new_tokens, shape="line")
                recorded.append(record(served, checkpoint.grower, place, number[name]))
            Trees.joined(recorded).save(path)
            print(path.name, flush=True)
        yield Trees.load(path)


def fit_and_choose(trees: Trees) -> tuple[Trees, Trees]:
    """Return the completions to fit on and those to choose on: no package in both.

    Raises CorpusError where all are of one package.
    """
    if len(np.unique(trees.package)) < CHOOSE_EVERY:
        raise CorpusError(f"The actions are studied on {CHOOSE_EVERY} packages at least; name more sources.")
    names = np.random.default_rng(SPLIT_SEED).permutation(np.unique(trees.package))
    chosen = np.isin(trees.package, names[::CHOOSE_EVERY])
    every = np.arange(len(trees.package))
    return trees.take(every[~chosen]), trees.take(every[chosen])


@dataclass(slots=True)
class ActionsStudy:
    """One language of one model."""

    manifest: Manifest
    work: Path
    plan: ActionOptions
    fitted: Case
    chosen: Case
    reported: Case

    @classmethod
    def of(cls, manifest: Manifest, work: Path, plan: ActionOptions, agents: Trees, reported: Trees) -> ActionsStudy:
        """Split the packages and fit the probes; the plan's networks come later."""
        work.mkdir(parents=True, exist_ok=True)
        made_of = {"model": manifest.files, "completions": [len(t.package) for t in (agents, reported)]}
        note(work / "made-of.json", made_of | {"plan": asdict(plan)}, "networks")
        fitted, chosen = fit_and_choose(agents)
        torch.set_num_threads(1)
        exits = manifest.exits
        path = work / probe.PROBE_FILE
        if not path.exists():
            probe.save(probe.fit(fitted.as_rollouts(), exits), path, exits)
        network = AgentPolicy.load(path, exits)
        maps = signals.load_or_fit(work / "signals.npz", fitted)
        shown = (signals.crossed(work / "crossed.npy", fitted), maps.of(chosen), maps.of(reported))
        cases = [
            Case(trees, manifest, Worth(), signal, exit_logits(network, trees, len(exits)))
            for trees, signal in zip((fitted, chosen, reported), shown, strict=True)
        ]
        return cls(manifest, work, plan, *cases)

    def mean_reward(self, decide: Decide, case: Case) -> float:
        """Return the mean over completions and preferences: what is chosen by."""
        return float(np.mean([walk(case, decide, p).reward.mean() for p in PREFERENCES.values()]))

    def hand_set(self) -> dict[str, dict[str, Combination]]:
        """Return each kind's best constants by preference."""
        path = self.work / "hand-set.json"
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf8"))
            return {n: {k: Combination(**c) for k, c in kinds.items()} for n, kinds in stored.items()}
        best = {n: {k: best_combination(k, self.chosen, p)[0] for k in KINDS} for n, p in PREFERENCES.items()}
        path.write_text(json.dumps({n: {k: asdict(c) for k, c in kinds.items()} for n, kinds in best.items()}))
        return best

    def start(self, base: Decide) -> ActionNetwork:
        """Return the supervised start: of some rounds the one that is best on the packages to choose on."""
        inputs = observation_length(signals.SIGNALS, len(self.manifest.exits))
        path = self.work / "start.pt"
        best = ActionNetwork(inputs)
        if path.exists():
            best.load_state_dict(torch.load(path, weights_only=True))
            return best
        sim = self.fitted.simulator(counterfactual.WALKS)
        other = self.fitted.simulator(4 * counterfactual.WALKS)
        decide, gathered, scores = base, list[counterfactual.Experience](), list[float]()
        for round_number in range(self.plan.rounds):
            gathered.append(counterfactual.gather(sim, other, decide, GATHERED_STEPS, round_number))
            network = ActionNetwork(inputs)
            counterfactual.fit(network, gathered[-KEPT_ROUNDS:], round_number)
            decide = network.decide()
            scores.append(self.mean_reward(decide, self.chosen))
            if scores[-1] == max(scores):
                best = network
            print(f"round {round_number}: {scores[-1]:.3f} where it is chosen", flush=True)
        torch.save(best.state_dict(), path)
        return best

    def seed(self, start: ActionNetwork, number: int, **options: Any) -> tuple[ActionNetwork, dict[str, float]]:
        """Return PPO's network of one seed and what is known of it; trained once."""
        name = "-".join(["ppo", str(number), *(f"{key}{value}" for key, value in sorted(options.items()))])
        path, notes = self.work / f"{name}.pt", self.work / f"{name}.json"
        network = ActionNetwork(start.first.in_features)
        if path.exists() and notes.exists():
            network.load_state_dict(torch.load(path, weights_only=True))
            return network, dict(json.loads(notes.read_text(encoding="utf8")))
        begun_s = time.process_time()
        wanted = replace(ppo.Options(steps=self.plan.steps, seed=number), **options)
        network, explained = ppo.train(self.fitted.simulator(PPO_WALKS, number), start, wanted)
        known = {"explained_variance": round(explained, 4), "cpu_s": round(time.process_time() - begun_s)}
        known["chosen"] = round(self.mean_reward(network.decide(), self.chosen), 4)
        torch.save(network.state_dict(), path)
        notes.write_text(json.dumps(known), encoding="utf8")
        print(f"{name}: {known}", flush=True)
        return network, known

    def paper(self, options: AgentOptions) -> Decide:
        """Return the paper's own agent: its state, reward and settings, a threshold on its probability of leaving."""
        path = self.work / "paper.safetensors"
        if not path.exists():
            tokens = self.fitted.trees.main_path()
            model = agent.train(tokens, self.manifest, options, options.steps, probe.fit(tokens, self.manifest.exits))
            probe.save(agent.network_of(model), path, self.manifest.exits)
        network = AgentPolicy.load(path, self.manifest.exits)
        logits = exit_logits(network, self.reported.trees, len(self.manifest.exits))
        return Combination("probe", leaving_logit(options), 99, 0.0).decide(logits)


def leaving_logit(options: AgentOptions) -> float:
    """Return the network's output at which the paper's agent leaves: where its probability passes the threshold.

    log P(leave) / P(go on) = sharpness * (output + log(cost_weight)), as it was trained (training/exits/agent.py).
    """
    odds = math.log(PAPER_PROBABILITY / (1 - PAPER_PROBABILITY))
    return odds / options.ppo.sharpness - math.log(options.cost_weight)


def run(study: ActionsStudy, language: str, paper: AgentOptions | None = None) -> dict[str, Any]:
    """Fit, choose and report one language; return the figures."""
    hand_set = study.hand_set()
    start = study.start(hand_set["balanced"]["fixed"].decide(study.fitted.exit_logits))
    seeds = [study.seed(start, number) for number in range(study.plan.seeds)]
    at_start = study.mean_reward(start.decide(), study.chosen)
    best = max(range(len(seeds)), key=lambda i: seeds[i][1]["chosen"], default=-1)
    learnt = best >= 0 and seeds[best][1]["chosen"] > at_start
    network = seeds[best][0] if learnt else start
    figures: dict[str, Any] = {
        "language": language,
        "completions": {n: len(c.trees.package) for n, c in _cases(study)},
        "packages": {n: len(np.unique(c.trees.package)) for n, c in _cases(study)},
        "worth": asdict(study.reported.worth),
        "agent": f"ppo, seed {best}" if learnt else "supervised start",
        "start_where_chosen": round(at_start, 4),
        "seeds": [known for _, known in seeds],
        "preferences": {},
    }
    package = study.reported.trees.package.astype(np.int64)
    for name, preference in PREFERENCES.items():
        best_kind = max(KINDS, key=lambda k: _mean(study.chosen, hand_set[name][k], preference))
        policies = {
            "full depth, no stop": FULL.decide(study.reported.exit_logits),
            "full depth, stop": hand_set[name]["full"].decide(study.reported.exit_logits),
            "fixed": hand_set[name]["fixed"].decide(study.reported.exit_logits),
            "confidence": hand_set[name]["confidence"].decide(study.reported.exit_logits),
            "probe": hand_set[name]["probe"].decide(study.reported.exit_logits),
            "start": start.decide(),
            **{f"ppo {i}": net.decide() for i, (net, _) in enumerate(seeds)},
            "agent": network.decide(),
            "oracle": oracle,
        }
        if paper is not None:
            policies["the paper's"] = study.paper(paper)
        outcomes = {n: walk(study.reported, decide, preference) for n, decide in policies.items()}
        rival = "full depth, stop" if best_kind == "full" else best_kind
        figures["preferences"][name] = {
            "rival": rival,
            "constants": {kind: asdict(constants) for kind, constants in hand_set[name].items()},
            "gain": [round(x, 4) for x in bootstrap(outcomes["agent"].reward, outcomes[rival].reward, package)],
            "gain_of_start": [
                round(x, 4) for x in bootstrap(outcomes["start"].reward, outcomes[rival].reward, package)
            ],
            "rows": {n: _row(o, outcomes["full depth, no stop"], package) for n, o in outcomes.items()},
        }
    torch.save(network.state_dict(), study.work / "agent.pt")
    return figures


def main(job: ActionsJob) -> None:
    """Record, learn, choose and report in each language; write `actions.json` and `actions.md` of the model.

    Raises CorpusError where the work folder has too few validation files of a language.
    """
    checkpoint, options = sweep.load_checkpoint(job.out, job.work, job.new_tokens), job.options
    manifest = checkpoint.engine.manifest
    counts: dict[Half, int] = {"agent": options.cursors, "calibration": options.reported_cursors}
    paper = replace(job.paper, steps=options.paper_steps) if options.paper_steps else None
    by_language: dict[str, Any] = {}
    for language in job.languages:
        halves = []
        for half, count in counts.items():
            places = cursors.draw(job.work, half, count, language=language)
            halves.append(Trees.joined(list(record_parts(checkpoint, job.work / "trees", half, places))))
        study = ActionsStudy.of(manifest, job.work / "actions" / language, options, *halves)
        by_language[language] = run(study, language, paper)
        print(to_text(by_language[language]), flush=True)
    folder = job.runs / manifest.name
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "actions.json", {"languages": by_language})
    tables = "\n".join(to_text(figures) for figures in by_language.values())
    write_text(folder / "actions.md", f"# {manifest.name}: GO, EMIT, VERIFY and STOP\n\n{tables}")


def _cases(study: ActionsStudy) -> tuple[tuple[str, Case], ...]:
    return (("fitted", study.fitted), ("chosen", study.chosen), ("reported", study.reported))


def _mean(case: Case, combination: Combination, preference: float) -> float:
    return float(walk(case, combination.decide(case.exit_logits), preference).reward.mean())


def _row(outcome: Outcome, full: Outcome, package: Integers) -> dict[str, Any]:
    """Return a policy's means per completion, and its cost per right character shown against full depth."""
    ratio = ratio_interval(outcome, full, package)
    return {
        "reward": round(float(outcome.reward.mean()), 4),
        "right": round(float(outcome.right.mean()), 3),
        "wrong": round(float(outcome.wrong.mean()), 3),
        "tokens": round(float(outcome.shown.mean()), 3),
        "layer_equivalents": round(float(outcome.cost.mean()), 2),
        "cost_per_kept_character": ratio and [round(x, 4) for x in ratio],
    }


def to_text(figures: Mapping[str, Any]) -> str:
    """Return the figures as Markdown tables."""
    counts = ", ".join(
        f"{figures['completions'][n]:,} completions of {figures['packages'][n]} packages {n} on"
        for n in ("fitted", "chosen", "reported")
    )
    lines = [f"## {figures['language']}", "", f"{counts}. The agent is: {figures['agent']}.", ""]
    for name, figure in figures["preferences"].items():
        mean, low, high = figure["gain"]
        lines += [
            f"### {name}: {mean:+.3f} ({low:+.3f} .. {high:+.3f}) against {figure['rival']}, the best hand-set",
            "",
            "| policy | reward | right | wrong | tokens | layer-equivalents | cost per kept character |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for policy, row in figure["rows"].items():
            ratio = row["cost_per_kept_character"]
            shown = "{:.3f} ({:.3f} .. {:.3f})".format(*ratio) if ratio else "nothing right is shown"
            lines.append(
                f"| {policy} | {row['reward']:.3f} | {row['right']:.2f} | {row['wrong']:.2f} | {row['tokens']:.2f}"
                f" | {row['layer_equivalents']:.1f} | {shown} |"
            )
        lines.append("")
    return "\n".join(lines)

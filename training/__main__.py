"""`python -m training <step> --preset nano|mini`: from source files to a checkpoint folder that the server loads.

python -m training all --preset nano --work /tmp/nano        # under 90 s
python -m training all --preset mini                         # hours on two cores; resumes where it was stopped
python -m training lite --preset base --dry-run              # memory and time on each device; runs nothing
python -m training import ~/opt-2.7b ~/opt-2.7b-safe         # an older published folder, in the layout that is read
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from greencode_lsp.errors import GreenCodeError, SettingError
from greencode_lsp.models.store import resolve
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from training import steps
from training.preset import Preset, load_preset
from training.whole_files import run_name, write_json, write_text

HOME = Path("~/.cache/greencode-lsp")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m training`."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train, calibrate and judge a model.")
    parser.add_argument("step", choices=[*steps.STEPS, "heldout", "import", *MEASUREMENTS, "all"])
    parser.add_argument("folders", nargs="*", type=Path, help="`import FOLDER OUT`, `export --dequantise FOLDER OUT`")
    parser.add_argument("--dequantise", action="store_true", help="`export` FOLDER as float32 for transformers")
    parser.add_argument(
        "--decay-now", type=int, metavar="STEPS", help="`lite`: let the run of WORK end in so many steps"
    )
    parser.add_argument("--decay-undo", action="store_true", help="`lite`: take WORK back to before the decay")
    parser.add_argument("--dry-run", action="store_true", help="`lite` prints memory and time, and runs nothing")
    parser.add_argument("--pack", action="store_true", help="`corpus` also writes WORK/shards, to be moved elsewhere")
    parser.add_argument("--shards", type=Path, help="`corpus` makes the work folder from this folder of shards")
    parser.add_argument("--preset", default="mini", help="a recipe in training/presets (default: mini)")
    parser.add_argument("--work", type=Path, help=f"folder to work in (default: {HOME}/PRESET)")
    parser.add_argument("--out", type=Path, help="checkpoint folder to write (default: WORK/out)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop `lite` after so long; it can go on later")
    parser.add_argument("--runs", type=Path, default=steps.RUNS, help="where `evaluate` and `energy-study` write")
    parser.add_argument(
        "--limit",
        type=int,
        help="`evaluate`, `context` and `kept` so many lines a language, `lossless` and `exits` so many prompts",
    )
    parser.add_argument(
        "--model",
        help="`evaluate`, `bench`, `precision`, `lossless`, `exits` or `energy-study` this: `bundled`, a name, a path",
    )
    parser.add_argument(
        "--languages", nargs="+", default=["python", "java"], help="`evaluate` and `heldout` in these languages"
    )
    parser.add_argument(
        "--json", action="store_true", help="`evaluate`, `bench`, `energy-study` end with one JSON object"
    )
    _add_measuring(parser)
    return parser


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, default=2, help="for `calibrate` and `evaluate` (default: 2)")
    parser.add_argument(
        "--heldout-sources",
        nargs="+",
        default=["installed"],
        help="where the packages of the extra `eval` are: `installed`, or folders of unpacked distributions",
    )
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="`bench` and `evaluate` llama.cpp on this file too")
    parser.add_argument("--precision", help="`evaluate --gguf` in it by this engine, at full depth, not by llama.cpp")
    parser.add_argument(
        "--infilling", type=Path, metavar="FILE", help="`evaluate` on HumanEval's infilling file; `heldout` writes one"
    )
    parser.add_argument("--tokens", type=int, help="`exits` caches the states of so many tokens (150,000)")
    parser.add_argument("--shortlist", type=int, help="`exits` takes so many rows of the LM head (32,768)")
    parser.add_argument("--threads", type=int, default=0, help="`bench` this engine on so many (0: as it serves)")
    parser.add_argument("--quick", action="store_true", help="`bench` with few rounds, in minutes")
    parser.add_argument(
        "--random-weights", default="base", metavar="PRESET", help="`bench` against peers in this shape (base)"
    )
    parser.add_argument("--device", default="auto", help="`bench` and `energy-study` on this device: auto, cpu or cuda")
    parser.add_argument("--window-s", type=float, default=5.0, help="`energy-study` windows of at least so long (5)")
    parser.add_argument("--repeats", type=int, default=5, help="`energy-study` windows of each method (5)")
    parser.add_argument("--seed", type=int, default=0, help="`energy-study` shuffles turns and draws lines by it (0)")


def _convert(options: argparse.Namespace) -> bool:
    """Turn one folder into another where that is the command; say whether it was. Raises SettingError."""
    if options.step != "import" and not options.dequantise:
        return False
    command = "import" if options.step == "import" else "export --dequantise"
    if len(options.folders) != 2 or options.step not in ("import", "export"):
        raise SettingError(f"Two folders are needed: `python -m training {command} FOLDER OUT`.")
    folder, out = (path.expanduser() for path in options.folders)
    if options.step == "import":
        from training.checkpoint.importer import import_folder  # imports transformers: seconds

        import_folder(folder, out)
    else:
        from training.checkpoint.export import dequantise

        dequantise(folder, out)
    print(out)
    return True


def _bench(options: argparse.Namespace) -> None:
    from training.bench import bench_engine  # imports transformers: seconds

    wanted = bench_engine.BenchOptions(
        options.model or "bundled", options.random_weights, options.quick, options.device, options.gguf, options.threads
    )
    bench_engine.main(wanted, as_json=options.json)


def _precision(options: argparse.Namespace) -> None:
    from training.bench import precision  # imports numpy and more

    precision.main(resolve(options.model or "bundled"), options.runs)


def _energy_study(options: argparse.Namespace) -> None:
    from training.bench import energy_results, energy_study  # imports transformers: seconds

    model, device = options.model or "bundled", options.device
    wanted = energy_study.StudyOptions(model, device, options.window_s, options.repeats, seed=options.seed)
    study = energy_study.run(wanted, options.runs.expanduser())
    print(energy_results.to_markdown(study))
    if options.json:
        print(json.dumps({key: study[key] for key in ("methods", "quality", "modelled_time")}))


def _pack_shards(work: Path) -> None:
    from training.data.shards import pack_shards

    packed = pack_shards(work, work / "shards")
    print(f"{work / 'shards'}: {packed['tokens']:,} tokens in {packed['bytes'] / 1e6:.1f} MB")


def _unpack_shards(shards: Path, work: Path) -> None:
    from training.data.shards import unpack

    print(f"{work}: {unpack(shards, work)['train_tokens_unique']:,} training tokens")


def _infilling(options: argparse.Namespace) -> None:
    """Score a model, or with --gguf llama.cpp, on a file; or write one."""
    from training.data.heldout import held_out_texts
    from training.evaluation import infilling  # imports numpy and more
    from training.evaluation.peer_lines import opened

    file = options.infilling.expanduser()
    if options.step == "heldout":
        rows = infilling.draw(list(held_out_texts(list(options.heldout_sources), infilling.LANGUAGE)))
        write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
        print(f"{file}: {len(rows)} functions")
        return
    tasks = infilling.read(file, options.limit)
    if options.gguf:
        gguf = options.gguf.expanduser()
        model, engine, short = opened(gguf, options.precision)
        scores = infilling.evaluate_peer(model, CodeTokenizer.of(gguf), tasks)
        results: dict[str, Any] = {"model": gguf.stem, "engine": engine, "tasks": len(tasks)} | scores
        name = f"infilling-{short}.json"
    else:
        results, name = infilling.evaluate(resolve(options.model or "bundled"), tasks), "infilling.json"
    target = options.runs.expanduser() / results["model"]
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / name, results | {"file": file.name})
    print(json.dumps(results, indent=None if options.json else 1))


def _evaluate_peer(options: argparse.Namespace) -> None:
    from training.data.heldout import read_lines
    from training.evaluation.peer_lines import evaluate, opened

    lines = {name: read_lines(list(options.heldout_sources), name)[0] for name in options.languages}
    there = {name: drawn[: options.limit] for name, drawn in lines.items() if drawn}
    if not there:
        raise SettingError("No held-out line is here; name folders of them with --heldout-sources.")
    file = options.gguf.expanduser()
    model, engine, short = opened(file, options.precision)
    scores = evaluate(file, there, model, engine)
    target = options.runs.expanduser() / scores["model"] / f"{short}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf8")
    print(json.dumps(scores, indent=None if options.json else 1))


def _decay(work: Path, options: argparse.Namespace) -> None:
    from training.lm import decay  # imports transformers: seconds

    if options.decay_undo:
        decay.undo(work)
    else:
        decay.request(work, options.decay_now)


def _dry_run(preset: Preset) -> None:
    from training.lm.plan import dry_run  # imports transformers: seconds

    dry_run(preset)


def _job(options: argparse.Namespace, preset: Preset) -> steps.Job:
    if options.model and options.step not in ("evaluate", "actions"):
        raise SettingError(f"`{options.step}` writes the checkpoint of a preset: name its folder by --out, no --model.")
    work = (options.work or HOME / options.preset).expanduser()
    work.mkdir(parents=True, exist_ok=True)
    return steps.Job(
        preset=preset,
        work=work,
        out=resolve(options.model) if options.model else options.out or work / "out",
        minutes=options.minutes,
        runs=options.runs,
        limit=options.limit,
        heldout_sources=tuple(options.heldout_sources),
        languages=tuple(options.languages),
        processes=options.processes,
        as_json=options.json,
    )


def _train(options: argparse.Namespace) -> None:
    """Run what a preset is needed for."""
    preset = load_preset(options.preset)
    if options.step == "lite" and options.dry_run:
        _dry_run(preset)
        return
    job = _job(options, preset)
    if options.step == "lite" and (options.decay_now is not None or options.decay_undo):
        _decay(job.work, options)
    elif options.step == "corpus" and options.shards:
        _unpack_shards(options.shards.expanduser(), job.work)
    elif options.step == "all":
        steps.run_all(job)
    elif options.step == "heldout":
        steps.run_heldout(job)
    elif options.step == "evaluate" and options.model:
        steps.run_evaluate(job)  # no step of the preset's work
    else:
        steps.run_step(job, options.step)
    if options.step == "corpus" and options.pack:
        _pack_shards(job.work)


def _lossless(options: argparse.Namespace) -> None:
    from training.evaluation import lossless  # imports numpy and more

    lossless.main(resolve(options.model or "bundled"), options.runs, options.limit)


def _readme(options: argparse.Namespace) -> None:
    from training.evaluation import readme

    print("\n".join(f"{path} is filled anew." for path in readme.main()) or "Nothing has changed.")


def _context(options: argparse.Namespace) -> None:
    from greencode_lsp.settings import Settings
    from training.evaluation import context_study  # imports numpy and more

    context_study.main(Settings(model=options.model or "bundled", device=options.device), options)


def _kept(options: argparse.Namespace) -> None:
    from greencode_lsp.settings import Settings
    from training.evaluation import kept_study  # imports numpy and more

    kept_study.main(Settings(model=options.model or "bundled", device=options.device), options)


def _exits(options: argparse.Namespace) -> None:
    from training.evaluation import frozen_exits  # imports torch: seconds

    if not options.model:
        raise SettingError("Which model the exits are for is not named: --model qwen2.5-coder-0.5b, or a path.")
    checkpoint = resolve(options.model)
    work = (options.work or HOME / f"exits-{checkpoint.stem}").expanduser()
    wanted = frozen_exits.FrozenOptions(checkpoint, work, options.out or work / "pack" / checkpoint.stem)
    given = {"tokens": options.tokens, "shortlist": options.shortlist, "completions": options.limit}
    frozen_exits.main(replace(wanted, **{name: n for name, n in given.items() if n is not None}), options.runs)


def _resplit(options: argparse.Namespace) -> None:
    from training.evaluation import resplits  # imports numpy and more

    resplits.main(run_name(resolve(options.model or "bundled")), options.runs, options.languages)


def _actions(options: argparse.Namespace) -> None:
    from training.evaluation import actions  # imports stable-baselines3: seconds

    preset = load_preset(options.preset)
    job = _job(options, preset)
    paper = load_preset("opt-2.7b").agent
    new_tokens = preset.calibrate.new_tokens
    actions.main(actions.ActionsJob(job.out, job.work, job.runs, job.languages, preset.actions, paper, new_tokens))


MEASUREMENTS = {
    "exits": _exits,
    "actions": _actions,
    "resplit": _resplit,
    "bench": _bench,
    "precision": _precision,
    "lossless": _lossless,
    "energy-study": _energy_study,
    "context": _context,
    "kept": _kept,
    "readme": _readme,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step, or all that are not done; return the exit code."""
    options = build_parser().parse_args(argv)
    try:
        if options.precision and not options.gguf:
            raise SettingError("--precision is of `evaluate --gguf FILE`; name the file.")
        if _convert(options):
            return 0
        if options.step in MEASUREMENTS:
            MEASUREMENTS[options.step](options)
        elif options.step in ("evaluate", "heldout") and options.infilling:
            _infilling(options)
        elif options.step == "evaluate" and options.gguf:
            _evaluate_peer(options)
        else:
            _train(options)
    except GreenCodeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

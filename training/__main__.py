"""`python -m training <step> --preset nano|mini`: from source files to a checkpoint folder that the server loads.

python -m training all --preset nano --work /tmp/nano        # under 90 s
python -m training all --preset mini                         # hours on two cores; resumes where it was stopped
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from greencode_lsp.errors import GreenCodeError
from training import pipeline
from training.preset import load_preset

HOME = Path("~/.cache/greencode-lsp")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m training`."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train, calibrate and judge a model.")
    parser.add_argument("step", choices=[*pipeline.STEPS, "heldout", "all"])
    parser.add_argument("--preset", default="mini", help="a recipe in training/presets (default: mini)")
    parser.add_argument("--work", type=Path, help=f"folder to work in (default: {HOME}/PRESET)")
    parser.add_argument("--out", type=Path, help="checkpoint folder to write (default: WORK/out)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop `lite` after so long; it can go on later")
    parser.add_argument("--runs", type=Path, default=pipeline.RUNS, help="where `evaluate` writes (training/runs)")
    parser.add_argument("--limit", type=int, help="`evaluate` so many held-out lines only")
    parser.add_argument(
        "--heldout-sources",
        nargs="+",
        default=["installed"],
        help="where the packages of the extra `eval` are: `installed`, or folders of unpacked distributions",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step, or all that are not done; return the exit code."""
    options = build_parser().parse_args(argv)
    try:
        preset = load_preset(options.preset)
        work = (options.work or HOME / options.preset).expanduser()
        work.mkdir(parents=True, exist_ok=True)
        out = options.out or work / "out"
        job = pipeline.Job(
            preset, work, out, options.minutes, options.runs, options.limit, tuple(options.heldout_sources)
        )
        if options.step == "all":
            pipeline.run_all(job)
        elif options.step == "heldout":
            pipeline.run_heldout(job)
        else:
            pipeline.run_step(job, options.step)
    except GreenCodeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

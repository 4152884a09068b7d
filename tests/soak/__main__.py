"""`python -m tests.soak [--only PART,...] [--scale 0.01] [--model NAME] [--out FOLDER]`.

Prints tables, then one JSON line; with `--out training/runs/MODEL` both are also kept there, as `soak.md` and
`soak.json`, which README's figures are made from. At full size it takes about a quarter of an hour on two cores. It
exits with 1 where a limit is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from greencode_lsp.engine.timing import device_name
from greencode_lsp.models.manifest import read_manifest
from greencode_lsp.models.store import BUNDLED, resolve
from tests.soak import cancels, large, malformed, shared, trace, traffic
from tests.soak.figures import Figure, table

Part = Callable[[Path, float], Awaitable[list[Figure]]]
PARTS: dict[str, Part] = {
    "typing": trace.run,
    "cancels": cancels.run,
    "malformed": malformed.run,
    "large": large.run,
    "traffic": traffic.run,
    "shared": shared.run,
}


def write(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m tests.soak`."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--only", help="parts, with commas (default: all; with another model `typing`)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument(
        "--model", default=BUNDLED, help="type to this model, or send it traffic: `bundled`, a name or a path"
    )
    parser.add_argument("--out", type=Path, help="folder to write soak.json and soak.md to")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for, each in a home folder of its own."""
    options = build_parser().parse_args(argv)
    checkpoint = resolve(options.model)  # in the user's own home, before each part gets another
    of_model: dict[str, Part] = {
        "typing": partial(trace.run, model=str(checkpoint)),
        "traffic": partial(traffic.run, model=str(checkpoint)),
    }
    parts = PARTS if options.model == BUNDLED else of_model
    names = options.only.split(",") if options.only else list(PARTS) if parts is PARTS else ["typing"]
    if not set(names) <= set(parts):
        write(f"The parts with {options.model} are {', '.join(parts)}.")
        return 2
    lines: list[str] = []

    def note(text: str) -> None:
        lines.append(text)
        write(text)

    measured = {name: _run(parts[name], name, options.scale, note) for name in names}
    soak = {"model": _name(checkpoint), "cpu": device_name("cpu"), **summary(measured, options.scale)}
    write(json.dumps(soak))
    if options.out is not None:
        keep(options.out, soak, lines)
    return 0 if soak["kept"] else 1


def _run(part: Part, name: str, scale: float, write: Callable[[str], None]) -> list[Figure]:
    begun_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        os.environ["GREENCODE_HOME"] = home  # of this process too: the user's own is left alone
        figures = asyncio.run(_awaited(part, Path(home), scale))
    table(f"{name} ({time.perf_counter() - begun_s:.0f} s)", figures, write)
    return figures


async def _awaited(part: Part, home: Path, scale: float) -> list[Figure]:
    return await part(home, scale)


def summary(measured: dict[str, list[Figure]], scale: float) -> dict[str, Any]:
    """Return the parts' figures by name, and whether every limit was kept."""
    return {
        "scale": scale,
        "kept": all(figure.is_kept for figures in measured.values() for figure in figures),
        "parts": {part: {figure.name: figure.value for figure in figures} for part, figures in measured.items()},
    }


def keep(folder: Path, soak: dict[str, Any], lines: Sequence[str]) -> None:
    """Write `soak.json` and `soak.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps(soak, indent=1) + "\n", encoding="utf8")
    head = f"Made by `python -m tests.soak` on {soak['cpu']}: the real server over standard input and output."
    tables = "\n".join(lines).strip()
    (folder / "soak.md").write_text(f"# Soak of {soak['model']}\n\n{head}\n\n```\n{tables}\n```\n", encoding="utf8")


def _name(checkpoint: Path) -> str:
    manifest = read_manifest(checkpoint, verify=False) if checkpoint.is_dir() else None
    return checkpoint.stem if manifest is None else manifest.name


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.soak [--only typing,traffic,malformed,cancels,large] [--scale 0.01]`: prints tables, then JSON.

At full size it takes about a quarter of an hour on two cores. It exits with 1 where a limit is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.soak import cancels, large, malformed, trace, traffic
from tests.soak.figures import Figure, table

PARTS: dict[str, Callable[[Path, float], Awaitable[list[Figure]]]] = {
    "typing": trace.run,
    "cancels": cancels.run,
    "malformed": malformed.run,
    "large": large.run,
    "traffic": traffic.run,
}


def write(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the parts that are asked for, each in a home folder of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    arguments = parser.parse_args()
    found: dict[str, list[Figure]] = {}
    for part in arguments.only.split(","):
        begun_s = time.perf_counter()
        with tempfile.TemporaryDirectory() as home:
            os.environ["GREENCODE_HOME"] = home  # of this process too: the user's own is left alone
            found[part] = asyncio.run(_run(part, Path(home), arguments.scale))
        table(f"{part} ({time.perf_counter() - begun_s:.0f} s)", found[part], write)
    kept = all(figure.is_kept for figures in found.values() for figure in figures)
    rows = {part: {figure.name: figure.value for figure in figures} for part, figures in found.items()}
    write(json.dumps({"scale": arguments.scale, "kept": kept, "parts": rows}))
    return 0 if kept else 1


async def _run(part: str, home: Path, scale: float) -> list[Figure]:
    return await PARTS[part](home, scale)


if __name__ == "__main__":
    sys.exit(main())

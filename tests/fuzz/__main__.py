"""`python -m tests.fuzz [documents|lsp] [--scale 0.01] [--seed 1]`: prints a table; exits with 1 on a broken limit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.fuzz import documents, messages, models
from tests.soak.figures import Figure, table

PARTS: dict[str, Callable[[float, int], list[Figure]]] = {
    "documents": documents.run,
    "lsp": messages.run,
    "models": models.run,
}
"""Name -> from the share of the full size and a seed to figures; another kind of input is another line."""


def main() -> int:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    is_kept = True
    for part in arguments.parts:
        figures = PARTS[part](arguments.scale, arguments.seed)
        table(part, figures, lambda line: print(line, flush=True))  # noqa: T201 - a command prints
        is_kept = is_kept and all(figure.is_kept for figure in figures)
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())

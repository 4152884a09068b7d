"""`greencode-lsp demo`: completes at ten cursor positions of sample files, offline, and shows what each one cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from greencode_lsp.demo.positions import CursorPosition, positions
from greencode_lsp.demo.report import EDITORS, describe, summary, to_json
from greencode_lsp.records import Completion


@dataclass(frozen=True, slots=True)
class Completer:
    """A loaded model, as the demo and the command line use it."""

    complete: Callable[[CursorPosition], Completion]
    model: str
    device: str


def run(completer: Completer, write: Callable[[str], None], *, as_json: bool) -> None:
    """Complete at every position; `write` gets whole lines, one at a time for a person, one object for a program."""
    if as_json:
        completions = [completer.complete(position) for position in positions()]
        write(to_json(completions, completer.model, completer.device))
        return
    write(f"Model {completer.model} on {completer.device}. The text before the cursor is marked |, the suggestion >.\n")
    completions = []
    for position in positions():
        completion = completer.complete(position)
        completions.append(completion)
        write(describe(position, completion) + "\n")
    write(summary(completions) + "\n")
    write(EDITORS)

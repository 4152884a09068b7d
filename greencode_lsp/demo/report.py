"""Completions as text for a terminal and as JSON for a program.

A tier of energy is written only as the value of an `energy_tier` key, in prose too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from greencode_lsp.demo.positions import CursorPosition
from greencode_lsp.records import Completion

EDITORS = """\
Connect an editor (the server is `greencode-lsp --stdio`; the plugins are in the repository's folder `editors`):

  VS Code      cd editors/vscode && npm ci && npm run package && code --install-extension greencode-lsp.vsix

  Neovim       a plugin folder, editors/neovim: require('greencode').setup()
               or, on 0.12 without it:
               vim.lsp.config('greencode', { cmd = { 'greencode-lsp', '--stdio' }, filetypes = { 'python', 'java' } })
               vim.lsp.enable('greencode')
               vim.lsp.inline_completion.enable()

  Emacs        editors/emacs: (require 'greencode), then M-x greencode-mode

The setting greencode.preference is "accuracy", "balanced", "energy" or a number from 1 down to 0."""


def to_json(completions: Sequence[Completion], model: str, device: str) -> str:
    """Return the object that `--json` prints."""
    rows = [
        {
            "text": completion.text,
            "exit_layers": list(completion.exit_layers),
            "layers": completion.layers,
            "elapsed_ms": completion.elapsed_ms,
            "energy_j": completion.energy.energy_j,
            "energy_tier": completion.energy.energy_tier,
        }
        for completion in completions
    ]
    return json.dumps({"completions": rows, "model": model, "device": device}, indent=2)


def describe(position: CursorPosition, completion: Completion) -> str:
    """Return one completion for a person to read."""
    shown = completion.text if completion.text else "(nothing to suggest)"
    exits = " ".join(str(layer) for layer in completion.exit_layers) or "none"
    return "\n".join(
        [
            f"{position.file}:{position.line}",
            _indented(position.shown_before, "  | "),
            _indented(shown, "  > "),
            f"  exit layers {exits} of {completion.layers}",
            f"  {completion.elapsed_ms:.0f} ms, {_joules(completion.energy.energy_j)}, "
            f"energy_tier: {completion.energy.energy_tier}",
        ]
    )


def summary(completions: Sequence[Completion]) -> str:
    """Return the means over completions; there is at least one."""
    count = len(completions)
    layers = [layer for completion in completions for layer in completion.exit_layers]
    mean_layer = sum(layers) / len(layers) if layers else 0.0
    early = sum(layer < completion.layers for completion in completions for layer in completion.exit_layers)
    mean_ms = sum(completion.elapsed_ms for completion in completions) / count
    mean_j = sum(completion.energy.energy_j for completion in completions) / count
    mean_saved_j = sum(completion.energy.saved_j for completion in completions) / count
    tiers = {completion.energy.energy_tier for completion in completions}
    tier = tiers.pop() if len(tiers) == 1 else "modelled"  # a mean is as good as its weakest part
    return "\n".join(
        [
            f"Mean of {count} completions, {len(layers)} tokens: "
            f"exit layer {mean_layer:.1f} of {completions[0].layers}, {early} tokens exited early.",
            f"  {mean_ms:.0f} ms, {_joules(mean_j)}, energy_tier: {tier}",
            f"  less than full depth by {_joules(mean_saved_j)}, energy_tier: modelled",
        ]
    )


def _joules(energy_j: float) -> str:
    return f"{energy_j:.3g} J"


def _indented(text: str, mark: str) -> str:
    return "\n".join(mark + line for line in text.split("\n"))

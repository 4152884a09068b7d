"""A repository prepared against who opens it: each thing it brings notes in `ran` that it was run or loaded."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny_models import LLAMA, write_folder

MODULES = ("greencode_lsp", "numpy", "onnxruntime", "tokenizers", "pygls", "json", "sitecustomize", "usercustomize")
TEXT = "import csv\n\n\ndef write_rows(path, rows):\n    with open(path, 'w') as handle:\n        writer = csv.wri\n"
"""Of the ordinary file `ordinary.py`."""
MODEL = "acme/coder"


def prepare(folder: Path) -> Path:
    """Write the repository into a new folder and return it."""
    ran = folder / "ran"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "config").write_text(f"[core]\n\tfsmonitor = touch {ran}; false\n\thooksPath = {folder}\n")
    (folder / "ordinary.py").write_text(TEXT)
    _bombs(folder)
    for name in MODULES:
        source = f"open({str(ran)!r}, 'a').write({name!r} + '\\n')\n"
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(source)
        (folder / name / "__main__.py").write_text(source)
    for place in (".", "bin", ".venv/bin", "node_modules/.bin"):
        program = folder / place / "greencode-lsp"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {place} >> '{ran}'\n")
        program.chmod(0o755)
    for model in (MODEL, "bundled", "coder"):
        write_folder(folder / model, LLAMA)
    _settings(folder, ran)
    return folder


def _bombs(folder: Path) -> None:
    (folder / ".gitignore").write_text("*a*a*a*a*a*a*a*a*b\n" * 100 + "harmless\n" * 20_000)
    (folder / ("a" * 200 + ".py")).write_text("x = 1\n")
    (folder / ".env").write_text("PASSWORD=secret\n")
    for name, target in (("endless.py", "/dev/zero"), ("loop", "."), ("up", "../.."), ("settings.py", ".env")):
        (folder / name).symlink_to(target)


def _settings(folder: Path, ran: Path) -> None:
    settings = {
        "greencode.server.path": str(folder / "greencode-lsp"),
        "greencode.model": str(folder / MODEL),
        "greencode.device": "cuda",
    }
    (folder / ".vscode").mkdir()
    (folder / ".vscode" / "settings.json").write_text(json.dumps(settings))
    (folder / ".nvim.lua").write_text(
        f"require('greencode').setup({{ cmd = {{ '{folder}/greencode-lsp' }}, "
        f"settings = {{ model = '{folder / MODEL}', device = 'cuda' }} }})\n"
    )
    (folder / ".exrc").write_text("lua dofile('.nvim.lua')\n")
    (folder / ".dir-locals.el").write_text(
        f'((nil . ((greencode-command . ("{folder}/greencode-lsp")) (greencode-model . "{folder / MODEL}")\n'
        f'         (greencode-device . "cuda") (exec-path . ("{folder}" "."))\n'
        f'         (eglot-workspace-configuration . (:greencode (:model "{folder / MODEL}"))))))\n'
    )
    (folder / ".envrc").write_text(f"touch {ran}\n")

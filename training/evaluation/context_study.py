"""What other files are worth: held-out cursors with their package's other files there, in each mode of the setting.

    python -m training context --model FILE --limit 300 --languages python --heldout-sources FOLDER --json

The cursors are the frozen held-out ones (training/heldout), a sample by seed, the rest of their line hidden. Of each
package a workspace is made that holds its files and nothing else. In the mode `open` and in `project` four other files
are open, drawn by seed: two of those that the server calls near, two of any others of the same kind in the package.
All goes through the server's own selection, prompt, healing, decoding and filters, as where the user asks; what is
scored is the first line. Each cursor is completed twice in each mode, in turns: cold (the model has read nothing of the
prompt) and warm (all but what one keystroke adds). Joules are the server's meter's, and say their tier.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from greencode_lsp.completion.backend import Backend, load_backend
from greencode_lsp.completion.neighbours import Neighbours, repository
from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.request import Request
from greencode_lsp.energy.detect import detect
from greencode_lsp.energy.meter import Meter
from greencode_lsp.errors import SettingError
from greencode_lsp.prompt.fim import EXTENSIONS
from greencode_lsp.prompt.nearby import near
from greencode_lsp.records import Completion
from greencode_lsp.settings import Context, Settings
from training.data.heldout import HeldOutLine, held_out, read_lines
from training.data.packages import Package
from training.evaluation.metrics import edit_similarity, exact_match

MODES: tuple[Context, ...] = ("file", "open", "project")
OPEN_NEAR, OPEN_OTHERS = 2, 2
RESAMPLES = 2000
WAIT_S = 60.0
"""For the selection: here no user waits."""


Kind = Literal["exact", "prefix", "wrong", "empty"]
"""What a suggestion is beside the rest of the line; `prefix`: right as far as it goes."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One cursor in one mode."""

    exact: float
    kind: Kind
    similarity: float
    chunks: int
    prompt_tokens: int
    cold_ms: float
    warm_ms: float
    cold_j: float
    warm_j: float
    tier: str


class ContextStudy:
    """A model, and the workspaces of the packages."""

    def __init__(self, settings: Settings, folder: Path, seed: int = 0) -> None:
        self.settings, self.folder, self.seed = settings, folder, seed
        self.backend: Backend = load_backend(settings)
        self.meter: Meter = detect(self.backend.engine.device, print, self.backend.checkpoint)
        self._workspaces: dict[str, Path] = {}

    def workspace(self, package: Package) -> Path:
        """Return a folder with the package's files and nothing else."""
        if package.name not in self._workspaces:
            root = self._workspaces[package.name] = self.folder / package.name
            for name in package.files:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(package.root / name, root / name)
        return self._workspaces[package.name]

    def opened(self, file: Path, text: str, root: Path) -> list[Path]:
        """Return the other files that are open beside one."""
        rng = random.Random(f"{self.seed}:{file.relative_to(root)}")
        close = near(str(file), text, [str(root)])
        others = sorted(set(root.rglob(f"*{file.suffix}")) - {file, *close})
        return [
            *rng.sample(close, min(OPEN_NEAR, len(close))),
            *rng.sample(others, min(OPEN_OTHERS, len(others))),
        ]

    def score(self, line: HeldOutLine, package: Package, language: str, mode: Context) -> Scored:
        """Complete at a cursor in one mode, cold and then warm."""
        root = self.workspace(package)
        cursor = line.position
        file = root / line.pointer.file
        settings = replace(self.settings, context=mode)
        request = Request(cursor.document, cursor.offset, language, str(file), invoked=True)
        request = asyncio.run(self._with_others(request, settings, root))
        self._forget()
        cold = self._complete(request, settings)
        warm = self._complete(request, settings)
        text = cold.text.partition("\n")[0]
        return Scored(
            exact=exact_match(text, cursor.rest_of_line),
            kind=kind_of(text, cursor.rest_of_line),
            similarity=edit_similarity(text, cursor.rest_of_line),
            chunks=len(request.others),
            prompt_tokens=cold.work.prompt_tokens,
            cold_ms=cold.elapsed_ms,
            warm_ms=warm.elapsed_ms,
            cold_j=cold.energy.energy_j,
            warm_j=warm.energy.energy_j,
            tier=cold.energy.energy_tier,
        )

    async def _with_others(self, request: Request, settings: Settings, root: Path) -> Request:
        neighbours = Neighbours()
        neighbours.wait_s = WAIT_S
        try:
            for path in self.opened(Path(request.path), request.text, root):
                text = path.read_text(encoding="utf8", errors="replace")
                neighbours.opened(str(path), str(path), lambda text=text: text)  # type: ignore[misc]  # bound now
            others = await neighbours.choose("main", request, settings, [str(root)])
        finally:
            neighbours.close()
        return replace(request, others=others, repository=repository(request.path, [str(root)]))

    def _complete(self, request: Request, settings: Settings) -> Completion:
        control = LiveControl.of(settings, self.backend.manifest, request.language)
        return complete(self.backend, request, control, self.meter)

    def _forget(self) -> None:
        sequences = getattr(self.backend.engine, "sequences", None)
        if sequences is not None:
            sequences.forget()


def kind_of(text: str, reference: str) -> Kind:
    """Return what a line is beside what stands there."""
    if exact_match(text, reference):
        return "exact"
    if not text.strip():
        return "empty"
    return "prefix" if reference.startswith(text.rstrip()) else "wrong"


def summary(scored: Mapping[str, Sequence[Scored]], seed: int = 0) -> dict[str, Any]:
    """Return the means of each mode, and what each gains over `file` on the same cursors, with 95 % intervals."""
    means: dict[str, Any] = {}
    base = scored["file"]
    for mode, rows in scored.items():
        numbers = [name for name, value in asdict(rows[0]).items() if not isinstance(value, str)]
        means[mode] = {name: float(np.mean([getattr(row, name) for row in rows])) for name in numbers}
        means[mode] |= {"cursors": len(rows), "energy_tier": rows[0].tier}
        means[mode]["kinds"] = {kind: sum(row.kind == kind for row in rows) / len(rows) for kind in get_args(Kind)}
        if mode != "file":
            means[mode] |= {
                "gained": sum(new.exact > old.exact for new, old in zip(rows, base, strict=True)),
                "lost": sum(new.exact < old.exact for new, old in zip(rows, base, strict=True)),
                "exact_gain_95": _interval([n.exact - o.exact for n, o in zip(rows, base, strict=True)], seed),
                "similarity_gain_95": _interval(
                    [n.similarity - o.similarity for n, o in zip(rows, base, strict=True)], seed
                ),
            }
    return means


def _interval(differences: Sequence[float], seed: int) -> list[float]:
    """Return the bootstrap interval of a mean."""
    values = np.asarray(differences)
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return [float(low), float(high)]


@contextmanager
def _study(settings: Settings, seed: int) -> Iterator[ContextStudy]:
    with tempfile.TemporaryDirectory() as folder:
        yield ContextStudy(settings, Path(os.path.realpath(folder)), seed)


def run(settings: Settings, sources: Sequence[str], languages: Sequence[str], limit: int, seed: int) -> dict[str, Any]:
    """Return the summary of each language. Raises SettingError where no held-out line is there."""
    results: dict[str, Any] = {"model": settings.model, "preference": settings.preference, "languages": {}}
    with _study(settings, seed) as study:
        results["model"] = study.backend.manifest.name
        for language in languages:
            lines, _ = read_lines(list(sources), language)
            if not lines:
                raise SettingError(f"No held-out line of {language} is here; name folders with --heldout-sources.")
            packages = {package.name: package for package in held_out(list(sources), language)}
            lines = random.Random(seed).sample(lines, min(limit, len(lines)))
            lines = [line for line in lines if line.pointer.file.endswith(f".{EXTENSIONS[language]}")]
            scored: dict[str, list[Scored]] = {mode: [] for mode in MODES}
            for index, line in enumerate(lines):
                for mode in (*MODES[index % 3 :], *MODES[: index % 3]):
                    scored[mode].append(study.score(line, packages[line.pointer.package], language, mode))
            results["languages"][language] = summary(scored, seed)
    return results


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return the table that is printed."""
    lines = [
        f"{results['model']}, preference {results['preference']}",
        "",
        "| language | context | exact | prefix | wrong | empty | edit similarity | gained/lost "
        "| prompt tokens | cold ms | warm ms | cold J |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for language, modes in results["languages"].items():
        for mode, row in modes.items():
            change = f"{row['gained']}/{row['lost']}" if "gained" in row else ""
            kinds = " | ".join(f"{share:.3f}" for share in row["kinds"].values())
            lines.append(
                f"| {language} ({row['cursors']}) | {mode} | {kinds} | {row['similarity']:.3f} | {change} | "
                f"{row['prompt_tokens']:.0f} | {row['cold_ms']:.0f} | {row['warm_ms']:.0f} | {row['cold_j']:.2f} |"
            )
    return "\n".join(lines)


def main(settings: Settings, options: Any) -> None:
    """Run the study that the command line asks for, print it, and write it under `--runs`."""
    results = run(settings, options.heldout_sources, options.languages, options.limit or 300, options.seed)
    folder = options.runs.expanduser() / results["model"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "context.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    print(json.dumps(results) if options.json else to_markdown(results))

"""What README.md says of models and settings, block by block; each from what was measured or declared, or nothing.

A policy is compared with another at the same *measured* agreement on the same completions, or not at all.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from greencode_lsp.engine.checkpoint import Weights
from greencode_lsp.engine.load import GGUF_SUFFIX
from greencode_lsp.errors import SettingError
from greencode_lsp.models import packs
from greencode_lsp.models.catalogue import CATALOGUE
from greencode_lsp.models.manifest import MANIFEST_NAME, CalibrationRow, Manifest, read_manifest
from greencode_lsp.preference import choices
from greencode_lsp.settings import SECTION, SETTINGS, SettingDescription, Settings
from training.evaluation.artefacts import Artefacts
from training.evaluation.readme_speed import energy_study, kept, lossless, precision, speed, typing
from training.markdown import table

SERVED = "fill_in_the_middle"
"""The protocol whose prompt is the server's."""
VSCODE = Path(__file__).parents[2] / "editors" / "vscode" / "package.json"
SAME_FILE = {"with `greencode.precision` `int8`": "greencode-int8.json", "in llama.cpp": "llamacpp.json"}
"""What else is scored on a model's file, and where that is kept."""
COMPARED_AT = 0.98
"""The measured agreement at which policies are compared."""


def models(artefacts: Artefacts) -> str:
    """Return a table of the models whose held-out lines were completed; models asked for other lines stand apart."""
    by_lines: dict[tuple[object, ...], list[tuple[str, dict[str, Any]]]] = {}
    for folder, results in artefacts.read("results.json"):
        asked = tuple((name, row["lines"], row["lines_missing"]) for name, row in sorted(results["languages"].items()))
        by_lines.setdefault(asked, []).append((folder, results))
    return "\n\n".join(_of_same_lines(artefacts, scored) for scored in by_lines.values())


def _of_same_lines(artefacts: Artefacts, scored: Sequence[tuple[str, dict[str, Any]]]) -> str:
    languages = list(scored[0][1]["languages"])
    others = {what: dict(artefacts.read(name)) for what, name in SAME_FILE.items()}
    rows = []
    for folder, results in scored:
        model, size = results["model"], _size(artefacts, folder, results["model"])
        shares: list[float | None] = [_served(results["languages"][language])["exact_match"] for language in languages]
        rows.append([f"`{model}`", size, *map(_percent, shares), _how(artefacts, folder)])
        for what, scores in others.items():
            shares = _of_peer(scores.get(folder), results["languages"])
            if any(share is not None for share in shares):
                rows.append([f"the same file {what}", size, *map(_percent, shares), ""])
    head = ["model", "size", *(f"{language.capitalize()} lines right" for language in languages), "how to get it"]
    asked = scored[0][1]["languages"]
    lines = " and ".join(f"{asked[language]['lines']:,} {language.capitalize()}" for language in languages)
    links = ", ".join(f"[{folder}](training/runs/{folder}/results.md)" for folder, _ in scored)
    return (
        f"{table(head, rows)}\n\nLines right: the share of {lines} held-out lines whose rest is completed exactly as "
        f"written, every layer run, prompt as served. All figures and random samples: {links}."
    )


def _served(language: Mapping[str, Any]) -> Mapping[str, float]:
    served: Mapping[str, float] = language["protocols"][SERVED]["full_depth"]
    return served


def _of_peer(peer: Mapping[str, Any] | None, asked: Mapping[str, Mapping[str, Any]]) -> list[float | None]:
    """Return a peer's share of lines right by language; None where it was asked for other lines, or not at all."""
    scores = {} if peer is None else peer["languages"]
    return [
        float(scores[language]["exact_match"])
        if language in scores and scores[language]["lines"] == row["lines"]
        else None
        for language, row in asked.items()
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _size(artefacts: Artefacts, folder: str, model: str) -> str:
    if folder == artefacts.manifest.name:
        return _megabytes(sum(file.stat().st_size for file in artefacts.checkpoint.iterdir()))
    size = next((m.size_bytes for m in CATALOGUE if model in (m.name, Path(m.file).stem)), None)
    size = size or next((m.size_bytes for m in CATALOGUE if folder in (m.name, m.short)), None)
    return "-" if size is None else _megabytes(size)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"


def _how(artefacts: Artefacts, folder: str) -> str:
    if folder == artefacts.manifest.name:
        return "bundled"
    known = next((m for m in CATALOGUE if folder in (m.name, m.short, Path(m.file).stem)), None)
    return f"`greencode-lsp models pull {known.name}`" if known else "was bundled before"


def bundled(artefacts: Artefacts) -> str:
    """Return what the bundled checkpoint was made of."""
    manifest, stored = artefacts.manifest, Weights(artefacts.checkpoint)
    weights = sum(math.prod(stored.shape(name)) for name in stored.names())
    corpus = manifest.training["corpus"]
    tokens = manifest.training["tokens_seen"] + sum(corpus.get("tokens", {}).values())
    packages = Counter(p["language"] for p in corpus["packages"] if p["split"] == "train")
    counted = " and ".join(f"{count} {language.capitalize()} packages" for language, count in packages.items())
    *early, last = map(str, manifest.exits)
    *most, deepest = early
    named = f"{', '.join(most)} or {deepest}" if most else deepest
    heads = f", each time through a map of its own ({manifest.exit_heads[0]})" if manifest.exit_heads else ""
    return (
        f"`{manifest.name}` has {weights / 1e6:.1f} million parameters and {last} layers, and may exit after {named} "
        f"of them{heads}. It {_origin(manifest)} trained on {tokens / 1e6:.1f} million tokens of {counted}, each "
        "listed in its `greencode.json` with version and licence."
    )


def _origin(manifest: Manifest) -> str:
    start = Path(manifest.training["lite"]["start"])
    return f"goes on from `{start.stem}` (see `NOTICE`), and was" if start.suffix == GGUF_SUFFIX else "was"


def preferences(artefacts: Artefacts) -> str:
    """Return what each preference promises and costs by the installed threshold tables, and what they are of."""
    how = "Tokens kept: of the full model's, by Learn then Test, a one-sided 95 % bound over the draw of the cursors."
    bundled = [_calibration(artefacts, language) for language in artefacts.manifest.calibration]
    parts = [_promises(artefacts.manifest), how, *bundled]
    for path in sorted(packs.folders()[0].glob(f"*/{MANIFEST_NAME}")):
        pack = read_manifest(path.parent)
        assert pack is not None, "a pack has one"
        of = {rows[0].completions for tables in pack.calibration.values() for rows in tables.values()}
        parts += [
            f"`{pack.name}`, by the exit pack that is installed with the server (a shortlist of "
            f"{pack.training['shortlist']:,} rows of its LM head; {min(of):,} completions a language, in packages "
            "that it was not counted on):",
            _promises(pack),
        ]
    return "\n\n".join(parts)


def _promises(manifest: Manifest) -> str:
    chosen = {language: choices(Settings(), manifest, language) for language in manifest.calibration}
    rows = [
        [
            f'`"{of_preference[0].name}"`',
            *(_promise(c.agreement) for c in of_preference),
            *(f"{c.cost_ratio:.3f}" for c in of_preference),
        ]
        for of_preference in zip(*chosen.values(), strict=True)
    ]
    names = [language.capitalize() for language in chosen]
    head = ["preference", *(f"{name}: tokens kept" for name in names), *(f"{name}: decode cost" for name in names)]
    return table(head, rows)


def _promise(agreement: float) -> str:
    return "all" if agreement == 1 else f"at least {100 * agreement:.1f} %"


def _calibration(artefacts: Artefacts, language: str) -> str:
    """Return how a language's table was measured, and what its policies cost where they agree equally often."""
    manifest = artefacts.manifest
    facts = manifest.training["calibration"]["languages"][language]
    policies = manifest.calibration[language]
    served = max(row.completions for row in policies[manifest.exit_policy])
    text = (
        f"{language.capitalize()}: {facts['completions']:,} completions in {len(facts['packages'])} packages; "
        f"{facts['checked_pairs']:,} pairs of one and a threshold run again through the engine, "
        f"{len(facts['mismatches'])} differed."
    )
    costs = {
        name: cost
        for name, rows in policies.items()
        if (cost := cost_at(rows, COMPARED_AT)) is not None and rows[0].completions == served
    }
    if len(costs) < 2:
        return text
    listed = ", ".join(f"`{name}` {cost:.3f}" for name, cost in sorted(costs.items(), key=lambda item: item[1]))
    return (
        f"{text} Decode cost where both keep {100 * COMPARED_AT:g} % of the tokens of "
        f"these completions, linear between thresholds: {listed}."
    )


def cost_at(rows: Sequence[CalibrationRow], agreement: float) -> float | None:
    """Return a policy's cost ratio at a measured agreement, linear between two thresholds; None beyond its table."""
    ordered = sorted(rows, key=lambda row: row.agreement)
    for low, high in pairwise(ordered):
        if low.agreement <= agreement <= high.agreement and low.agreement < high.agreement:
            share = (agreement - low.agreement) / (high.agreement - low.agreement)
            return low.layer_equivalents_ratio + share * (high.layer_equivalents_ratio - low.layer_equivalents_ratio)
    return None


def exits(artefacts: Artefacts) -> str:
    """Return each preference's figures on the held-out lines, of every model that has exits or a shortlist."""
    parts = []
    for _, results in artefacts.read("results.json"):
        layers = results["layers"]
        rows = [
            _exit_row(language, name, figures["protocols"][SERVED][name], layers)
            for language, figures in results["languages"].items()
            for name in ("full_depth", "accuracy", "balanced", "energy")
        ]
        if results["exit_policy"] != "never":
            head = ("language", "preference", "lines right", "edit similarity", "tokens kept (95 % bound)")
            title = f"`{results['model']}`, the same held-out lines, policy `{results['exit_policy']}`:"
            parts.append(f"{title}\n\n{table([*head, 'mean exit layer', 'decode cost'], rows)}")
    return "\n\n".join(parts)


def _exit_row(language: str, name: str, row: dict[str, Any], layers: int) -> list[str]:
    return [
        language.capitalize(),
        name.replace("_", " "),
        _percent(row["exact_match"]),
        f"{row['edit_similarity']:.3f}",
        f"{row['agreement']:.3f} (>= {row['agreement_lower_95']:.3f})",
        f"{row['mean_exit_layer']:.1f} of {layers}",
        f"{row['layer_equivalents_ratio']:.3f}",
    ]


def settings(artefacts: Artefacts) -> str:
    """Return the table of the settings, as they are declared."""
    rows = [[f"`{SECTION}.{one.key}`", f"`{one.default_json}`", one.meaning] for one in SETTINGS.values()]
    return table(("setting", "default", "meaning"), rows)


def setting_values(artefacts: Artefacts) -> str:
    """Return the settings with what each may be and who may choose it, for authors of plugins."""
    manifest = json.loads(VSCODE.read_text(encoding="utf8"))
    properties = manifest["contributes"]["configuration"]["properties"]
    rows = [
        [f"`{SECTION}.{one.key}`", one.kind.wanted, f"`{one.default_json}`", _chosen_by(one, properties)]
        for one in SETTINGS.values()
    ]
    return table(("setting", "value", "default", "may be chosen by"), rows)


def _chosen_by(one: SettingDescription, properties: Mapping[str, Mapping[str, Any]]) -> str:
    described = properties.get(f"{SECTION}.{one.key}")
    if described is None:
        raise SettingError(f"{VSCODE} does not describe {SECTION}.{one.key}; do so first, with its scope.")
    if described["scope"] == "machine":
        return "the user alone"
    return "user, workspace, folder, language" if one.scoped else "user, workspace"


BLOCKS: dict[str, Callable[[Artefacts], str]] = {
    "models": models,
    "bundled": bundled,
    "preferences": preferences,
    "exits": exits,
    "speed": speed,
    "typing": typing,
    "precision": precision,
    "lossless": lossless,
    "kept": kept,
    "energy-study": energy_study,
    "settings": settings,
    "setting-values": setting_values,
}
"""By the name of the marks."""

"""The evaluation's plots, as PNG: quality kept against energy saved, exits by token class, loss per exit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.evaluation.protocols import PREFERENCES
from training.exits.replay import ORACLE

SIZE_INCHES = (6.4, 4.2)
DOTS_PER_INCH = 110
COLOURS = {"agent": "tab:green", "confidence": "tab:orange", "fixed": "tab:blue", ORACLE: "tab:purple"}


def draw(results: dict[str, Any], folder: Path) -> None:
    """Write the plots of the results; the loss only where the manifest states it."""
    for language, row in results["languages"].items():
        _quality(row["protocols"]["fill_in_the_middle"], results, folder / f"quality-{language}.png", language)
        _classes(row["exits_by_class"], folder / f"exits-{language}.png", language)
    if results["loss_per_exit"]:
        _loss(results["loss_per_exit"], folder / "loss.png")


def _figure() -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)


def _quality(rows: dict[str, Any], results: dict[str, Any], path: Path, language: str) -> None:
    figure, axes = _figure()
    points: dict[str, list[tuple[float, float]]] = {}
    for name, row in rows.items():
        policy = name.split(" ")[0]
        if policy in COLOURS:
            saved = 1 - row["layer_equivalents_ratio"]
            points.setdefault(policy, []).append((saved, row["agreement"]))
    for policy, curve in points.items():
        x, y = zip(*sorted(curve), strict=True)
        axes.plot(x, y, marker="o", markersize=4, color=COLOURS[policy], label=policy)
    for name in PREFERENCES:
        place = 1 - rows[name]["layer_equivalents_ratio"], rows[name]["agreement"]
        axes.scatter(*place, marker="*", s=120, color="black", zorder=3)
        axes.annotate(name, place, textcoords="offset points", xytext=(6, 6))
    axes.axhline(0.98, color="grey", linewidth=0.8, linestyle="dotted")
    axes.set_xlabel("decode energy saved against full depth (modelled, 1 - layer-equivalents ratio)")
    axes.set_ylabel("share of a completion's tokens as at full depth")
    axes.set_title(f"{results['model']}, held-out {language} lines, prompt as served")
    axes.legend()
    _save(figure, path)


def _classes(histogram: dict[str, dict[int, int]], path: Path, language: str) -> None:
    figure, axes = _figure()
    layers = sorted({int(layer) for counts in histogram.values() for layer in counts})
    names = list(histogram)[::-1]
    left = [0.0] * len(names)
    for rank, layer in enumerate(layers):
        totals = [sum(histogram[name].values()) for name in names]
        widths = [histogram[name].get(layer, 0) / total for name, total in zip(names, totals, strict=True)]
        shade = 0.15 + 0.75 * (rank + 1) / len(layers)
        axes.barh(names, widths, left=left, color=(0.1, 0.5, 0.2, shade), edgecolor="white", label=f"layer {layer}")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_xlabel("share of the class's tokens, by the layer they exited after")
    axes.set_title(f"Exits by token class, balanced, {language}")
    axes.legend(ncols=len(layers), loc="upper center", bbox_to_anchor=(0.4, -0.15), frameon=False)
    _save(figure, path)


def _loss(exits: dict[str, dict[str, float]], path: Path) -> None:
    figure, axes = _figure()
    layers = sorted(map(int, exits))
    axes.plot(layers, [exits[str(layer)]["loss"] for layer in layers], marker="o", color="tab:blue")
    axes.set_xticks(layers)
    axes.set_xlabel("exit after layer")
    axes.set_ylabel("validation loss, nats per token")
    axes.set_title("Loss per exit")
    _save(figure, path)

"""Small made-up packages and source manifests for the corpus tests."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path

from training.preset import Preset, Stage, load_preset

_WORDS = (
    "alpha",
    "bravo",
    "carrot",
    "delta",
    "ember",
    "falcon",
    "garden",
    "harbor",
    "island",
    "jungle",
    "kettle",
    "orchid",
)


def code(seed: int, functions: int = 12) -> str:
    """Return a Python file that no other seed's file is like."""
    rng = random.Random(seed)
    lines = []
    for number in range(functions):
        a, b, c = (f"{rng.choice(_WORDS)}_{rng.randrange(1000)}" for _ in range(3))
        lines += [f"def {a}_{number}({b}, {c}):", f"    if {b} > {rng.randrange(99)}:", f"        return {c} + {b}"]
        lines += [f"    return [{c} for {c} in range({rng.randrange(99)})]", ""]
    return "\n".join(lines)


def write_package(root: Path, name: str, files: Mapping[str, str]) -> Path:
    """Write `root/name/...`."""
    for path, text in files.items():
        target = root / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf8")
    return root / name


def write_manifest(folder: Path, body: str) -> str:
    """Write a source manifest and return the word by which a preset names it."""
    path = folder / "sources.toml"
    path.write_text(body, encoding="utf8")
    return str(path)


def two_packages(folder: Path, train: Mapping[str, str], validation: Mapping[str, str]) -> str:
    """Write one package to train on, one to validate on, and the manifest that says so."""
    write_package(folder, "learnt", train)
    write_package(folder, "judged", validation)
    return write_manifest(
        folder,
        f"""
[[sources]]
kind = "folder"
path = "{folder}/{{name}}"
validation = ["judged"]
packages = [{{ name = "learnt", version = "1.0", licence = "MIT" }}, {{ name = "judged", licence = "BSD-3-Clause" }}]
""",
    )


def preset_of(*sources: str) -> Preset:
    """Return a preset over `sources` that takes milliseconds to prepare."""
    nano = load_preset("nano")
    corpus = dataclasses.replace(nano.corpus, sources=list(sources), vocab_size=300)
    lite = dataclasses.replace(nano.lite, stages=[Stage(16, 4, 6_400), Stage(32, 2, 6_400)])
    return dataclasses.replace(nano, corpus=corpus, lite=lite)

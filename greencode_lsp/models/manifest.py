"""`greencode.json`: what a checkpoint folder says about itself.

The file is written last, so that its presence means the folder is complete; it holds the SHA-256 of every other
file. A plain Hugging Face folder has none: it works at full depth, with its last layer as the only exit.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError
from greencode_lsp.files import atomic_write, is_plain_name, sha256_of
from greencode_lsp.models.contents import MAX_WEIGHT_BYTES, model_file, read_object

MANIFEST_NAME = "greencode.json"
FORMAT_VERSION = 1
FAMILIES = ("llama", "qwen2", "opt")
"""The model families that the engine runs, by `model_type`."""
MAX_LAYERS = 512
MAX_TEXT = 200
_WEIGHED = ("config.json", "tokenizer.json", "model*.safetensors", "agent.safetensors", "exits.safetensors")
"""What is loaded from a folder with a manifest must be listed in it."""


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """One threshold of one policy, measured free-running through the engine on held-out code."""

    threshold: float
    agreement: float
    """Mean over completions of the share of tokens equal to the full-depth argmax after the same emitted tokens.

    Of a more aggressive row never more than of the rows before it."""
    agreement_lower_95: float
    """Proven lower bound of it, one-sided 95 %, of this row and those before it."""
    mean_exit_layer: float
    layer_equivalents_ratio: float
    early_share: float
    """Share of tokens that exited before the last layer or, by a shortlist's row, did without the full head."""
    exact_match: float | None = None
    """This and the next three: the completion's first line against the rest of the reference line."""
    edit_similarity: float | None = None
    rouge_l: float | None = None
    codebleu: float | None = None
    verified_ratio: float | None = None
    """`layer_equivalents_ratio` of self-speculative decoding with drafts from this row's exits; may exceed 1."""
    completions: int = 0
    """How many the row was measured on; 0 where the manifest is of before this was noted."""
    shortlist: float | None = None
    """Log-odds of the shortlist's likeliest id above which the full head is left out; None: it never is."""
    copies: bool = False
    """Measured, and so served, with tokens copied from text or draft table checked at full depth (`DecodeConfig`)."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parsed `greencode.json`."""

    name: str
    family: str
    exits: tuple[int, ...]
    """Layer counts after which a token may be emitted, ascending; the last is the model's depth."""
    format_version: int = FORMAT_VERSION
    weight_format: str = "as stored"
    """`int8` where the matrices are int8 rows, `int8 and 4 bits` where some are in blocks, else `as stored`."""
    languages: tuple[str, ...] = ()
    fim: dict[str, str] = field(default_factory=dict)
    """Special tokens by role: `suffix`, `prefix`, `end` (end of the middle), `document` (between documents)."""
    exit_policy: str = "never"
    """What `greencode.exitPolicy = auto` means for this checkpoint: the policy that won at equal energy."""
    exit_policies: dict[str, str] = field(default_factory=dict)
    """Language -> what it means there, where another policy won than `exit_policy`."""
    calibration: dict[str, dict[str, tuple[CalibrationRow, ...]]] = field(default_factory=dict)
    """language -> policy -> rows, from the most conservative threshold to the most aggressive."""
    cost_curve: dict[int, float] = field(default_factory=dict)
    """Positions m -> c(m)/c(1): one segment run over m positions against one."""
    head_layers: float = 0.0
    """Cost of the LM head for one position, in layers."""
    shortlist_layers: float = 0.0
    """Cost of the shortlist's rows of it for one position, in layers."""
    exit_heads: tuple[str, ...] = ()
    """Kind of each early exit's own head (models/packs.py); empty where exits have none."""
    exit_head_layers: float = 0.0
    """Cost of reading an exit through one for one position, in layers, the norm included."""
    pack_version: int = 0
    """Of an exit pack's format; 0 where the folder holds the weights themselves."""
    weights: str = ""
    """SHA-256 of the weights that an exit pack belongs to."""
    training: dict[str, Any] = field(default_factory=dict)
    """Recipe, corpus manifest with licences, commit and metrics, for people to read."""
    files: dict[str, str] = field(default_factory=dict)
    """File name -> SHA-256, every file of the folder but this one."""

    @property
    def policies(self) -> str:
        """What `auto` means, for people: the policy, and the languages in which it is another."""
        others = (f"{policy} in {language}" for language, policy in self.exit_policies.items())
        return ", ".join((self.exit_policy, *others))


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return sha256_of(file)


def read_manifest(folder: Path, *, verify: bool = True) -> Manifest | None:
    """Return the folder's manifest, or None for a plain Hugging Face folder.

    Raises ModelNotFoundError where the folder or a listed file is missing and ModelDamagedError where the manifest
    cannot be read or, with `verify`, a file's SHA-256 differs from the one it states.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"There is no model folder {folder}; set greencode.model to one that exists.")
    path = folder / MANIFEST_NAME
    if not os.path.lexists(path):
        return None
    data = read_object(folder, MANIFEST_NAME)
    try:
        calibration = {
            language: {policy: tuple(CalibrationRow(**row) for row in rows) for policy, rows in policies.items()}
            for language, policies in data.pop("calibration", {}).items()
        }
        cost_curve = {int(m): float(cost) for m, cost in data.pop("cost_curve", {}).items()}
        data |= {name: tuple(data.get(name, ())) for name in ("exits", "languages", "exit_heads")}
        manifest = Manifest(calibration=calibration, cost_curve=cost_curve, **data)
        _check_types(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ModelDamagedError(f"{path} cannot be read ({error}); fetch or export the model again.") from error
    if manifest.format_version > FORMAT_VERSION:
        raise ModelDamagedError(f"{path} has format {manifest.format_version}; update greencode-lsp to read it.")
    unlisted = {p.name for pattern in _WEIGHED for p in folder.glob(pattern)} - set(manifest.files)
    if unlisted:
        raise ModelDamagedError(f"{folder} holds {', '.join(sorted(unlisted))}, which {MANIFEST_NAME} does not list.")
    for name, expected in manifest.files.items():
        file = model_file(folder, name, MAX_WEIGHT_BYTES)
        if verify and sha256(file) != expected:
            raise ModelDamagedError(
                f"{folder / name} is damaged (its SHA-256 differs); fetch or export the model again."
            )
    return manifest


def _check_types(manifest: Manifest) -> None:
    """Raise TypeError where a field is not what it must be; JSON promises nothing."""
    if not all(
        isinstance(value, dict) for value in (manifest.files, manifest.fim, manifest.training, manifest.exit_policies)
    ):
        raise TypeError("files, fim, training and exit_policies must be objects")
    if not manifest.exits or not all(type(e) is int and 0 < e <= MAX_LAYERS for e in manifest.exits):
        raise TypeError("exits must be layer counts")
    texts = (manifest.name, manifest.family, manifest.weight_format, manifest.exit_policy, *manifest.languages)
    texts = (*texts, manifest.weights, *manifest.exit_heads)
    texts = (*texts, *manifest.exit_policies, *manifest.exit_policies.values())
    if not all(isinstance(text, str) and len(text) <= MAX_TEXT and text.isprintable() for text in texts):
        raise TypeError("name, family, weight_format, exit_policy and languages must be short texts")
    if not all(isinstance(text, str) for text in (*manifest.fim, *manifest.fim.values(), *manifest.files.values())):
        raise TypeError("fim and files must hold texts")
    if type(manifest.format_version) is not int or type(manifest.pack_version) is not int:
        raise TypeError("format_version and pack_version must be whole numbers")
    rows = [row for policies in manifest.calibration.values() for rows in policies.values() for row in rows]
    numbers = [value for row in rows for value in asdict(row).values() if value is not None]
    numbers += [manifest.head_layers, manifest.shortlist_layers, manifest.exit_head_layers]
    numbers += manifest.cost_curve.values()
    if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
        raise TypeError("calibration and costs must be finite numbers")
    wrong = [name for name in manifest.files if not is_plain_name(name)]
    if wrong:
        raise ValueError(f"it lists {wrong[0]!r}, which is no plain file name")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `greencode.json` last, with the SHA-256 of every other file of the folder."""
    files = {p.name: sha256(p) for p in sorted(folder.iterdir()) if p.is_file() and p.name != MANIFEST_NAME}
    data = asdict(manifest) | {"files": files}
    atomic_write(folder / MANIFEST_NAME, json.dumps(data, indent=1).encode(), mode=0o644)

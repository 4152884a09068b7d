"""The calibration's long loop: cursors shared among processes, a line written per cursor, resumed where it stopped.

One file per process, `<language>-<process>.jsonl`: first a line that says what is measured, then a record per cursor.
A file about something else is not counted; a line half written is dropped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from greencode_lsp.engine.load import load_engine
from greencode_lsp.engine.policy import AGENT_FILE, AgentPolicy
from greencode_lsp.errors import CorpusError
from greencode_lsp.models.manifest import read_manifest
from greencode_lsp.prompt.tokenizer import CodeTokenizer
from training.data.cursors import SourcePosition
from training.evaluation.calibrate import METHOD, LoadedCheckpoint, ThresholdCandidate, measure
from training.exits.probe import PROBE_FILE
from training.exits.replay import Replayer
from training.exits.served import PROMPT_TOKENS
from training.exits.teacher_forcing import DEVICE
from training.whole_files import write_text

REPORT_EVERY_S = 60.0
RECORD_FORMAT = 5
"""Of the files; those of another are measured again."""
LEAST_SHARE = 32
"""Cursors that are worth a process's start."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is measured, and where the records go."""

    checkpoint: Path
    work: Path
    language: str
    new_tokens: int
    candidates: Sequence[ThresholdCandidate]
    cursors: Sequence[SourcePosition]

    @property
    def folder(self) -> Path:
        """Where the records lie."""
        return self.work / "calibration"

    @property
    def key(self) -> str:
        """A digest of all that the records depend on."""
        manifest = read_manifest(self.checkpoint, verify=False)
        known = (
            asdict(replace(manifest, calibration={}, exit_policy="never", exit_policies={}, training={}))
            if manifest
            else {}
        )
        digest = hashlib.sha256(
            json.dumps(
                [
                    RECORD_FORMAT,
                    known,
                    METHOD,
                    PROMPT_TOKENS,
                    self.new_tokens,
                    [asdict(candidate) for candidate in self.candidates],
                ]
            ).encode()
        )
        for cursor in self.cursors:
            digest.update(f"{cursor.offset}\n{cursor.text}".encode())
        return digest.hexdigest()


def load_checkpoint(checkpoint: Path, work: Path, new_tokens: int) -> LoadedCheckpoint:
    """Load a checkpoint, and the probe beside its agent where the work folder has one."""
    engine = load_engine(checkpoint, DEVICE, threads=1)  # another process has the other core
    if (work / PROBE_FILE).exists() and (checkpoint / AGENT_FILE).exists():
        engine.policies["probe"] = AgentPolicy.load(work / PROBE_FILE, engine.exits)
    tokenizer = CodeTokenizer.of(checkpoint)
    return LoadedCheckpoint(engine, tokenizer, Replayer(engine.model, engine.exits), new_tokens)


def run(sweep: Sweep, processes: int) -> list[dict[str, Any]]:
    """Measure what is not measured yet; return all records, in the cursors' order."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    key = sweep.key
    done = {record["cursor"] for record in _records(sweep, key)}
    missing = [i for i in range(len(sweep.cursors)) if i not in done]
    processes = max(1, min(processes, len(missing) // LEAST_SHARE))
    shares = [missing[process::processes] for process in range(processes)]
    if processes == 1:
        _measure_share(sweep, key, 0, shares[0])
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(_measure_share, sweep, key, i, share) for i, share in enumerate(shares)]
            for job in jobs:
                job.result()
    return sorted(_records(sweep, key), key=lambda record: int(record["cursor"]))


def _records(sweep: Sweep, key: str) -> Iterator[dict[str, Any]]:
    for path in sorted(sweep.folder.glob(f"{sweep.language}-*.jsonl")):
        with path.open(encoding="utf8") as file:
            if next(file, "").strip() != key:
                continue
            for line in file:
                if line.endswith("}\n"):
                    yield json.loads(line)


def _measure_share(sweep: Sweep, key: str, process: int, share: Sequence[int]) -> None:
    """Measure some cursors and append a line for each."""
    if not share:
        return
    path = sweep.folder / f"{sweep.language}-{process}.jsonl"
    loaded = load_checkpoint(sweep.checkpoint, sweep.work, sweep.new_tokens)
    start_s = reported_s = time.monotonic()
    try:
        _begin(path, key)
        with path.open("a", encoding="utf8") as file:
            for count, index in enumerate(share, 1):
                if _is_orphan():
                    return
                record = measure(loaded, sweep.cursors[index], index, sweep.candidates)
                file.write(json.dumps(record) + "\n")
                file.flush()
                if time.monotonic() - reported_s > REPORT_EVERY_S:
                    reported_s = time.monotonic()
                    print(f"{sweep.language}: {count} of {len(share)}, {reported_s - start_s:.0f} s", flush=True)
    except OSError as error:
        raise CorpusError(f"The calibration cannot be written to {path}: {error.strerror}.") from error


def _is_orphan() -> bool:
    """Say whether the process that shares the work is gone: a killed calibration lets no one run on."""
    parent = parent_process()
    return parent is not None and not parent.is_alive()


def _begin(path: Path, key: str) -> None:
    """Leave the file with its first line and whole records only; begin it anew where it is about something else."""
    lines = path.read_text(encoding="utf8").splitlines(keepends=True) if path.exists() else []
    if not lines or lines[0].strip() != key:
        lines = [key + "\n"]
    whole = [lines[0], *(line for line in lines[1:] if line.endswith("}\n"))]
    write_text(path, "".join(whole))

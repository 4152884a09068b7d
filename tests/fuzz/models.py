"""Mutated model files: each loads and completes, or is refused in one sentence; no crash, no hang, no growth.

`python -m tests.fuzz.models --count 2000`; a case is a number, and `--first N --count 1` runs it again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from greencode_lsp.completion.backend import load_backend
from greencode_lsp.completion.pipeline import LiveControl, complete
from greencode_lsp.completion.request import Request
from greencode_lsp.errors import GreenCodeError
from greencode_lsp.models.manifest import MANIFEST_NAME, CalibrationRow, Manifest, sha256, write_manifest
from greencode_lsp.settings import Settings
from tests.fakes import meter
from tests.soak.figures import Figure
from tests.tiny_models import CONFIGS, write_folder

CASES = 2000
HANG_S = 60.0
GROWTH_BYTES = 400 << 20
"""Of one case beyond what came before it: a tiny model takes some MB."""
FILES = ("model.safetensors", "config.json", "tokenizer.json", MANIFEST_NAME, "agent.safetensors")
NASTY: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 2**31, 2**32 + 1, 2**63, 10**9, 10**30, 0.5, 1e308, -0.0, float("nan"), float("inf")),
    *(None, True, "", "\0", "a" * 5000, "../../etc/passwd", "/dev/zero", "\x1b[2J", "\ud800", [], {}, [[]], {"": None}),
    [0] * 1000,
)


def make_base(folder: Path, family: str) -> None:
    """Write a whole tiny model with exits, an agent and a calibration."""
    write_folder(folder, CONFIGS[family])
    rng = np.random.default_rng(3)
    shapes = {"w1": (8, 35), "b1": (8,), "w2": (4, 8), "b2": (4,), "w3": (4,), "b3": (1,)}
    agent = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(agent, folder / "agent.safetensors", {"exits": "[1, 2]"})
    row = CalibrationRow(0.0, 0.99, 0.98, 1.5, 0.8, 0.5)
    manifest = Manifest("tiny", family, (1, 2), languages=("python",), calibration={"python": {"agent": (row,)}})
    write_manifest(folder, manifest)


def mutate(folder: Path, rng: random.Random) -> str:
    """Change one file of a model, and say which; the manifest lists the changed file's own hash."""
    name = rng.choice(FILES)
    path = folder / name
    data = path.read_bytes()
    if rng.random() < 0.35:
        changed = mutate_bytes(data, rng)
    elif name.endswith(".json"):
        changed = encode(mutate_json(json.loads(data), rng))
    else:
        changed = mutate_tensors(data, rng)
    path.write_bytes(changed)
    if name != MANIFEST_NAME:
        manifest = json.loads((folder / MANIFEST_NAME).read_text())
        manifest["files"][name] = sha256(path)
        (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return name


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, insert or blank some bytes; often near the beginning, where headers are."""
    at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 64))
    size = rng.choice((1, 1, 2, 8, 100))
    match rng.randrange(5):
        case 0:
            return data[:at] + rng.randbytes(size) + data[at + size :]
        case 1:
            return data[:at]
        case 2:
            return data[: at + size] + data[at:]
        case 3:
            return data[:at] + bytes(size) + data[at + size :]
    return data + rng.randbytes(size)


def mutate_json(value: Any, rng: random.Random) -> Any:
    """Replace, delete or rename one node somewhere inside."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        match rng.randrange(5):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {(k + "x" if k == key else k): v for k, v in value.items()}
        return value | {key: mutate_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], mutate_json(value[at], rng), *value[at + 1 :]]
    return rng.choice(NASTY)


def mutate_tensors(data: bytes, rng: random.Random) -> bytes:
    """Change the header of a safetensors file, or numbers of its tensors."""
    (size,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    if rng.random() < 0.3:
        at = rng.randrange(0, len(body) - 4) & ~3
        number = struct.pack("<f", rng.choice((float("nan"), float("inf"), 3e38, -3e38, 1e-40)))
        return data[: 8 + size] + body[:at] + number + body[at + 4 :]
    if rng.random() < 0.5:  # a lie that fits: another shape of the same size
        one = header[rng.choice([name for name in header if name != "__metadata__"])]
        one["shape"] = rng.choice((one["shape"][::-1], [int(np.prod(one["shape"]))], [1, *one["shape"]]))
    else:
        header = mutate_json(header, rng)
    text = encode(header)
    return struct.pack("<Q", len(text)) + text + body


def encode(value: Any) -> bytes:
    """Return JSON; a lone surrogate stays an escape."""
    return json.dumps(value).encode()


def run_case(number: int, home: Path) -> str:
    """Run one case and return what became of it: `served`, or the error's class."""
    rng = random.Random(number)
    family = rng.choice(tuple(CONFIGS))
    folder = home / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(home / family, folder)
    name = mutate(folder, rng)
    try:
        settings = Settings(
            model=str(folder), device="cpu", precision=rng.choice(("float32", "int8")), max_new_tokens=4
        )
        backend = load_backend(settings)
        control = LiveControl.of(settings, backend.manifest, "python")
        complete(backend, Request("def f(x):\n    return x", 22, "python", invoked=True), control, meter())
    except GreenCodeError as error:
        assert "\n" not in str(error) and str(error), f"case {number} ({name}): {error!r} is no sentence"
        return type(error).__name__
    return "served"


def work(numbers: Sequence[int], home: Path, cache: Path, pipe: Connection) -> None:
    """Run cases in a process of their own, and tell of each as it ends."""
    os.environ["GREENCODE_CACHE"], os.environ["GREENCODE_HOME"] = str(cache), str(cache)
    for number in numbers:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send(("began", number, ""))
        try:
            outcome = run_case(number, home)
        except BaseException as error:  # noqa: BLE001 - a panic of a library is no Exception
            outcome = f"FAILED {type(error).__name__}: {str(error)[:300]}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if grown > GROWTH_BYTES:
            outcome = f"FAILED: grew by {grown >> 20} MB"
        pipe.send(("ended", number, outcome))
    pipe.send(("done", 0, str(_resident_kb())))


def _resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def fuzz(first: int, count: int, home: Path) -> tuple[Counter[str], dict[int, str], list[int]]:
    """Run cases; return how many ended how, the failures by their case, and the resident kB at each process's end."""
    for family in CONFIGS:
        make_base(home / family, family)
    outcomes: Counter[str] = Counter()
    failures: dict[int, str] = {}
    resident: list[int] = []
    left = list(range(first, first + count))
    context = multiprocessing.get_context("spawn")
    while left:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(left, home, home / "cache", there))
        process.start()
        there.close()
        current = left[0]
        while True:
            try:
                word, number, outcome = here.recv() if here.poll(HANG_S) else ("hung", current, "")
            except EOFError:
                word, number, outcome = "died", current, ""
            if word == "began":
                current = number
                continue
            if word == "done":
                left = []
                resident.append(int(outcome))
                break
            left.remove(number)
            if word != "ended":
                process.kill()
                process.join()
                outcome = f"FAILED: {word} ({process.exitcode})"
            outcomes[outcome.split(":")[0]] += 1
            if outcome.startswith("FAILED"):
                failures[number] = outcome
            if word != "ended":
                break
        process.join()
    return outcomes, failures, resident


def run(scale: float, seed: int) -> list[Figure]:
    """Run the cases of a seed for `python -m tests.fuzz models`; the full size is `CASES`."""
    with tempfile.TemporaryDirectory(prefix="greencode-fuzz-") as home:
        outcomes, failures, resident = fuzz((seed - 1) * CASES, max(1, round(CASES * scale)), Path(home))
    ended = [Figure(outcome, count) for outcome, count in outcomes.most_common()]
    return [*ended, Figure("failures", len(failures), 0), Figure("resident at the end, MB", max(resident) / 1000)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a command; 1 where a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.models", description=__doc__)
    parser.add_argument("--count", type=int, default=CASES)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args(argv)
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="greencode-fuzz-") as home:
        outcomes, failures, resident = fuzz(options.first, options.count, Path(home))
    for number, failure in failures.items():
        print(f"case {number}: {failure}")  # noqa: T201 - a command prints
    summary = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{options.count} cases in {time.monotonic() - begun_s:.0f} s: {summary}; resident at the end {resident} kB")  # noqa: T201
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())

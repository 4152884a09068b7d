"""Several editors at one engine: memory, time of an answer, what a killed process costs, rest, and priority."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil

from tests.soak.document import Document, source
from tests.soak.figures import Figure, percentile
from tests.soak.wire import SERVE, Wire, connect

EDITORS = 4
REQUESTS = 200
"""Of one typist."""
KILLS = 5
IDLE_S = 60.0
BUSY_S = 20.0
RESTED_S = 5.0
"""After the minute that is the shortest rest."""
UNSEEN = "csv"
"""A module whose text the engine does not know yet, or not any more."""
STEP = 20_000
"""Turns of the busy loop whose time is taken, about a millisecond."""


def engines_of(wire: Wire) -> list[psutil.Process]:
    """Return the shared engine, where this server has started it."""
    children = psutil.Process(wire.process.pid).children(recursive=True)
    return [child for child in children if "greencode_lsp.host" in child.cmdline()]


def engine_of(wire: Wire) -> psutil.Process:
    """Return the shared engine that the first server has started."""
    (engine,) = engines_of(wire)
    return engine


async def typed_ms(wire: Wire, count: int, uri: str, module: str = "textwrap") -> list[float]:
    """Type through a module's text, asking after each change; return what each answer took."""
    text = source(module, 60_000)
    document = Document(wire, uri, text[:2000], 2000)
    document.open()
    elapsed_ms = []
    for index in range(count):
        document.type(text[2000 + 7 * index : 2007 + 7 * index])
        call = document.request(trigger=1)[1]
        await wire.answer(call)
        elapsed_ms.append(call.elapsed_ms)
    document.close()
    return elapsed_ms


async def _p95_ms(wire: Wire, count: int, uri: str) -> float:
    await typed_ms(wire, 5, uri)
    return percentile(await typed_ms(wire, count, uri), 0.95) or 0.0


async def windows(home: Path, count: int) -> list[Figure]:
    """Open several editors at once; one types."""
    async with connect(home, SERVE, {"greencode": {"model": "bundled", "sharedEngine": False}}) as own:
        own_ms = await _p95_ms(own, count, "file:///own.py")
        own_mb = psutil.Process(own.process.pid).memory_full_info().uss / 1e6
    async with AsyncExitStack() as stack:
        options = {"greencode": {"model": "bundled"}}
        first = await stack.enter_async_context(connect(home, SERVE, options))
        alone_ms = await _p95_ms(first, count, "file:///alone.py")
        wires = [first, *[await stack.enter_async_context(connect(home, SERVE, options)) for _ in range(EDITORS - 1)]]
        for number, wire in enumerate(wires):
            await typed_ms(wire, 5, f"file:///w{number}.py")
        among_ms = await _p95_ms(wires[-1], count, "file:///among.py")
        together = await asyncio.gather(*(typed_ms(w, count, f"file:///t{n}.py") for n, w in enumerate(wires)))
        engine = engine_of(first)
        servers = [psutil.Process(wire.process.pid) for wire in wires]
        answered_by = {wire.statuses[-1]["answered_by"] for wire in wires}
        uss_mb = [process.memory_full_info().uss / 1e6 for process in servers]
        rss_mb = [process.memory_info().rss / 1e6 for process in servers]
        engine_mb = engine.memory_info().rss / 1e6
        kills = await killed(wires, max(1, round(KILLS * count / REQUESTS)))
        for wire in wires:
            await wire.end()
        start_s = time.monotonic()
        left = [p for p in psutil.process_iter(["cmdline"]) if str(home) in _environment(p, "GREENCODE_HOME")]
        psutil.wait_procs([p for p in left if p.pid != os.getpid()], timeout=30)
        ended_s = time.monotonic() - start_s
    return [
        Figure("p95 of an answer, model in the server (ms)", own_ms),
        Figure("p95 of an answer, shared engine, one editor (ms)", alone_ms),
        Figure(f"p95 of an answer, one of {EDITORS} editors types (ms)", among_ms, 1.5 * alone_ms),
        Figure(
            f"p95 of an answer, {EDITORS} type at once (ms)", percentile([ms for one in together for ms in one], 0.95)
        ),
        Figure("editors not answered by the shared engine", len(answered_by - {"shared"}), 0),
        Figure("memory of a server with its own model, own pages (MB)", own_mb),
        Figure("memory of a server at the shared engine, resident (MB)", max(rss_mb), 70),
        Figure("memory of a server at the shared engine, own pages (MB)", max(uss_mb)),
        Figure("memory of the engine, resident (MB)", engine_mb),
        *kills,
        Figure("the engine's end after the last editor's (s)", ended_s, 10),
    ]


def _environment(process: psutil.Process, name: str) -> str:
    try:
        return str(process.environ().get(name, ""))
    except psutil.Error:
        return ""


async def killed(wires: list[Wire], count: int) -> list[Figure]:
    """Kill the engine while somebody types, several times; return how long the next answers took."""
    elapsed_ms = []
    for number in range(count):
        wire = wires[number % len(wires)]
        for process in psutil.process_iter(["cmdline"]):
            is_engine = "greencode_lsp.host" in (process.info["cmdline"] or [])
            if is_engine and _environment(process, "GREENCODE_HOME") == str(wire.home):
                os.kill(process.pid, signal.SIGKILL)
        elapsed_ms += await typed_ms(wire, 1, f"file:///k{number}.py")
    lost = sum(wire.process.returncode is not None for wire in wires)
    return [
        Figure("an answer after the engine was killed, longest (ms)", max(elapsed_ms), 2000),
        Figure("servers lost with it", lost, 0),
    ]


def wakes(process: psutil.Process) -> int:
    """Return how often the threads of a process went to sleep so far; 0 where the system does not say."""
    tasks = Path(f"/proc/{process.pid}/task")
    statuses = [task.joinpath("status").read_text() for task in tasks.iterdir()] if tasks.exists() else []
    return sum(int(line.split()[1]) for one in statuses for line in one.splitlines() if line.startswith("voluntary"))


async def rest(home: Path, scale: float) -> list[Figure]:
    """Let an engine idle with its model, then rest, then be asked again."""
    options = {"greencode": {"model": "bundled", "unloadAfter": 1}}
    async with connect(home, SERVE, options) as wire:
        await typed_ms(wire, 5, "file:///a.py")
        cold_ms = (await typed_ms(wire, 1, "file:///b.py", UNSEEN))[0]
        processes = {"server": psutil.Process(wire.process.pid), "engine": engine_of(wire)}
        await asyncio.sleep(2)
        before = {name: (sum(p.cpu_times()[:2]), wakes(p)) for name, p in processes.items()}
        idle_s = max(2.0, (IDLE_S - 5) * scale)
        await asyncio.sleep(idle_s)
        figures = []
        for name, process in processes.items():
            cpu_s, woken = before[name]
            used_s = sum(process.cpu_times()[:2]) - cpu_s
            figures.append(Figure(f"CPU of the idle {name} (%)", 100 * used_s / idle_s, 0.05))
            figures.append(Figure(f"wake-ups of the idle {name}, a second", (wakes(process) - woken) / idle_s, 0.1))
        if scale < 1:
            return figures
        engine, loaded_mb = processes["engine"], processes["engine"].memory_info().rss / 1e6
        await asyncio.sleep(60 + RESTED_S - idle_s)
        rested_mb = engine.memory_info().rss / 1e6
        again_ms = (await typed_ms(wire, 1, "file:///c.py", UNSEEN))[0]
        await wire.end()
    return [
        *figures,
        Figure("memory of the engine with its model (MB)", loaded_mb),
        Figure("memory of the engine at rest (MB)", rested_mb, 120),
        Figure("an answer in a text not seen before (ms)", cold_ms),
        Figure("the same after the rest (ms)", again_ms),
        Figure("what the model's return took of it (ms)", again_ms - cold_ms, 1000),
    ]


def _loop(seconds: float, times: Any) -> None:
    end_s, steps = time.perf_counter() + seconds, []
    while (start_s := time.perf_counter()) < end_s:
        for _ in range(STEP):
            pass
        steps.append(time.perf_counter() - start_s)
    times.put(percentile(steps, 0.95))


def busy_p95_ms(seconds: float) -> float:
    """Return the p95 of a step of a busy loop at the normal priority, one on each processor."""
    times: Any = multiprocessing.get_context("spawn").Queue()
    loops = [
        multiprocessing.get_context("spawn").Process(target=_loop, args=(seconds, times))
        for _ in range(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    ]
    for loop in loops:
        loop.start()
    result = max(times.get() for _ in loops)
    for loop in loops:
        loop.join()
    return 1000 * float(result)


async def priority(home: Path, scale: float) -> list[Figure]:
    """Keep every processor busy, with and without somebody who types all the time."""
    seconds = max(1.0, BUSY_S * scale)
    quiet_ms = await asyncio.to_thread(busy_p95_ms, seconds)
    async with connect(home, SERVE, {"greencode": {"model": "bundled"}}) as wire:
        await typed_ms(wire, 5, "file:///a.py")
        loops = asyncio.create_task(asyncio.to_thread(busy_p95_ms, seconds))
        while not loops.done():
            await typed_ms(wire, 5, "file:///b.py")
        disturbed_ms = await loops
        await wire.end()
    return [
        Figure("p95 of a busy loop's step, nobody types (ms)", quiet_ms),
        Figure("p95 of a busy loop's step, somebody types (ms)", disturbed_ms, 1.1 * quiet_ms),
    ]


async def run(home: Path, scale: float) -> list[Figure]:
    """Measure all of it; the rest and its memory only at full size, for they take a minute."""
    return [
        *await windows(home, max(5, round(REQUESTS * scale))),
        *await rest(home, scale),
        *await priority(home, scale),
    ]

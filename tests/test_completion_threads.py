"""What the service knows is written by one thread each: the event loop's or the worker's."""

from __future__ import annotations

import threading
from collections import defaultdict
from pathlib import Path

import pytest

from greencode_lsp.completion.jobs import CompletionJobs
from greencode_lsp.completion.model_host import ModelHost
from greencode_lsp.completion.recorder import CompletionRecorder
from greencode_lsp.completion.request import Request
from greencode_lsp.completion.scoped_settings import ScopedSettings
from greencode_lsp.completion.service import CompletionService
from greencode_lsp.completion.status_reporter import StatusReporter
from greencode_lsp.errors import ModelNotFoundError
from greencode_lsp.power import Power
from tests.fakes import backend
from tests.service_bench import Bench

OWNERS = (CompletionService, CompletionJobs, ModelHost, CompletionRecorder, ScopedSettings, StatusReporter, Power)


async def test_every_attribute_is_written_by_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(settings: object) -> object:
        if getattr(settings, "model", "") == "/missing":
            raise ModelNotFoundError("There is no model.")
        return backend()

    bench = Bench(tmp_path, load)  # type: ignore[arg-type]  # a backend of fakes
    writers: dict[str, set[str]] = defaultdict(set)

    def note(self: object, name: str, value: object) -> None:
        writers[f"{type(self).__name__}.{name}"].add(threading.current_thread().name)
        object.__setattr__(self, name, value)

    for owner in OWNERS:
        monkeypatch.setattr(owner, "__setattr__", note)
    bench.service.configure({"preference": 0.25})
    for text in ("for it", "for item in it"):
        await bench.show("a", Request(text, len(text), "python"))
        bench.service.pause(paused=True)
        bench.service.pause(paused=False)
        await bench.settle()
    bench.service.configure({"model": "/missing"})
    await bench.settle()
    assert {"ModelHost.loaded", "ModelHost.failure", "CompletionJobs._last", "StatusReporter.reason"} <= set(writers)
    assert {name: threads for name, threads in writers.items() if len(threads) > 1} == {}
    bench.service.close()

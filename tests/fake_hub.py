"""Hubs for tests: one in memory, one that speaks HTTP on the loopback as huggingface.co does to its client."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from greencode_lsp.errors import HubError
from greencode_lsp.models.hub import HubFile, Repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {"model_type": "llama", "num_hidden_layers": 2}


def plain(**changes: bytes | None) -> dict[str, bytes]:
    """Return the files of a small published model; keyword `a__json` changes `a.json`, None leaves it out."""
    files: dict[str, bytes | None] = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": bytes(range(256)) * 40,
        "README.md": b"# A model",
        "modeling.py": b"raise SystemExit('remote code ran')",
    }
    files |= {name.replace("__", "."): data for name, data in changes.items()}
    return {name: data for name, data in files.items() if data is not None}


def listed(name: str, data: bytes) -> HubFile:
    """Return how a hub lists a file: large ones by SHA-256, small ones as git does."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    is_large = name.endswith((".safetensors", ".gguf"))
    return HubFile(name, len(data), hashlib.sha256(data).hexdigest() if is_large else None, git)


@dataclass
class MemoryHub:
    """A `Hub` of one repository."""

    files: dict[str, bytes]
    commit: str = COMMIT
    cut_at: dict[str, int] = field(default_factory=dict)
    """File -> bytes after which the connection is lost, once."""
    damaged: frozenset[str] = frozenset()
    error: Exception | None = None
    fetched: list[tuple[str, int]] = field(default_factory=list)
    """(file, bytes there already), in order."""

    def look_up(self, name: str, revision: str | None) -> Repository:
        files = (listed(file, data) for file, data in self.files.items())
        return Repository(name, self.commit, tuple(files))

    def fetch(self, repository: Repository, file: HubFile, part: Path) -> None:
        data = self.files[file.name]
        with part.open("ab") as stream:
            start = stream.tell()
            self.fetched.append((file.name, start))
            if self.error is not None and file.name == "model.safetensors":
                raise self.error
            end = self.cut_at.pop(file.name, None)
            stream.write(b"x" * len(data) if file.name in self.damaged else data[start:end])
        if end is not None:
            raise HubError("The hub was lost.")

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.fetched]


@dataclass
class HttpHub:
    """What the loopback server serves and what it was asked."""

    files: dict[str, bytes]
    name: str = "someone/small"
    gated: bool = False
    is_down: bool = False
    cut_at: dict[str, int] = field(default_factory=dict)
    """File -> bytes after which the connection is lost, and the hub is down."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range header), in order."""

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve on a free port of the loopback; yield the endpoint."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        self.asked.append((path, request.headers.get("Range")))
        resolve = f"/{self.name}/resolve/{COMMIT}/"
        if self.is_down:
            self._send(request, 503, b"")
        elif path.startswith(f"/api/models/{self.name}"):
            self._send(request, 200, json.dumps(self._info()).encode())
        elif path.startswith(resolve) and self.gated:
            self._send(request, 403, b"", {"X-Error-Code": "GatedRepo"})
        elif path.startswith(resolve):
            self._send_file(request, path.removeprefix(resolve))
        else:
            self._send(request, 404, b"", {"X-Error-Code": "RepoNotFound"})

    def _info(self) -> dict[str, Any]:
        siblings = []
        for file in (listed(name, data) for name, data in self.files.items()):
            large = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 130}} if file.sha256 else {}
            siblings.append({"rfilename": file.name, "size": file.size, "blobId": file.git_sha1, **large})
        return {"id": self.name, "modelId": self.name, "sha": COMMIT, "siblings": siblings}

    def _send_file(self, request: BaseHTTPRequestHandler, name: str) -> None:
        data, span = self.files[name], request.headers.get("Range")
        start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if span else {}
        end = self.cut_at.pop(name, None)
        self.is_down = end is not None
        self._send(request, 206 if span else 200, data[start:], headers, None if end is None else end - start)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        sent: int | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[:sent])
        request.close_connection = True

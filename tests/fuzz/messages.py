"""Messages by a grammar, right and wrong in every part, to the real server: it answers as before, and does not grow."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.soak.document import Document
from tests.soak.figures import Figure
from tests.soak.wire import Wire, connect, encode, frame

MESSAGES = 100_000
PER_EXAMPLE = 50
FAKE = ("-m", "tests.fake_server")
KNOWN = "    for it"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
NUMBERS = st.sampled_from((0, 1, 2, 5, 99, 10**6, 2**31 - 1, 2**31, -1)) | st.integers(0, 30)
URIS = st.sampled_from(
    (
        *("file:///f.py", "file:///%66.py", "file://localhost/f.py", "file:///C:/f.py", "file:///c%3A/f.py", ""),
        *("untitled:Untitled-1", "vscode-notebook-cell:/n.ipynb#W0", "git:/f.py?{}", "file:///.env", "http://[x", "\0"),
        *("file:///%00", "file:///" + "d" * 300 + "/f.py", "vscode-remote://ssh-remote%2Bh/f.py", "x" * 20_000),
    )
) | st.text(max_size=20)
PLACES = st.fixed_dictionaries({"line": NUMBERS, "character": NUMBERS})
RANGES = st.fixed_dictionaries({"start": PLACES, "end": PLACES})
TEXTS = st.sampled_from(("", "x", "é😀", "\r", "\n", "\r\n", "    for it", "a" * 30_000)) | st.text(max_size=20)
CHANGES = st.fixed_dictionaries({"text": TEXTS}, optional={"range": RANGES, "rangeLength": NUMBERS})
NAMED = st.fixed_dictionaries({"uri": URIS}, optional={"version": st.none() | NUMBERS})
ITEMS = st.fixed_dictionaries(
    {"uri": URIS, "languageId": st.sampled_from(("python", "java", "")), "version": NUMBERS | st.none(), "text": TEXTS}
)
PARAMS: dict[str, st.SearchStrategy[Any]] = {
    "textDocument/didOpen": st.fixed_dictionaries({"textDocument": ITEMS}),
    "textDocument/didChange": st.fixed_dictionaries(
        {"textDocument": NAMED, "contentChanges": st.lists(CHANGES, max_size=4)}
    ),
    "textDocument/didClose": st.fixed_dictionaries({"textDocument": NAMED}),
    "textDocument/inlineCompletion": st.fixed_dictionaries(
        {"textDocument": NAMED, "position": PLACES},
        optional={"context": st.fixed_dictionaries({"triggerKind": st.sampled_from((1, 2, 3, 0))})},
    ),
    "workspace/executeCommand": st.fixed_dictionaries(
        {"command": st.sampled_from(("greencode.accept", "greencode.report", "greencode.setPreference", "none"))},
        optional={"arguments": st.lists(JSON, max_size=3)},
    ),
    "$/cancelRequest": st.fixed_dictionaries({"id": JSON}),
    "$/setTrace": st.fixed_dictionaries({"value": st.sampled_from(("off", "verbose", "x"))}),
    "greencode/none": JSON,
    "initialize": JSON,
    "textDocument/didPartiallyAcceptCompletion": JSON,
    "notebookDocument/didOpen": JSON,
    "workspace/didChangeWorkspaceFolders": JSON,
}
IDS = st.none() | st.lists(st.integers(), max_size=2) | st.booleans() | st.text(max_size=300) | st.integers()


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """A message of the protocol, sometimes with another part in the place of one of its own."""
    method = draw(st.sampled_from(sorted(PARAMS)))
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": draw(PARAMS[method])}
    if draw(st.integers(0, 3)) == 0:
        message["id"] = draw(IDS)
    if draw(st.integers(0, 7)) == 0:
        message[draw(st.sampled_from(("jsonrpc", "method", "params", "result", "error")))] = draw(JSON)
    return message


async def _storm(home: Path, batches: list[list[dict[str, Any]]]) -> list[Figure]:
    spoilt = 0
    async with connect(home, FAKE) as wire:
        process = psutil.Process(wire.process.pid)
        document = Document(wire, "file:///probe.py", KNOWN, len(KNOWN))
        document.open()
        await _is_well(wire, document)
        warm_bytes, slowest_s = 0, 0.0
        for number, batch in enumerate(batches):
            for message in batch:
                wire.raw(frame(encode(message)))
            begun_s = time.perf_counter()
            spoilt += not await _is_well(wire, document)
            slowest_s = max(slowest_s, time.perf_counter() - begun_s)
            if number == len(batches) // 10:
                warm_bytes = process.memory_info().rss
        grown = process.memory_info().rss / warm_bytes - 1 if warm_bytes else 0.0
        code = await wire.end()
    return [
        Figure("messages", sum(map(len, batches))),
        Figure("later requests spoilt", spoilt, 0),
        Figure("sentences shown", len(set(wire.notices))),
        Figure("slowest batch, s", slowest_s),
        Figure("resident memory grown since a tenth, share", grown),
        Figure("exit code", code or 0, 0),
    ]


async def _is_well(wire: Wire, document: Document) -> bool:
    """Ask what is known, once more, under an id that no random message has."""
    call_id = f"probe {len(wire.calls)}"
    call = wire.expect(call_id, "textDocument/inlineCompletion")
    params = document.params(trigger=1)
    wire.raw(frame(encode({"jsonrpc": "2.0", "id": call_id, "method": call.method, "params": params})))
    try:
        await wire.answer(call)
    except (asyncio.TimeoutError, ConnectionError):
        return False
    wire.unexpected.clear()
    return call.error_code is None and call.text == "em in items:"


def run(scale: float, seed_number: int) -> list[Figure]:
    """Send them in batches; the same request is answered after each as before."""
    count = max(2, round(MESSAGES * scale / PER_EXAMPLE))
    batches: list[list[dict[str, Any]]] = []

    @seed(seed_number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(messages(), min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
    def collect(batch: list[dict[str, Any]]) -> None:
        batches.append(batch)

    collect()
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(_storm(Path(home), batches))

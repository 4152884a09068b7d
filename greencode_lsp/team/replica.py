"""One copy of the model in a team's engine: completes one request after another, as an editor's own engine does."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgspec

from greencode_lsp.completion.model import CompletingModel
from greencode_lsp.completion.pipeline import LiveControl
from greencode_lsp.errors import GreenCodeError
from greencode_lsp.host.connection import completed
from greencode_lsp.host.messages import Failed, clean
from greencode_lsp.team.messages import TeamFacts, read, read_asked


class Replica:
    """A loaded model; `complete` is cancelled by cancelling its task."""

    def __init__(self, model: CompletingModel) -> None:
        self._model = model
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="greencode")

    def facts(self) -> bytes:
        """Return what is known of the model, as `TeamFacts`."""
        facts = self._model.facts
        manifest = replace(facts.manifest, training={}, files={})
        return msgspec.json.encode(TeamFacts(manifest, facts.device, facts.precision, facts.layers))

    async def complete(self, body: bytes) -> bytes:
        """Return `Completed` or `Failed` for an `Asked`; nothing of its text is in any error."""
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, body, stop)
        finally:
            stop.set()  # also where nobody waits any more

    def _answer(self, body: bytes, stop: threading.Event) -> bytes:
        try:
            asked = read(body, read_asked)
            settings = asked.settings()
            manifest = self._model.facts.manifest
            control = LiveControl(lambda: settings, stop.is_set, manifest, asked.request.language)
            completion = self._model.complete(asked.request, control, lambda text: None)
            return msgspec.json.encode(completed(0, completion))
        except GreenCodeError as error:
            return msgspec.json.encode(Failed(0, type(error).__name__, clean(str(error))))
        except Exception as error:  # noqa: BLE001 - the boundary: its message may quote the user's text, its type does not
            return msgspec.json.encode(Failed(0, type(error).__name__, ""))

"""`greencode.pullModel`: progress, cancel and what the user is shown; and the list of models that an editor offers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

import psutil
import pytest
import pytest_asyncio
from lsprotocol import types
from pygls.lsp.server import LanguageServer

from greencode_lsp.lsp.pulling import ModelPull
from greencode_lsp.models.catalogue import CATALOGUE
from tests.lsp_session import Editor, session


@dataclass
class FakeProgress:
    """Notes what a client would be shown."""

    tokens: dict[str, Future[None]] = field(default_factory=dict)
    shown: list[Any] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def create_async(self, token: str) -> None:
        self.tokens[token] = Future()

    def begin(self, token: str, value: Any) -> None:
        self.shown.append(value)

    def report(self, token: str, value: Any) -> None:
        self.shown.append(value)
        self.news.set()

    def end(self, token: str, value: Any) -> None:
        self.shown.append(value)


@dataclass
class FakeClient:
    """A server whose client shows progress, or does not."""

    shows_progress: bool = True
    work_done_progress: FakeProgress = field(default_factory=FakeProgress)
    notices: list[str] = field(default_factory=list)

    @property
    def client_capabilities(self) -> types.ClientCapabilities:
        return types.ClientCapabilities(window=types.WindowClientCapabilities(work_done_progress=self.shows_progress))

    def window_show_message(self, params: types.ShowMessageParams) -> None:
        self.notices.append(params.message)


def pull_of(client: FakeClient, program: str) -> ModelPull:
    """Return a pull whose process runs some Python."""
    return ModelPull(cast("LanguageServer", client), (sys.executable, "-c", program))


def lines(*objects: Mapping[str, object]) -> str:
    return f"import sys\nfor line in {[json.dumps(one) for one in objects]!r}: print(line, flush=True)\n"


DONE = {"model": "tiny-instruct", "path": "/models/tiny"}


async def test_progress_follows_the_bytes_and_the_model_is_named_at_the_end() -> None:
    client = FakeClient()
    program = lines({"sentence": "Fetching"}, {"done_bytes": 1_000_000, "total_bytes": 4_000_000}, DONE)
    assert await pull_of(client, program).run("tiny") == "tiny-instruct"
    begin, *reports, end = client.work_done_progress.shown
    assert begin.cancellable and begin.title == "Pulling tiny"
    assert [(one.message, one.percentage) for one in reports[:2]] == [("Fetching", None), ("1 of 4 MB", 25)]
    assert isinstance(end, types.WorkDoneProgressEnd)
    assert client.notices == ["tiny-instruct is here."]


async def test_a_failure_is_reported_in_the_words_of_the_command_line() -> None:
    client = FakeClient()
    assert await pull_of(client, lines({"error": "The disk is full; free some."}) + "sys.exit(1)").run("tiny") is None
    assert client.notices == ["The disk is full; free some."]


async def test_a_process_that_dies_without_a_word_is_reported_too() -> None:
    client = FakeClient()
    assert await pull_of(client, "raise SystemExit(3)").run("tiny") is None
    assert "`greencode-lsp models pull tiny` says why" in client.notices[0]


async def test_a_cancel_kills_what_the_pull_has_started_and_says_nothing() -> None:
    client = FakeClient()
    program = (
        "import json, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(json.dumps({'sentence': str(child.pid)}), flush=True)\n"
        "time.sleep(600)\n"
    )
    pull = pull_of(client, program)
    running = asyncio.create_task(pull.run("tiny"))
    progress = client.work_done_progress
    await asyncio.wait_for(progress.news.wait(), 30)
    child = psutil.Process(int(progress.shown[1].message))
    [token] = progress.tokens.values()
    token.cancel()
    assert await asyncio.wait_for(running, 30) is None
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert client.notices == []


async def test_one_pull_runs_at_a_time() -> None:
    client = FakeClient()
    pull = pull_of(client, 'import time; print(\'{"sentence": "x"}\', flush=True); time.sleep(600)')
    running = asyncio.create_task(pull.run("tiny"))
    await asyncio.wait_for(client.work_done_progress.news.wait(), 30)
    assert await pull.run("other") is None
    assert "already" in client.notices[0]
    pull.stop()
    await asyncio.wait_for(running, 30)


async def test_a_client_without_progress_is_reported_at_the_beginning_and_the_end() -> None:
    client = FakeClient(shows_progress=False)
    assert await pull_of(client, lines(DONE)).run("tiny") == "tiny-instruct"
    assert (len(client.notices), client.work_done_progress.shown) == (2, [])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def editor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Editor]:
    """Return an editor whose server is ready."""
    async with session(tmp_path_factory.mktemp("home")) as running:
        await running.status(state="ready")
        yield running


async def execute(editor: Editor, command: str, *arguments: Any) -> Any:
    return await editor.client.workspace_execute_command_async(types.ExecuteCommandParams(command, list(arguments)))


async def test_an_editor_is_reported_which_models_there_are(editor: Editor) -> None:
    answer = await execute(editor, "greencode.models")
    assert [model["name"] for model in answer["models"]] == [model.name for model in CATALOGUE]
    assert isinstance(answer["advice"], str)


@pytest.mark.parametrize("name", [None, 3, "", "--revision"])
async def test_what_is_no_models_name_is_reported(editor: Editor, name: object) -> None:
    assert await execute(editor, "greencode.pullModel", name) is None
    assert any(f"{name!r} is no model" in sentence for sentence in editor.notices)


async def test_a_pull_over_the_wire_ends_with_the_reason(editor: Editor) -> None:
    """No network in tests: the hub's client is set to stay offline, and there is no package."""
    assert await execute(editor, "greencode.pullModel", "qwen2.5-coder-3b") is None
    assert any("HF_HUB_OFFLINE" in sentence for sentence in editor.notices)

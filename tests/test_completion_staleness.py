"""What is answered from memory is what the model would say now: all that it was computed from is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from greencode_lsp.completion.request import Request
from greencode_lsp.power import Power, PowerState
from tests.fakes import SAMPLE, FakeEngine, backend, tokenizer
from tests.service_bench import Bench

TEXT = "def append_items(items, value):\n    for it"
OTHER = "def append_items_to(items, value):\n    items.append(value)\n"


class Workspace(Bench):
    """A service over an engine that writes down its prompts, and an open file beside the one that is completed."""

    def __init__(self, folder: Path) -> None:
        self.engine = FakeEngine((SAMPLE, TEXT + "em in items:\n"), max_positions=2048)
        self.power: PowerState = "mains"
        super().__init__(folder, lambda settings: backend(self.engine))
        self.service._power = Power(lambda: self.power, clock_s=iter(range(0, 10**9, 100)).__next__)
        self.folder, self.other = folder, OTHER
        self.service.neighbours.wait_s = 30
        self.service.neighbours.opened("other", str(folder / "other.py"), lambda: self.other)

    def configure(self, **settings: str) -> None:
        self.service.configure(settings)
        self.service.configure_folders({str(self.folder): None})

    async def complete(self, text: str = TEXT) -> str:
        request = Request(text, len(text), "python", str(self.folder / "main.py"), invoked=True)
        return (await self.service.complete("main", request)).text


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path)
    workspace.configure(context="open")
    yield workspace
    workspace.service.close()


async def test_the_model_reads_the_open_file_and_the_answer_is_remembered(workspace: Workspace) -> None:
    assert await workspace.complete() == "em in items:"
    assert "items.append(value)" in tokenizer().decode(workspace.engine.prompts[0])
    assert await workspace.complete(TEXT + "em") == " in items:"
    assert len(workspace.engine.prompts) == 1


async def test_a_name_changed_in_another_file_is_computed_anew(workspace: Workspace) -> None:
    await workspace.complete()
    workspace.other = OTHER.replace("append_items_to", "extend_items")
    workspace.service.changed("other", lambda: workspace.other)
    await workspace.complete(TEXT + "em")
    assert len(workspace.engine.prompts) == 2
    assert "extend_items" in tokenizer().decode(workspace.engine.prompts[1])


async def test_another_file_that_is_closed_is_read_no_more(workspace: Workspace) -> None:
    await workspace.complete()
    workspace.service.forget("other")
    await workspace.complete(TEXT + "em")
    assert "items.append" not in tokenizer().decode(workspace.engine.prompts[1])


async def test_without_the_setting_the_other_file_counts_for_nothing(workspace: Workspace) -> None:
    workspace.configure(context="file")
    await workspace.complete()
    workspace.service.changed("other", lambda: "")
    await workspace.complete(TEXT + "em")
    assert len(workspace.engine.prompts) == 1
    assert "items.append" not in tokenizer().decode(workspace.engine.prompts[0])


async def test_what_another_model_said_is_forgotten(workspace: Workspace) -> None:
    await workspace.complete()
    workspace.service.models_changed()
    await workspace.settle()
    await workspace.complete(TEXT + "em")
    assert len(workspace.engine.prompts) == 2


async def test_what_was_said_on_mains_power_is_forgotten_on_battery(workspace: Workspace) -> None:
    workspace.configure(onBattery="energy", context="file")
    await workspace.complete()
    workspace.power = "battery"
    await workspace.complete(TEXT + "em")
    assert len(workspace.engine.prompts) == 2

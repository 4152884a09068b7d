"""Which other files go with a request: by the setting, never forbidden ones, and the same ones while typing."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from greencode_lsp.completion.neighbours import FAR_LINES, Neighbours
from greencode_lsp.completion.request import Request
from greencode_lsp.limits import OTHERS_FRESH_S
from greencode_lsp.prompt.ignore import Rules
from greencode_lsp.settings import Settings

TEXT = "from reader import Reader\nreader = Reader()\nitems = reader.read_items(stream)\n"
CLASS = "class Reader:\n    def read_items(self, stream):\n        return stream.items()\n"
OPEN, PROJECT = Settings(context="open"), Settings(context="project")


class Bench:
    """A workspace, an editor's documents, and what goes with a request in `main.py`."""

    def __init__(self, root: Path, rules: Rules | None = None) -> None:
        self.root = root
        self.texts: dict[str, str] = {}
        self.now_s = 0.0
        self.neighbours = Neighbours(rules, lambda: self.now_s)
        self.neighbours.wait_s = 30
        self.roots = [str(root)]

    def write(self, name: str, text: str = CLASS) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def open(self, name: str, text: str = CLASS, path: str = "") -> None:
        self.texts[name] = text
        self.neighbours.opened(name, path or str(self.root / name), lambda: self.texts[name])

    def change(self, name: str, text: str) -> None:
        self.texts[name] = text
        self.neighbours.touched(name)

    async def chosen(self, settings: Settings, text: str = TEXT, offset: int | None = None, **changes: Any) -> Any:
        path = str(self.root / "main.py")
        request = Request(text, len(text) if offset is None else offset, "python", path)
        request = replace(request, **changes)
        return await self.neighbours.choose("main", request, settings, self.roots)

    async def names(self, settings: Settings, **changes: Any) -> list[str]:
        return [chunk.name for chunk in await self.chosen(settings, **changes)]

    def later(self) -> None:
        self.now_s += OTHERS_FRESH_S + 1


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.write("main.py", TEXT)
    yield bench
    bench.neighbours.close()


async def test_by_default_no_other_file_is_read(bench: Bench) -> None:
    bench.write("reader.py")
    bench.open("open.py")
    assert await bench.chosen(Settings()) == ()


async def test_open_means_the_documents_that_are_open_as_they_are_in_the_editor(bench: Bench) -> None:
    bench.write("reader.py")
    bench.write("open.py", "on the disk")
    bench.open("open.py")
    assert [(chunk.name, chunk.text) for chunk in await bench.chosen(OPEN)] == [("open.py", CLASS.strip("\n"))]


async def test_project_means_those_and_files_near_on_the_disk(bench: Bench) -> None:
    bench.write("reader.py")
    bench.open("open.py", CLASS.replace("items", "rows_of_items"))
    assert sorted(await bench.names(PROJECT)) == ["open.py", "reader.py"]


async def test_a_file_that_is_open_and_near_is_taken_once_from_the_editor(bench: Bench) -> None:
    bench.write("reader.py", CLASS + "    # on the disk\n")
    bench.open("reader.py")
    assert [chunk.text for chunk in await bench.chosen(PROJECT)] == [CLASS.strip("\n")]


async def test_a_document_of_another_kind_is_not_used(bench: Bench) -> None:
    bench.open("reader.java")
    bench.open("reader.md")
    assert await bench.chosen(OPEN) == ()


FORBIDDEN = [
    "ignored.py",
    "build/ignored.py",
    "own.py",
    "excluded/a.py",
    "link.py",
    "hard.py",
    "secrets/service-account.py",
]


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("settings", [OPEN, PROJECT], ids=["open", "near"])
async def test_what_is_ignored_or_secret_is_never_used_under_any_name(
    bench: Bench, name: str, settings: Settings
) -> None:
    bench.write(".gitignore", "ignored.py\nbuild/\n")
    bench.write(".greencodeignore", "own.py\n")
    bench.write(".env", CLASS)
    bench.write("fine.py", CLASS.replace("items", "rows_of_items"))
    if name == "link.py":
        (bench.root / name).symlink_to(bench.root / ".env")
    elif name == "hard.py":
        os.link(bench.root / ".env", bench.root / name)
    elif name != "secrets/service-account.py":
        bench.write(name)
    else:
        bench.write(".ssh/config")
        (bench.root / name).parent.mkdir()
        (bench.root / name).symlink_to(bench.root / ".ssh" / "config")
    if settings is OPEN:
        bench.open(name)
        bench.open("fine.py", CLASS.replace("items", "rows_of_items"))
    module = name.removesuffix(".py").replace("/", ".")
    text = f"import {module}\nimport fine\n{TEXT}"
    assert await bench.names(replace(settings, exclude=("excluded/",)), text=text) == ["fine.py"]


async def test_what_git_ignores_is_never_used(bench: Bench) -> None:
    subprocess.run(["git", "init", "-q", str(bench.root)], check=True)
    bench.write(".git/info/exclude", "reader.py\n")
    bench.write("reader.py")
    assert await bench.chosen(PROJECT) == ()


async def test_nothing_outside_the_workspace_is_used(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "reader.py"
    elsewhere.write_text(CLASS)
    bench.open("elsewhere", path=str(elsewhere))
    (bench.root / "linked.py").symlink_to(elsewhere)
    bench.open("linked.py")
    assert await bench.chosen(PROJECT, text="import linked\n" + TEXT) == ()
    bench.roots = []
    bench.open("open.py")
    assert await bench.chosen(PROJECT) == ()


async def test_the_document_itself_is_not_another_file_under_another_name(bench: Bench) -> None:
    bench.write("main.py", CLASS)
    (bench.root / "again.py").symlink_to(bench.root / "main.py")
    os.link(bench.root / "main.py", bench.root / "hard.py")
    bench.open("again.py")
    bench.open("hard.py")
    assert await bench.chosen(PROJECT) == ()


async def test_files_that_cannot_be_read_are_passed_over(bench: Bench) -> None:
    bench.write("reader.py").write_bytes(b"\xff\xfe class Reader read_items stream")
    bench.write("nul.py", "\0" + CLASS)
    bench.write("fine.py")
    assert await bench.names(PROJECT) == ["fine.py"]


async def test_while_one_types_the_same_chunks_stay(bench: Bench) -> None:
    bench.write("reader.py")
    bench.write("writer.py", "class Writer:\n    def write_rows(self, sink):\n        sink.rows()\n")
    first = await bench.chosen(PROJECT)
    typed = "writer = Writer()\nwriter.write_rows(sink.rows)\n" * 5
    for end in range(0, len(typed), 7):
        bench.now_s += 0.4
        assert await bench.chosen(PROJECT, text=TEXT + typed[:end]) == first


async def test_far_from_there_others_may_be_chosen_and_those_that_stay_stay_first(bench: Bench) -> None:
    bench.write("reader.py")
    bench.write("writer.py", "class Writer:\n    def write_rows(self, sink):\n        sink.rows()\n")
    assert await bench.names(PROJECT) == ["reader.py"]
    far = TEXT + "pass\n" * (FAR_LINES + 1) + "Writer().write_rows(sink.rows)\nreader.read_items(stream)\n"
    assert await bench.names(PROJECT, text=far) == ["reader.py", "writer.py"]


async def test_a_change_of_an_open_document_is_seen_at_once(bench: Bench) -> None:
    bench.open("open.py")
    await bench.chosen(OPEN)
    bench.change("open.py", CLASS.replace("read_items", "read_rows"))
    assert "read_rows" in (await bench.chosen(OPEN))[0].text
    bench.neighbours.closed("open.py")
    assert await bench.chosen(OPEN) == ()


async def test_a_document_that_is_opened_again_is_read_again(bench: Bench) -> None:
    bench.open("open.py")
    await bench.chosen(OPEN)
    bench.neighbours.closed("open.py")
    bench.open("open.py", CLASS.replace("read_items", "read_rows"))
    assert "read_rows" in (await bench.chosen(OPEN))[0].text


async def test_a_change_of_a_file_on_the_disk_is_seen_a_moment_later(bench: Bench) -> None:
    bench.write("reader.py")
    await bench.chosen(PROJECT)
    bench.write("reader.py", CLASS + "    # renamed\n")
    bench.later()
    assert "renamed" in (await bench.chosen(PROJECT))[0].text
    (bench.root / "reader.py").unlink()
    bench.later()
    assert await bench.chosen(PROJECT) == ()


async def test_a_file_that_is_ignored_from_now_on_is_used_no_longer(bench: Bench) -> None:
    bench.write("reader.py")
    assert await bench.names(PROJECT) == ["reader.py"]
    bench.write(".greencodeignore", "reader.py\n")
    bench.later()
    assert await bench.chosen(PROJECT) == ()


async def test_another_setting_is_obeyed_at_once(bench: Bench) -> None:
    bench.write("reader.py")
    assert await bench.names(PROJECT) == ["reader.py"]
    assert await bench.chosen(replace(PROJECT, exclude=("reader.py",))) == ()
    assert await bench.chosen(OPEN) == ()


class SlowRules(Rules):
    """Rules on a disk that does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = threading.Event()

    def denied(self, path: str, roots: Any, exclude: Any) -> str | None:
        self.answer.wait(30)
        return super().denied(path, roots, exclude)


async def test_a_disk_that_does_not_answer_delays_no_request_twice(tmp_path: Path) -> None:
    rules = SlowRules()
    bench = Bench(tmp_path, rules)
    bench.write("reader.py")
    request = Request(TEXT, len(TEXT), "python", str(tmp_path / "main.py"))
    bench.neighbours.wait_s = 0.01
    for _ in range(20):
        assert await bench.neighbours.choose("main", request, PROJECT, bench.roots) == ()
    rules.answer.set()
    bench.neighbours.wait_s = 30
    assert await bench.names(PROJECT) == ["reader.py"]
    bench.neighbours.close()

"""editors/PROTOCOL.md says what the server says: its methods, commands and payloads are compared with the code."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from lsprotocol import types

from greencode_lsp.completion.request import Request
from greencode_lsp.completion.selection import offers
from greencode_lsp.completion.status import Status
from greencode_lsp.energy import report
from greencode_lsp.lsp import answers, copilot, protocol, pulling, session
from greencode_lsp.lsp.requests import Place, make_converter
from greencode_lsp.lsp.server import create_server
from greencode_lsp.preference import Choice
from greencode_lsp.records import Completion, EnergyReading, Step, Work
from greencode_lsp.settings import CLIENT_KEYS, OLD_KEYS, SETTINGS, Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "editors" / "PROTOCOL.md").read_text(encoding="utf8")
NAMED = set(re.findall(r"`([\w$]+(?:[/.][\w/.]+))`", PAGE))
"""Everything that looks like a method, a command or a path of keys."""
STANDARD = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", m).replace("/", "_").lower(): m for m in types.METHOD_TO_TYPES}
"""pygls' name for a method -> the method, `window_show_message` -> `window/showMessage`."""


def example(heading: str) -> Any:
    """Return the first example below a heading."""
    section = PAGE.split(f"\n### `{heading}`\n")[1].split("\n#")[0]
    found = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert found is not None, heading
    return json.loads(found[1])


def shape(value: Any) -> Any:
    """Return the keys of objects, deep; of a list those of its first item."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in list(value)[:1]] if isinstance(value, (list, tuple)) else None


def answer() -> answers.Answer:
    place = Place(Request("", 0, ""), "", 0, 0)
    energy = EnergyReading(0.42, "modelled", ("cpu",))
    return answers.Answer(place, "to_bytes(path)", 1, "utf-16", energy=energy)


def plain(value: object) -> Any:
    return make_converter().unstructure(value)


def full_status() -> Status:
    energy = EnergyReading(1.0, "modelled", ("cpu",))
    steps = (Step(1, 8, 1.0),)
    last = Completion("x", steps, Work(), 20, energy, 1.0, "small-1", "cpu")
    return Status("ready", "small-1", 0.5, last=last, choices=(Choice("balanced", 0.5, 0.8, 0.98),))


@pytest.mark.parametrize(
    ("heading", "said"),
    [
        (protocol.STATUS_METHOD, protocol.status_params(full_status())),
        (copilot.STATUS_METHOD, copilot.status_params(full_status())),
        (pulling.MODELS_COMMAND, offers(Settings(model="bundled"))),
        (types.TEXT_DOCUMENT_INLINE_COMPLETION, plain(answers.inline_list(answer(), session.ACCEPT_COMMAND))),
        (types.TEXT_DOCUMENT_COMPLETION, plain(answers.popup_list(answer(), session.ACCEPT_COMMAND))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_example_has_the_keys_that_are_sent(heading: str, said: Any) -> None:
    assert shape(example(heading)) == shape(said)


def test_every_key_of_the_status_is_explained() -> None:
    status = protocol.status_params(full_status())
    keys = {*status, *(f"last.{key}" for key in status["last"])}
    assert [key for key in sorted(keys) if f"`{key}`" not in PAGE] == []


def test_the_keys_of_a_report_are_those_that_are_sent(home: Path) -> None:
    section = PAGE.split("Keys of the answer:")[1].split("\nJoules end")[0]
    sent = {*report.to_json(report.report(home / "ledger.sqlite")), "html"}
    assert set(re.findall(r"`(\w+)`", section)) == sent


def registered() -> set[str]:
    manager = create_server(lambda notify, report: Mock()).protocol.fm
    return {*manager.features, *manager.commands}


def test_every_method_and_command_that_is_registered_is_named() -> None:
    assert "greencode.accept" in registered()
    assert [name for name in sorted(registered()) if f"`{name}`" not in PAGE] == []


def test_every_method_that_the_server_sends_is_named() -> None:
    sent = set()
    for path in (ROOT / "greencode_lsp" / "lsp").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Attribute):
                sent.add(STANDARD.get(node.attr.removesuffix("_async"), ""))
    sent -= {"", "shutdown", "exit"}  # the server's own methods are called so too
    assert "window/showMessage" in sent
    assert sent - NAMED == set()


def test_every_command_and_method_of_ours_that_is_named_is_there() -> None:
    ours = {name for name in NAMED if re.fullmatch(r"greencode[./][\w.]+", name)}
    settings = {f"greencode.{key}" for key in (*SETTINGS, *OLD_KEYS, *CLIENT_KEYS)}
    assert ours - settings - {protocol.STATUS_METHOD} - registered() == set()


@pytest.mark.parametrize(("probability", "sort_text"), [(answers.SURE, None), (answers.SURE - 0.01, "\uffff")])
def test_a_popup_has_a_doubtful_suggestion_below_other_servers_items(probability: float, sort_text: str | None) -> None:
    (item,) = answers.popup_list(replace(answer(), probability=probability), session.ACCEPT_COMMAND).items
    assert item.sort_text == sort_text

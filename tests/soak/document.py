"""An open document as an editor holds it, and code of the standard library to type into it."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import Any

from tests.soak.wire import Call, Wire

OTHER_LANGUAGE = "java"


def source(module: str, characters: int, start: int = 0) -> str:
    """Return whole lines of a module of the standard library, about so many characters from about `start`."""
    text = inspect.getsource(importlib.import_module(module))
    begin = text.rfind("\n", 0, start) + 1
    return text[begin : text.index("\n", min(begin + characters, len(text) - 1)) + 1]


@dataclass
class Document:
    """Text, version and cursor; every change is sent as it is made."""

    wire: Wire
    uri: str
    text: str
    cursor: int
    """In code points; the texts are ASCII, so in every encoding."""
    version: int = 1
    language: str = "python"

    def open(self) -> None:
        item = {"uri": self.uri, "languageId": self.language, "version": self.version, "text": self.text}
        self.wire.notify("textDocument/didOpen", {"textDocument": item})

    def close(self) -> None:
        self.wire.notify("textDocument/didClose", {"textDocument": {"uri": self.uri}})

    def position(self, offset: int) -> dict[str, int]:
        before = self.text[:offset]
        return {"line": before.count("\n"), "character": len(before) - (before.rfind("\n") + 1)}

    def replace(self, start: int, end: int, text: str) -> None:
        """Replace a span, with the cursor behind it."""
        span = {"start": self.position(start), "end": self.position(end)}
        self.text = self.text[:start] + text + self.text[end:]
        self.cursor, self.version = start + len(text), self.version + 1
        versioned = {"uri": self.uri, "version": self.version}
        change = {"range": span, "text": text}
        self.wire.notify("textDocument/didChange", {"textDocument": versioned, "contentChanges": [change]})

    def type(self, text: str) -> None:
        self.replace(self.cursor, self.cursor, text)

    def params(self, trigger: int = 2) -> dict[str, Any]:
        """Return the parameters of an inline completion at the cursor; trigger 2 is automatic, 1 invoked."""
        document, position = {"uri": self.uri}, self.position(self.cursor)
        return {"textDocument": document, "position": position, "context": {"triggerKind": trigger}}

    def request(self, trigger: int = 2) -> tuple[int, Call]:
        return self.wire.request("textDocument/inlineCompletion", self.params(trigger))


async def settle(wire: Wire) -> None:
    """Wait until what was generated is in the ledger: the worker records it before it begins the next but one.

    The two that are asked for here are in another language, so that a count can leave them out.
    """
    document = Document(wire, "file:///Last.java", "class Last {\n    int last = ", 27, language=OTHER_LANGUAGE)
    document.open()
    await wire.answer(document.request(trigger=1)[1])
    document.type("other")
    await wire.answer(document.request(trigger=1)[1])

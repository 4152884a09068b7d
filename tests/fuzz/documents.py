"""Random edits of a document in lines against one that is a text: no difference, in every encoding."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from lsprotocol import types

from greencode_lsp.lsp.documents import Document
from tests.soak.figures import Figure

EDITS = 60_000
PIECES = (
    "a",
    "self.x",
    "é",
    "😀",
    "\t",
    " ",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "\x0c",
    "\u2028",
    "",
    "中",
    "x = 1\n",
    "\ud83d",
)
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass
class Reference:
    """The protocol's words in the plainest form: find the offsets in the whole text, and splice."""

    text: str
    encoding: str

    def offset(self, position: types.Position) -> int:
        ends = list(LINE_END.finditer(self.text))
        starts = [0, *(end.end() for end in ends)]
        if position.line >= len(starts):
            return len(self.text)
        stop = ends[position.line].start() if position.line < len(ends) else len(self.text)
        offset, units = starts[position.line], 0
        codec, width = CODECS[self.encoding]
        while offset < stop:
            units += len(self.text[offset].encode(codec, "surrogatepass")) // width
            if units > position.character:
                break
            offset += 1
        return offset

    def edit(self, span: types.Range, text: str) -> None:
        start, end = sorted((self.offset(span.start), self.offset(span.end)))
        self.text = self.text[:start] + text + self.text[end:]


def position(dice: random.Random) -> types.Position:
    """Return a place in a small document, or beyond its lines or its end."""
    return types.Position(dice.choice((0, 0, 1, 1, 2, 3, 5, 99)), dice.choice((0, 1, 1, 2, 3, 4, 7, 12, 9999)))


def differences(encoding: str, edits: int, seed: int) -> int:
    """Return after how many of the edits the two documents differ."""
    dice, found, start = random.Random(f"{seed} {encoding}"), 0, "self.x\nold = 1\r\nhello\n"
    document, reference = _begin(start, encoding)
    for _ in range(edits):
        span = types.Range(position(dice), position(dice))
        text = "".join(dice.choice(PIECES) for _ in range(dice.randrange(4)))
        document.apply_change(types.TextDocumentContentChangePartial(range=span, text=text))
        reference.edit(span, text)
        if document.source != reference.text or document.length != len(reference.text):
            found += 1
            document, reference = _begin(start, encoding)
        elif len(reference.text) > 200:
            document, reference = _begin(start, encoding)
    return found


def _begin(text: str, encoding: str) -> tuple[Document, Reference]:
    item = types.TextDocumentItem("file:///a.py", "python", 1, text)
    return Document(item, encoding), Reference(text, encoding)


def run(scale: float, seed: int) -> list[Figure]:
    """Edit; the full size is `EDITS` over the three encodings."""
    edits = max(1, round(EDITS * scale / len(CODECS)))
    found = sum(differences(encoding, edits, seed) for encoding in CODECS)
    return [Figure("edits", edits * len(CODECS)), Figure("differences", found, 0)]

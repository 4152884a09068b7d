"""What a request takes along to the shared engine: other files and branches, in characters that UTF-8 has."""

from __future__ import annotations

from dataclasses import replace

from greencode_lsp.completion.request import Request
from greencode_lsp.host import messages
from greencode_lsp.host.client import spending_of, within_reach
from greencode_lsp.prompt.other_files import Chunk
from greencode_lsp.records import Branch, DecodeConfig
from greencode_lsp.settings import Settings

REQUEST = Request(
    "x = ",
    4,
    "python",
    "/a/b.py",
    invoked=True,
    others=(Chunk("near.py", "tally = 1"),),
    repository="a",
    branch=Branch((1, 2), (b" result", b"\xff")),
)


def test_other_files_and_a_branch_arrive_as_they_were_sent() -> None:
    config = DecodeConfig(threshold=1.0)
    message = messages.Complete(1, within_reach(REQUEST, 448), spending_of(Settings()), config)
    assert messages.decode(messages.encode(message), messages.from_editor) == message
    assert message.request == REQUEST


def test_texts_of_other_files_are_cleaned_of_lone_surrogates() -> None:
    dirty = replace(REQUEST, others=(Chunk("\ud800.py", "a\udfffb"),), repository="\ud800")
    near = within_reach(dirty, 448)
    assert (near.others, near.repository) == ((Chunk("?.py", "a?b"),), "?")
    messages.encode(messages.Complete(1, near, spending_of(Settings()), DecodeConfig(threshold=1.0)))

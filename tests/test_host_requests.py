"""What a request takes along to the shared engine: other files and branches, in characters that UTF-8 has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from greencode_lsp.completion.request import Request
from greencode_lsp.host import messages
from greencode_lsp.host.client import spending_of, within_reach
from greencode_lsp.host.messages import BadMessageError
from greencode_lsp.limits import (
    BRANCH_IDS,
    BRANCH_TEXT_BYTES,
    BRANCH_TEXTS,
    REQUEST_CHUNK_CHARACTERS,
    REQUEST_CHUNKS,
    URI_CHARACTERS,
)
from greencode_lsp.prompt.other_files import Chunk
from greencode_lsp.records import Branch, DecodeConfig
from greencode_lsp.settings import Settings
from greencode_lsp.team.messages import Asked, read, read_asked

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


CHUNK = {"name": "near.py", "text": "tally = 1"}
BEYOND = {
    "ids below none": {"branch": {"token_ids": [-1], "avoided": []}},
    "ids beyond any vocabulary": {"branch": {"token_ids": [2**31], "avoided": []}},
    "too many ids": {"branch": {"token_ids": [1] * (BRANCH_IDS + 1), "avoided": []}},
    "too many texts": {"branch": {"token_ids": [], "avoided": [b"x"] * (BRANCH_TEXTS + 1)}},
    "too long a text": {"branch": {"token_ids": [], "avoided": [b"x" * (BRANCH_TEXT_BYTES + 1)]}},
    "too many other files": {"others": [CHUNK] * (REQUEST_CHUNKS + 1)},
    "too long a chunk": {"others": [CHUNK | {"text": "x" * (REQUEST_CHUNK_CHARACTERS + 1)}]},
    "too long a name": {"others": [CHUNK | {"name": "x" * (URI_CHARACTERS + 1)}]},
    "too long a repository": {"repository": "x" * (URI_CHARACTERS + 1)},
}


@pytest.mark.parametrize("changes", BEYOND.values(), ids=BEYOND.keys())
def test_a_request_beyond_its_bounds_is_none(changes: dict[str, Any]) -> None:
    complete = messages.Complete(1, REQUEST, spending_of(Settings()), DecodeConfig(threshold=1.0))
    sent = msgspec.to_builtins(complete, builtin_types=(bytes,))
    sent["request"] |= changes
    with pytest.raises(BadMessageError):
        messages.decode(msgspec.msgpack.encode(sent), messages.from_editor)
    asked = msgspec.to_builtins(Asked.of(REQUEST, Settings()), builtin_types=(bytes,))
    asked["request"] |= changes
    with pytest.raises(BadMessageError):
        read(msgspec.json.encode(asked), read_asked)


def test_texts_of_other_files_are_cleaned_of_lone_surrogates() -> None:
    dirty = replace(REQUEST, others=(Chunk("\ud800.py", "a\udfffb"),), repository="\ud800")
    near = within_reach(dirty, 448)
    assert (near.others, near.repository) == ((Chunk("?.py", "a?b"),), "?")
    messages.encode(messages.Complete(1, near, spending_of(Settings()), DecodeConfig(threshold=1.0)))

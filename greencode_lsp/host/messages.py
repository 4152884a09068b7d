"""What crosses between an editor's server and the shared engine: MessagePack by msgspec, checked as it is read.

Editor to engine: who it is, which model, requests, live changes, cancels. Engine to editor: the model's facts, the text
so far, what was made with its energy. No code crosses, and nothing that could become some.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from greencode_lsp.completion.request import Request
from greencode_lsp.models.manifest import Manifest
from greencode_lsp.records import Branch, DecodeConfig, EnergyReading, Step, Work

PROTOCOL = 6
"""One more whenever a message changes."""

Name = Annotated[str, Meta(max_length=4096)]
Number = Annotated[int, Meta(ge=0, lt=2**53)]
TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
MAX_IDS = 65_536
TokenIds = Annotated[tuple[TokenId, ...], Meta(max_length=MAX_IDS)]
SomeIds = Annotated[tuple[TokenId, ...], Meta(min_length=1, max_length=MAX_IDS)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages."""


class Hello(Message, frozen=True):
    """The editor's first."""

    protocol: Number
    version: Annotated[str, Meta(max_length=100)]


class Welcome(Message, frozen=True):
    """The engine's first: the same of itself."""

    protocol: Number
    version: Annotated[str, Meta(max_length=100)]


class Refused(Message, frozen=True):
    """The engine's last: one sentence on why it hangs up."""

    sentence: Name


class Drain(Message, frozen=True):
    """Take no new editors, and end with the last of those that are here: a newer engine takes the place."""


class ModelChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings that name a model."""

    model: Name
    device: Annotated[str, Meta(max_length=32)]
    precision: Annotated[str, Meta(max_length=32)]
    latency_target_ms: Annotated[int, Meta(ge=1, le=1_000_000)]


class Open(Message, frozen=True):
    """Have a model ready; the answer is `Opened`, or `Failed`."""

    number: Number
    choice: ModelChoice
    unload_after_s: Annotated[float, Meta(ge=0)] | None
    """Without a request for so long the model may go from memory; None: never."""


class Opened(Message, frozen=True):
    """A model's facts."""

    number: Number
    manifest: Manifest
    device: str
    precision: str
    layers: int
    note: str


class Spending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings that one completion goes by."""

    preference: Annotated[float, Meta(ge=0, le=1)]
    max_new_tokens: Annotated[int, Meta(ge=1, le=1_000_000)]
    max_prompt_tokens: Annotated[int, Meta(ge=1, le=1_000_000)]
    multiline: Literal["auto", "always", "never"]


class Complete(Message, frozen=True):
    """Complete at a cursor; answers are `Said`, at last `Completed` or `Failed`."""

    number: Number
    request: Request
    spending: Spending
    config: DecodeConfig


class Reconfigure(Message, frozen=True):
    """Decode the next tokens of a running completion so."""

    number: Number
    config: DecodeConfig


class Cancel(Message, frozen=True):
    """Stop what is asked under a number; its answer still comes."""

    number: Number


class AuditRequest(Message, frozen=True):
    """Catch a completion up to full depth, when nobody waits; the answer is `Audited`, or `Failed`."""

    number: Number
    prompt_ids: SomeIds
    emitted_ids: SomeIds
    dropped: Annotated[bytes, Meta(max_length=4096)]
    """What the first tokens had to spell again."""


class Said(Message, frozen=True):
    """The text so far."""

    number: Number
    text: str


class Completed(Message, frozen=True):
    """A finished completion."""

    number: Number
    text: str
    steps: tuple[Step, ...]
    work: Work
    layers: int
    energy: EnergyReading
    elapsed_ms: float
    model: str
    device: str
    prompt_ids: TokenIds
    dropped: bytes
    seen_characters: int
    branches: tuple[Branch, ...]


class Audited(Message, frozen=True):
    """What an audit has found and taken; `agreed` is None where it was cut short."""

    number: Number
    agreed: int | None
    tokens: int
    energy: EnergyReading
    elapsed_ms: float


class Failed(Message, frozen=True):
    """What was asked under a number cannot be done; `kind` is an error's class, `sentence` what the user can do."""

    number: Number
    kind: Name
    sentence: str


class Notice(Message, frozen=True):
    """One sentence for the user, on no request of his."""

    sentence: str


FromEditor = Hello | Drain | Open | Complete | Reconfigure | Cancel | AuditRequest
FromEngine = Welcome | Refused | Opened | Said | Completed | Audited | Failed | Notice

from_editor = msgspec.msgpack.Decoder(FromEditor)
from_engine = msgspec.msgpack.Decoder(FromEngine)
_encoder = msgspec.msgpack.Encoder()

Decoded = TypeVar("Decoded")


class BadMessageError(Exception):
    """What the other side has sent is no message; its text quotes nothing of it."""


def clean(text: str) -> str:
    """Return text without lone surrogates: a `?` for each."""
    return text.encode("utf-8", "replace").decode()


def encode(message: Message) -> bytes:
    """Return a message's bytes; its texts hold no lone surrogates, which UTF-8 cannot carry."""
    return _encoder.encode(message)


def decode(data: bytes, decoder: msgspec.msgpack.Decoder[Decoded]) -> Decoded:
    """Return the message; raises BadMessageError for anything else."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as error:
        raise BadMessageError(type(error).__name__) from None

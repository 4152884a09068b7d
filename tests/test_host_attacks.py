"""The shared engine under attack, by a process of the same user: it refuses, and serves the others meanwhile."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greencode_lsp import __version__
from greencode_lsp.completion.request import Request
from greencode_lsp.host import messages
from greencode_lsp.host.connection import Connection
from greencode_lsp.host.messages import BadMessageError, decode, encode, from_editor, from_engine
from greencode_lsp.host.wire import Wire, WireLostError
from greencode_lsp.limits import HOST_CONNECTIONS, HOST_MESSAGE_BYTES, HOST_MESSAGES, SEND_S
from greencode_lsp.records import DecodeConfig
from tests.host_engine import Running, ignore, live, request, running, shared

HELLO = messages.Hello(messages.PROTOCOL, __version__)
CHOICE = messages.ModelChoice("bundled", "cpu", "auto", 800)
SPENDING = messages.Spending(0.5, 32, 448, "auto")


@pytest.fixture
def engine() -> Iterator[Running]:
    with running() as one:
        yield one


def raw(engine: Running) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(engine.meeting.path))
    connection.settimeout(10)
    return connection


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def greeted(engine: Running) -> Wire:
    wire = Wire(raw(engine))
    wire.send(HELLO)
    assert isinstance(wire.receive(from_engine, 10), messages.Welcome)
    return wire


def is_hung_up(connection: socket.socket) -> bool:
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


def serves(engine: Running) -> bool:
    model = shared(engine.meeting)
    made = model.complete(request(), live(), ignore)
    model.close()
    return bool(made.text)


NESTED = b"\x91" * 100_000
ATTACKS = {
    "noise": os.urandom(1000),
    "a length beyond the limit": struct.pack(">I", HOST_MESSAGE_BYTES + 1),
    "the longest length": b"\xff\xff\xff\xff",
    "an empty message": framed(b""),
    "nesting": framed(NESTED),
    "nesting in a field": framed(b"\x83\xa4type\xa5Hello\xa8protocol\x01\xa7version" + NESTED),
    "an unknown kind": framed(b"\x81\xa4type\xa7Execute"),
    "no kind": framed(b"\x80"),
    "an unknown field": framed(b"\x84\xa4type\xa5Hello\xa8protocol\x01\xa7version\xa11\xa4evil\x01"),
    "the engine's own words": framed(encode(messages.Notice("hello"))),
    "a request before the greeting": framed(encode(messages.Drain())),
    "an extension type": framed(b"\xc7\x04\x05abcd"),
    "an array that claims four billion entries": framed(b"\xdd\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_what_is_no_greeting_is_hung_up_on(attack: bytes, engine: Running) -> None:
    with raw(engine) as connection:
        connection.sendall(attack)
        connection.shutdown(socket.SHUT_WR)
        assert is_hung_up(connection)
    assert serves(engine)


LIES = {
    "a preference beyond 1": messages.Complete(2, request(), messages.Spending(2.0, 32, 448, "auto"), DecodeConfig()),
    "an endless budget": messages.Complete(2, request(), messages.Spending(0.5, 10**9, 448, "auto"), DecodeConfig()),
    "a word for multiline": messages.Complete(2, request(), messages.Spending(0.5, 32, 448, "evil"), DecodeConfig()),  # type: ignore[arg-type]  # a lie
    "a name without end": messages.Open(2, messages.ModelChoice("x" * 10_000, "cpu", "auto", 800), None),
    "a number below none": messages.Cancel(-1),
    "ids below none": messages.AuditRequest(2, (-1,), (1,), b""),
    "an audit of nothing": messages.AuditRequest(2, (1,), (), b""),
    "an audit after nothing": messages.AuditRequest(2, (), (1,), b""),
    "too many ids": messages.AuditRequest(2, (1,) * 70_000, (1,), b""),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_values_beyond_their_bounds_are_refused_with_a_sentence(lie: messages.Message, engine: Running) -> None:
    wire = greeted(engine)
    wire.send(lie)
    assert isinstance(wire.receive(from_engine, 10), messages.Refused)
    with pytest.raises(WireLostError):
        wire.receive(from_engine, 10)
    assert serves(engine)


FAILURES = {
    "no model chosen": messages.Complete(2, request(), SPENDING, DecodeConfig()),
    "an audit without a model": messages.AuditRequest(2, (1,), (1,), b""),
}


@pytest.mark.parametrize("message", FAILURES.values(), ids=FAILURES.keys())
def test_what_cannot_be_done_is_answered(message: messages.Message, engine: Running) -> None:
    wire = greeted(engine)
    wire.send(message)
    assert isinstance(wire.receive(from_engine, 10), messages.Failed)
    assert serves(engine)


def opened(engine: Running) -> Wire:
    wire = greeted(engine)
    wire.send(messages.Open(1, CHOICE, None))
    assert isinstance(wire.receive(from_engine, 10), messages.Opened)
    return wire


def test_a_cursor_outside_its_text_is_answered(engine: Running) -> None:
    wire = opened(engine)
    outside = Request("x", 7, "python")
    wire.send(messages.Complete(2, outside, SPENDING, DecodeConfig()))
    answer = wire.receive(from_engine, 10)
    assert isinstance(answer, messages.Failed)
    assert answer.kind == "PositionError"


def test_many_requests_at_once_are_refused(engine: Running) -> None:
    wire = opened(engine)
    slow = Request("slow = ", 7, "python", invoked=True)
    with pytest.raises(WireLostError):
        for number in range(2, 6):
            wire.send(messages.Complete(number, slow, SPENDING, DecodeConfig()))
        while True:
            wire.receive(from_engine, 10)
    assert serves(engine)


def test_a_flood_is_hung_up_on(engine: Running) -> None:
    wire = opened(engine)
    with pytest.raises(WireLostError):
        for number in range(HOST_MESSAGES * 3):
            wire.send(messages.Cancel(number))
        while True:
            wire.receive(from_engine, 10)
    assert serves(engine)


def test_who_does_not_read_holds_nobody_up(engine: Running) -> None:
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    while wire.has_room():
        wire.send(messages.Notice("x" * 1000))
    start_s = time.monotonic()
    Connection(wire, engine.engine).notify("One more.")
    assert time.monotonic() - start_s < SEND_S / 2
    assert is_hung_up(theirs)


def test_half_open_connections_leave_room_for_nobody_but_end_nothing(engine: Running) -> None:
    connections = [raw(engine) for _ in range(HOST_CONNECTIONS + 5)]
    for connection in connections[:-5]:
        connection.sendall(struct.pack(">I", 100) + b"half")
    for connection in connections:
        connection.close()
    assert serves(engine)


def test_a_greeting_that_never_comes_is_not_waited_for(engine: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greencode_lsp.host.connection.HELLO_S", 0.05)
    with raw(engine) as connection:
        assert is_hung_up(connection)


def test_who_has_another_protocol_may_say_no_more_than_drain(engine: Running) -> None:
    wire = Wire(raw(engine))
    wire.send(messages.Hello(messages.PROTOCOL + 1, "999"))
    assert isinstance(wire.receive(from_engine, 10), messages.Welcome)
    wire.send(messages.Open(1, CHOICE, None))
    assert isinstance(wire.receive(from_engine, 10), messages.Refused)


@given(st.binary(max_size=200))
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_bytes_are_a_message_or_a_bad_one(data: bytes) -> None:
    for read in (lambda: decode(data, from_editor), lambda: decode(data, from_engine)):
        try:
            read()
        except BadMessageError as error:
            assert len(str(error)) < 40

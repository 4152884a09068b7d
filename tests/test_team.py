"""A team's engine without Ray: who may ask, how much, what is counted."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from greencode_lsp.completion.request import Request
from greencode_lsp.host.messages import BadMessageError
from greencode_lsp.settings import Settings
from greencode_lsp.team.gate import TRIES, BusyError, Copies, Gate, Reply, bounded
from greencode_lsp.team.messages import COMPLETE_PATH, MODEL_PATH, USAGE_PATH, Asked
from greencode_lsp.team.replica import Replica
from greencode_lsp.team.users import Accounts, User, add_user
from tests.fakes import FakeEngine
from tests.host_engine import ignore, live, local_model, request
from tests.team_gate import BODY, Clock, Counted, a_body, copies


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


def ask(
    gate: Gate,
    token: str = "",
    method: str = "POST",
    path: str = COMPLETE_PATH,
    body: Callable[[], Awaitable[bytes]] = a_body,
) -> Reply:
    return asyncio.run(gate.answer(method, path, f"Bearer {token}", body))


def test_a_users_token_opens_the_gate(users: Path) -> None:
    token, counted = add_user(users, "anna"), Counted()
    reply = ask(Gate(copies(), Accounts(users), counted), token)
    assert reply.status == 200
    assert json.loads(reply.body)["text"] == local_model().complete(request(), live(), ignore).text
    assert counted.rows[0][:2] == ("anna", "completed")


@pytest.mark.parametrize("token", ["", "x", "Bearer", "a" * 10_000, "é"])
def test_nobody_elses_token_does(token: str, users: Path) -> None:
    add_user(users, "anna")
    assert ask(Gate(copies(), Accounts(users), Counted()), token).status == 401


def test_a_body_is_read_of_who_may_ask_alone(users: Path) -> None:
    add_user(users, "anna")

    async def body() -> bytes:
        raise AssertionError

    assert ask(Gate(copies(), Accounts(users), Counted()), "x", body=body).status == 401


def test_a_token_is_kept_nowhere(users: Path) -> None:
    token = add_user(users, "anna")
    assert token not in users.read_text()
    assert users.stat().st_mode & 0o077 == 0


def test_the_first_user_on_a_machine_is_kept_in_a_folder_of_the_users_own(tmp_path: Path) -> None:
    users = tmp_path / "new" / "home" / "users.json"
    add_user(users, "anna")
    assert users.parent.stat().st_mode & 0o077 == 0


def test_a_new_token_takes_the_old_ones_place(users: Path) -> None:
    old, new = add_user(users, "anna"), add_user(users, "anna")
    accounts = Accounts(users)
    assert accounts.user_of(f"Bearer {old}") is None
    assert accounts.user_of(f"Bearer {new}") is not None


def test_a_user_that_is_added_is_known_soon(users: Path) -> None:
    clock = Clock()
    accounts = Accounts(users, clock_s=clock)
    add_user(users, "anna")
    accounts.user_of("")
    token = add_user(users, "ben")
    clock.now_s += 10
    assert accounts.user_of(f"Bearer {token}") is not None


def test_a_users_file_damaged_later_shuts_nobody_out(users: Path) -> None:
    clock, token = Clock(), add_user(users, "anna")
    accounts = Accounts(users, clock_s=clock)
    assert accounts.user_of(f"Bearer {token}") is not None
    users.write_text("{")
    clock.now_s += 10
    assert accounts.user_of(f"Bearer {token}") is not None


def test_a_quota_is_a_users_own_and_fills_again(users: Path) -> None:
    clock = Clock()
    anna, ben = User("anna", "", per_minute=60), User("ben", "", per_minute=60)
    accounts = Accounts(None, clock_s=clock)
    while accounts.wait_s(anna) == 0:
        pass
    assert 0 < accounts.wait_s(anna) <= 1
    assert accounts.wait_s(ben) == 0
    clock.now_s += 1.01
    assert accounts.wait_s(anna) == 0


def test_a_quota_of_joules_is_a_days() -> None:
    clock = Clock()
    user = User("anna", "", energy_j_per_day=10.0)
    accounts = Accounts(None, clock_s=clock)
    accounts.wait_s(user)
    accounts.charge(user, 5, 10.0)
    assert accounts.wait_s(user) > 3600
    clock.now_s += 86400
    assert accounts.wait_s(user) == 0


def test_a_used_up_quota_is_said_with_when_to_come_again(users: Path) -> None:
    token = add_user(users, "anna", per_minute=1)
    gate = Gate(copies(), Accounts(users), Counted())
    assert ask(gate, token).status == 200
    reply = ask(gate, token)
    assert (reply.status, reply.headers[0][0]) == (429, "Retry-After")


def test_what_completions_took_is_reported_to_their_user() -> None:
    gate = Gate(copies(), Accounts(None), Counted())
    ask(gate)
    usage = json.loads(ask(gate, method="GET", path=USAGE_PATH).body)
    assert usage["completions"] == 1
    assert usage["energy_j"] > 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b'{"request": 1}', BODY.replace(b"0.5", b"7.5")])
def test_what_is_no_request_is_refused_before_a_copy_of_the_model_sees_it(body: bytes) -> None:
    engine = FakeEngine()
    assert ask(Gate(copies(engine), Accounts(None), Counted()), body=lambda: a_body(body)).status == 400
    assert not engine.prompts


def test_a_body_without_end_is_not_read_to_it() -> None:
    read = []

    async def chunks() -> Any:
        for number in range(10_000):
            read.append(number)
            yield bytes(1 << 16)

    with pytest.raises(BadMessageError):
        asyncio.run(bounded(chunks()))
    assert len(read) < 200


def test_a_lost_copy_of_the_model_loses_no_request() -> None:
    assert ask(Gate(copies(losses=TRIES - 1), Accounts(None), Counted())).status == 200


def test_no_copy_left_is_said() -> None:
    counted = Counted()
    assert ask(Gate(copies(losses=TRIES), Accounts(None), counted)).status == 503
    assert counted.rows[0][1] == "lost"


def test_no_copy_left_is_said_of_the_models_facts_too() -> None:
    reply = ask(Gate(copies(losses=TRIES), Accounts(None), Counted()), method="GET", path=MODEL_PATH)
    assert (reply.status, reply.headers[0][0]) == (503, "Retry-After")


async def never(body: bytes = b"") -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


def test_an_answer_that_nobody_waits_for_any_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greencode_lsp.team.gate.LONGEST_WAIT_S", 0.01)
    counted, given_up = Counted(), list[bool]()

    async def complete(body: bytes) -> bytes:
        try:
            return await never(body)
        finally:
            given_up.append(True)

    reply = ask(Gate(Copies(complete, never), Accounts(None), counted))
    assert (reply.status, reply.headers[0][0], counted.rows[0][1]) == (503, "Retry-After", "late")
    assert given_up


def test_more_than_the_copies_can_answer_is_refused_at_once() -> None:
    counted = Counted()

    async def complete(body: bytes) -> bytes:
        raise BusyError

    reply = ask(Gate(Copies(complete, never), Accounts(None), counted))
    assert (reply.status, reply.headers[0][0], counted.rows[0][1]) == (503, "Retry-After", "busy")


def test_a_completion_that_is_hung_up_on_is_counted() -> None:
    counted = Counted()

    async def leave() -> None:
        answer = Gate(Copies(never, never), Accounts(None), counted).answer("POST", COMPLETE_PATH, "", a_body)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(answer, 0.01)

    asyncio.run(leave())
    assert counted.rows == [("local", "cancelled", 0)]


def test_an_error_says_nothing_of_the_text() -> None:
    def fail(control: Any, prefix: str) -> None:
        raise KeyError(prefix)

    reply = ask(Gate(copies(FakeEngine(before_token=fail)), Accounts(None), Counted()))
    assert reply.status == 422
    assert b"append_items" not in reply.body


@pytest.mark.parametrize("path", ["/", "/v2/complete", "/v1/complete/../x"])
def test_other_paths_lead_nowhere(path: str) -> None:
    assert ask(Gate(copies(), Accounts(None), Counted()), path=path).status == 404


def test_a_files_folder_stays_at_home() -> None:
    assert b"/home/me" not in BODY
    assert b"code.py" in BODY


def test_who_hangs_up_stops_the_completion() -> None:
    seen = threading.Event()

    def wait(control: Any, prefix: str) -> None:
        while not control.cancelled():
            time.sleep(0.001)
        seen.set()

    async def leave() -> None:
        task = asyncio.create_task(Replica(local_model(FakeEngine(before_token=wait))).complete(BODY))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert seen.wait(10)


def test_a_long_document_crosses_in_part() -> None:
    whole = Request("x = 1\n" * 100_000, 300_000, "python")
    assert len(msgspec.json.encode(Asked.of(whole, replace(Settings(), max_prompt_tokens=100)))) < 200_000
